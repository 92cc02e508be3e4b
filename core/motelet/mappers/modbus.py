"""Modbus, TCP and RTU: a master of our own, for a library's costs a board its heap, and garbage at each poll.

Sources: MODBUS Application Protocol Specification V1.1b3 (PDUs, exceptions), MODBUS Messaging on TCP/IP
Implementation Guide V1.0b (MBAP header), MODBUS over Serial Line V1.02 (RTU framing, silence, CRC-16).
Functions 1, 2, 3, 4 read, 5, 6 write one coil or register, 15, 16 several. One request at a time.

How types lie in registers:
    INT              1, 2, 4 or 8 bytes; unsigned, as in KubeEdge, unless the property has a negative minimum
    FLOAT, DOUBLE    two registers are an IEEE 754 single, four a double; one is an integer to be scaled
    BOOLEAN          true is any bit set; 1 is written
    STRING, BYTES    limit registers, filled up with NUL; those at the end are not part of a STRING
With a scale an INT is rounded to the nearest, where KubeEdge's mapper cuts off: 29 written must read as 29.

What is not ours is not believed: a frame with another transaction id or unit is a late answer and is dropped,
a length the buffer has no room for closes the connection. An exception means that the device is there; only
those by which it, or a gateway, says that it cannot answer now count as silence.

This is Modbus TCP and what a serial line (`modbusrtu`) has in common with it: what polling needs. The rest is
borrowed: `modbusload` checks and packs a configuration, `modbusrare` writes and explains.
"""

from struct import unpack

from micropython import const

from motelet import borrow
from motelet.loop import READ, WRITE
from motelet.mappers import CHANGED, DOWN, REFUSED, SAME, SILENT

# A visitor is the tuple of function, offset, limit, size in bytes, order (the bits below), multiply, divide,
# and where in device.raw its bytes lie. device.config is unit << 16 | timeout in ms.
_SWAP = const(1)
_REGISTER_SWAP = const(2)
_SIGNED = const(4)

# Driver.error: None; up to 255 the exception of the device; one of these; the milliseconds that were waited
# in vain, negative; or the text of an OSError.
_CLOSED = const(256)
_MALFORMED = const(257)

_READS = const(4)  # functions up to this one read
_KNOWN = const(4096)  # Property.flags: it has been read
_HEADER = const(6)  # bytes of a TCP frame before the unit, which is where an RTU frame begins
_SILENT_CLOSE = const(2)  # timeouts in a row after which a TCP connection is taken for dead
_READS_MAX = const(16)  # pieces taken in one step, so that a peer that never ends does not stop the loop


def ordered(data, order):
    """A copy of data with bytes and registers exchanged as `order` says; applied twice it is data again."""
    n = len(data)
    out = bytearray(data)
    if not n & 1:
        for i in range(n):
            j = n - 2 - i + 2 * (i & 1) if order & _REGISTER_SWAP else i
            out[i] = data[j ^ (order & _SWAP)]
    return bytes(out)


