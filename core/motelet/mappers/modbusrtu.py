"""Modbus RTU: what a serial line does differently from `modbus`, imported where there is one.

Source: MODBUS over Serial Line V1.02 (framing, silence, CRC-16). Line noise is passed over until address,
function, length and CRC fit. An answer ends with its length, not with silence; silence is kept before the
next request only, by a clock of microseconds, for at 115,200 baud a millisecond is a fifth of an exchange.
"""

from micropython import const

from motelet.loop import READ
from motelet.mappers import modbus

_HEADER = const(6)  # as in modbus: where an RTU frame begins in tx
_SILENCE_US = const(1750)  # between two frames, of a line faster than 19,200 baud
_SILENCE_BITS = const(38500000)  # the same of a slower one: 3.5 characters of 11 bits, times a million
_NAP_US = const(1000)  # less than this is slept away: the loop's own steps are of a millisecond

# CRC-16 of each nibble, polynomial 0xA001 (reflected).
_CRC = (
    0x0000, 0xCC01, 0xD801, 0x1400, 0xF001, 0x3C00, 0x2800, 0xE401,
    0xA001, 0x6C00, 0x7800, 0xB401, 0x5000, 0x9C01, 0x8801, 0x4400,
)  # fmt: skip


def crc16(buf, start, end):
    """CRC-16 of buf[start:end]; 0 over a whole RTU frame. Its low byte is sent first."""
    crc = 0xFFFF
    for i in range(start, end):
        crc ^= buf[i]
        crc = crc >> 4 ^ _CRC[crc & 15]
        crc = crc >> 4 ^ _CRC[crc & 15]
    return crc


class Driver(modbus.Driver):
    """One serial line. `key` is (path, baud rate, parity, stop bits)."""

    serial = True

    def __init__(self, port, loop, key):
        modbus.Driver.__init__(self, port, loop, key)
        self._gap_us = max(_SILENCE_BITS // key[1], _SILENCE_US)
        self._heard = self._clock.ticks_add(self._clock.ticks_us(), -self._gap_us)

    def begin(self, prop, data):
        """Begin to write `data`, or to read if it is None."""
        modbus.Driver.begin(self, prop, data)
        tx = self.tx
        end = self._end
        crc = crc16(tx, _HEADER, end)
        tx[end] = crc & 255
        tx[end + 1] = crc >> 8
        self._end = end + 2
        self._off = _HEADER

    def _open(self):
        path, baud_rate, parity, stop_bits = self._key
        self._stream = self._port.serial(path, baud_rate, parity, stop_bits)
        self._watch(READ)

    def _send(self):
        self._n = 0  # what came before the request is no answer to it
        clock = self._clock
        silent = clock.ticks_diff(clock.ticks_us(), self._heard)
        if 0 <= silent < self._gap_us:  # below 0: so long ago that the ticks have gone round
            left = self._gap_us - silent
            if left >= _NAP_US:
                self._until = clock.ticks_add(clock.ticks_ms(), left // 1000)
                return
            clock.sleep_us(left)
        self._until = self._deadline
        modbus.Driver._send(self)

    def _take(self):
        """Look for the answer anywhere in rx: noise may come before it."""
        self._heard = self._clock.ticks_us()
        rx = self.rx
        if self._prop and self._off == self._end:
            for at in range(1, self._n - 3):
                if rx[at - 1] == self.tx[6]:
                    end = at + self._size(rx[at])
                    if end + 2 <= self._n and crc16(rx, at - 1, end + 2) == 0:
                        return self._answer(at, end)
        return None
