"""The devices of a gateway: Modbus TCP servers with registers, and the ways in which they fail.

Source: MODBUS Messaging on TCP/IP Implementation Guide V1.0b, and functions 3, 4, 6 and 16 of the
application protocol V1.1b3; any other function is answered by exception 1.
"""

from __future__ import annotations

import errno
import random
import struct
from collections.abc import Callable
from typing import Protocol

from motelet.loop import READ, WRITE
from motelet.tools.simulate.schedule import MS, Schedule

SETPOINT, COMMAND = 0, 1
"""Holding registers of a device."""
REGISTERS = 32
_HEADER = struct.Struct(">HHHBB")  # transaction, protocol, length, unit, function
_PAIR = struct.Struct(">HH")
_FAILURE, _BUSY = 4, 6
"""Exceptions: server device failure, server device busy."""


class Watcher(Protocol):
    """Who is told of what a gateway does to a device."""

    def written(self, unit: Unit, register: int, value: int) -> None:
        """`value` is about to be written."""


class Unit:
    """One device. `inputs[0]` is what it measures; it goes up only, and stays when the device restarts."""

    def __init__(self, name: str, watcher: Watcher) -> None:
        self.name = name
        self.resets = 0
        self.inputs = [0] * REGISTERS
        self.holding = [0] * REGISTERS
        self._watcher = watcher

    def measure(self) -> None:
        """What it measures has gone up."""
        self.inputs[0] += 1

    def restart(self) -> None:
        """Its power was away: what was written to it is forgotten."""
        self.resets += 1
        self.holding = [0] * REGISTERS

    def answer(self, function: int, body: bytes) -> bytes:
        """The PDU that answers a request."""
        start, word = _PAIR.unpack_from(body)
        if function in (3, 4) and 0 < word <= REGISTERS - start:
            registers = self.holding if function == 3 else self.inputs
            return struct.pack(f">BB{word}H", function, 2 * word, *registers[start : start + word])
        if function == 6 and start < REGISTERS:
            self._write(start, word)
            return bytes((function,)) + body[:4]
        if function == 16 and 0 < word <= REGISTERS - start and len(body) == 5 + 2 * word:
            for at, value in enumerate(struct.unpack_from(f">{word}H", body, 5)):
                self._write(start + at, value)
            return bytes((function,)) + body[:4]
        return bytes((function | 0x80, 2 if function in (3, 4, 6, 16) else 1))

    def _write(self, register: int, value: int) -> None:
        self._watcher.written(self, register, value)
        self.holding[register] = value


class Endpoint:
    """A Modbus server with the units behind it. Faults last until a moment of the schedule.

    silent      requests are taken and nothing comes back; what is asked for may have been done
    closed      connections are refused
    busy        every answer is an exception that means "ask later"
    failing     every answer is an exception that means "could not do it"
    garbled     answers are not what was asked for
    """

    def __init__(self, schedule: Schedule, actor: int, rng: random.Random) -> None:
        self.units: dict[int, Unit] = {}
        self.silent_until = self.closed_until = self.garbled_until = 0
        self.busy_until = self.failing_until = 0
        self.streams: list[FieldStream] = []
        self.schedule = schedule
        self.actor = actor
        self.rng = rng

    def connect(self, stream: FieldStream) -> None:
        """A board's first packet has come."""
        if self.closed_until > self.schedule.now:
            stream.broken(errno.ECONNREFUSED)
        elif not stream.closed:
            # A board that lost its power closed nothing.
            self.streams = [each for each in self.streams if not each.closed]
            self.streams.append(stream)
            stream.events |= WRITE
            stream.wake()

    def reset(self) -> None:
        """Every connection breaks."""
        for stream in self.streams:
            stream.broken(errno.ECONNRESET)
        self.streams.clear()

    def request(self, stream: FieldStream, frame: bytes) -> None:
        """A whole request has come."""
        now = self.schedule.now
        transaction, _, _, number, function = _HEADER.unpack_from(frame)
        unit = self.units.get(number)
        silent = self.silent_until > now
        if stream.closed or unit is None or (silent and self.rng.random() < 0.5):
            return
        if max(self.busy_until, self.failing_until) > now:
            pdu = bytes((function | 0x80, _BUSY if self.busy_until > now else _FAILURE))
        else:
            pdu = unit.answer(function, frame[_HEADER.size :])
        if silent:
            return  # it was done, and the answer is lost
        if self.garbled_until > now:
            transaction ^= self.rng.choice((0, 1))
            pdu = pdu[: self.rng.randrange(1, len(pdu) + 1)]
        answer = _HEADER.pack(transaction, 0, 1 + len(pdu), number, pdu[0]) + pdu[1:]
        self.schedule.at(now + self.delay(), self.actor, stream.received, answer)

    def delay(self) -> int:
        return 2 * MS + int(self.rng.random() * 4 * MS)


class FieldStream:
    """A board's connection to an endpoint, a stream of ports/README.md."""

    def __init__(self, endpoint: Endpoint, wake: Callable[[], None], clock: Callable[[], int]) -> None:
        self.events = 0
        self.closed = False
        self.dead = False
        self.wake = wake
        self._endpoint = endpoint
        self._clock = clock
        self._sent = bytearray()
        self._data = bytearray()
        self._error = 0
        endpoint.schedule.at(clock() + endpoint.delay(), endpoint.actor, endpoint.connect, self)

    def readinto(self, buf: bytearray | memoryview, n: int = -1) -> int | None:
        self._check()
        data = self._data
        if not data:
            return None
        count = min(len(data), len(buf) if n < 0 else n)
        buf[:count] = data[:count]
        del data[:count]
        if not data:
            self.events &= ~READ
        return count

    def write(self, buf: bytes | bytearray | memoryview, off: int, n: int) -> int | None:
        self._check()
        if not self.events & WRITE:
            return None
        sent = self._sent
        sent += memoryview(buf)[off : off + n]
        while len(sent) > _HEADER.size:
            end = 6 + (sent[4] << 8 | sent[5])
            if len(sent) < end:
                break
            endpoint = self._endpoint
            frame = bytes(sent[:end])
            del sent[:end]
            endpoint.schedule.at(
                self._clock() + endpoint.delay(), endpoint.actor, endpoint.request, self, frame
            )
        return n

    def close(self) -> None:
        if self.closed:
            raise RuntimeError("a stream was closed twice")
        self.closed = True
        if self in self._endpoint.streams:
            self._endpoint.streams.remove(self)

    def received(self, data: bytes) -> None:
        if not self.closed and not self._error:
            self._data += data
            self.events |= READ
            self.wake()

    def broken(self, number: int) -> None:
        if not self.closed:
            self._error = number
            self.events = READ | WRITE
            self.wake()

    def _check(self) -> None:
        if self._error:
            raise OSError(self._error, errno.errorcode[self._error])