class Driver:
    """One bus: a TCP endpoint. The interface is that of motelet.mappers.

    `key` is (host, port). The buffers `tx` and `rx` are those that the attached properties need, not those
    that Modbus allows. `error` is what `modbusrare.reason` makes a text of.
    """

    serial = False

    def __init__(self, port, loop, key):
        self.error = self.task = self._stream = self._prop = None  # _prop is what is under way
        self._port = port
        self._loop = loop
        self._clock = loop.clock
        self._key = key
        self._until = self._deadline = loop.clock.ticks_ms()
        self._fresh = True  # nothing was ever written to this stream
        self._silent = self._events = self._n = self._off = self._end = 0
        self.tx = bytearray(16)
        self.rx = bytearray(32)
        self._piece = bytearray(32)  # streams read to the start of a buffer, and slices would be garbage

    def seldom(self):
        """What is borrowed of it."""
        return borrow("mappers.modbusrare")

    def begin(self, prop, data):
        """Begin to write `data`, or to read if it is None."""
        tx = self.tx
        function, offset, word, _, _, _, _, _ = prop.spec.visitor
        end = 12
        if data:
            function, word, end = self.seldom().request(tx, prop, data)
        tx[1] = tx[1] + 1 & 255
        if not tx[1]:
            tx[0] = tx[0] + 1 & 255
        tx[5] = end - _HEADER
        tx[6] = prop.device.config >> 16
        tx[7] = function
        tx[8] = offset >> 8
        tx[9] = offset & 255
        tx[10] = word >> 8
        tx[11] = word & 255
        self._off = 0
        self._end = end
        self._prop = prop
        self._arm()

    def wait(self):
        """Milliseconds until step() must be called again."""
        return max(self._clock.ticks_diff(self._until, self._clock.ticks_ms()), 0)

    def step(self):
        """Go on; the result is that of motelet.mappers."""
        try:
            if self._stream is None:
                if self._prop is None:
                    return None
                self._fresh = True
                self._n = self._silent = 0
                self._open()
            result = self._receive()
            if result is not None or self._prop is None:
                return result
            if self._off < self._end:
                self._send()
        except (OSError, ValueError) as error:  # ValueError: a speed this port does not have
            return self._broken(str(error))
        if self._clock.ticks_diff(self._deadline, self._clock.ticks_ms()) > 0:
            return None
        self.error = -(self._prop.device.config & 65535)
        self._silent += 1
        if not self.serial and (self._fresh or self._silent >= _SILENT_CLOSE):
            return self._broken(self.error)
        self._prop = None
        return SILENT

    def close(self):
        """Close the bus, forget what was begun."""
        self._prop = None
        if self._stream is not None:
            self._loop.unwatch(self._stream)
            self._stream.close()
            self._stream = None

    def _arm(self):
        timeout_ms = self._prop.device.config & 65535
        self._until = self._deadline = self._clock.ticks_add(self._clock.ticks_ms(), timeout_ms)

    def _open(self):
        self._stream = self._port.tcp(self._key[0], self._key[1])
        self._arm()  # tcp() may have blocked on a name
        self._watch(READ | WRITE)

    def _watch(self, events):
        if events != self._events or self._fresh:
            self._events = events
            self._loop.watch(self._stream, events, self.task)

    def _send(self):
        written = self._stream.write(self.tx, self._off, self._end - self._off)
        if written:
            self._off += written
            self._arm()
        self._watch(READ if self._off == self._end else READ | WRITE)
        self._fresh = self._fresh and not written

    def _receive(self):
        """Take what has come; returns a result when the answer is among it."""
        piece = self._piece
        rx = self.rx
        for _ in range(_READS_MAX):
            count = self._stream.readinto(piece)
            if count is None:
                return None
            if not count:
                return self._broken(_CLOSED)
            for i in range(count):
                if self._n < len(rx):
                    rx[self._n] = piece[i]
                    self._n += 1
            result = self._take()
            if result is not None or self._stream is None:
                return result
        return None

    def _take(self):
        """Take the whole frames from rx; a result when one of them is the answer."""
        rx = self.rx
        tx = self.tx
        while self._n > _HEADER:
            end = _HEADER + (rx[4] << 8 | rx[5])
            if rx[2] or rx[3] or end < _HEADER + 3 or end > len(rx):
                return self._broken(_MALFORMED)
            if self._n < end:
                return None
            result = None
            if self._prop and self._off == self._end and rx[0] == tx[0] and rx[1] == tx[1] and rx[6] == tx[6]:
                result = self._answer(7, end)
                if result is None:
                    return self._broken(_MALFORMED)
            self._n -= end
            for i in range(self._n):
                rx[i] = rx[end + i]
            if result is not None:
                return result
        return None

    def _size(self, code):
        """The length of the PDU that begins with `code`, if that is what was asked for."""
        return 2 if code & 128 else 5 if code > _READS else 2 + self._prop.spec.visitor[3]

    def _answer(self, at, end):
        """Act on the PDU rx[at:end]; returns the result, None if it is no answer to what was asked."""
        rx = self.rx
        tx = self.tx
        prop = self._prop
        code = rx[at]
        if code & 127 != tx[7] or end - at != self._size(code):
            return None
        self.error = None
        result = SAME
        at += 1
        if code & 128:
            self.error = code = rx[at]
            result = SILENT if code in (5, 6, 10, 11) else REFUSED
        elif code > _READS:
            for i in range(4):
                if rx[at + i] != tx[8 + i]:
                    return None
        else:
            size = rx[at]
            if size != end - at - 1:
                return None
            if not prop.flags & _KNOWN:
                prop.flags |= _KNOWN
                result = CHANGED
            raw = prop.device.raw
            to = prop.spec.visitor[7]
            for i in range(size):
                if raw[to + i] != rx[at + 1 + i]:
                    raw[to + i] = rx[at + 1 + i]
                    result = CHANGED
        self._prop = None
        self._silent = 0
        return result

    def _broken(self, error):
        """The stream is of no use any more; a result if something was under way."""
        prop = self._prop
        self.close()
        if prop is None:
            return None
        self.error = error
        return DOWN if self._fresh else SILENT

    def value(self, prop):
        """What was read last means: int, float, bool, str or bytes. ValueError if a STRING is not UTF-8."""
        kind = prop.type
        _, _, _, size, order, multiply, divide, at = prop.spec.visitor
        data = ordered(prop.device.raw[at : at + size], order)
        if kind == "BYTES":
            return data
        if kind == "STRING":
            return str(data.rstrip(b"\0"), "utf-8")
        if kind in ("FLOAT", "DOUBLE") and size > 2:
            value = unpack(">f" if size == 4 else ">d", data)[0]
        else:
            value = int.from_bytes(data, "big")
            if order & _SIGNED and data[0] & 128:
                value -= 1 << 8 * size
        if kind == "BOOLEAN":
            return value != 0
        value *= multiply
        if divide != 1:
            value /= divide
        return round(value) if kind == "INT" else float(value)
