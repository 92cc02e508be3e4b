"""Instruments that speak lines of text over a serial port: a request, an answer, perhaps a checksum.

What is sent and what an answer must look like stands in the Device (`serialload`). The line that came last
is kept as it is and compared byte for byte, so that a value that did not change is neither matched nor
converted: such a poll allocates nothing. What comes unasked, or late, is dropped before the next request.
"""

from micropython import const

from motelet import borrow
from motelet.loop import READ, WRITE
from motelet.mappers import CHANGED, DOWN, REFUSED, SAME, SILENT

LINE_MAX = const(128)  # bytes of an answer, its end included

# A visitor is (request, response, template, acknowledgement, size, multiply, add, at): request is a whole
# line, template one but for the value, checksum and end; response and acknowledgement are compiled patterns,
# size and at the place of the line in device.raw. device.config is (terminator, checksum or "", timeout ms).
_KNOWN = const(4096)  # Property.flags: it has been read
_PIECE = const(32)


class Driver:
    """One serial port. `key` is (path, baud rate, parity, stop bits); `error` the last one's text."""

    def __init__(self, port, loop, key):
        self.error = ""
        self.task = self._stream = self._prop = self._data = None
        self._port = port
        self._loop = loop
        self._clock = loop.clock
        self._key = key
        self._deadline = loop.clock.ticks_ms()
        self._off = self._n = self._events = 0
        self._rx = bytearray(LINE_MAX)
        self._piece = bytearray(_PIECE)

    def seldom(self):
        """What is borrowed of it."""
        return borrow("mappers.serialrare")

    def begin(self, prop, data):
        """Begin to send the line `data`, or the request if it is None."""
        self._prop = prop
        self._data = data
        self._off = 0
        self._deadline = self._clock.ticks_add(self._clock.ticks_ms(), prop.device.config[2])

    def wait(self):
        """Milliseconds until step() must be called again."""
        return max(self._clock.ticks_diff(self._deadline, self._clock.ticks_ms()), 0)

    def step(self):
        """Go on; the result is that of motelet.mappers."""
        prop = self._prop
        result = DOWN
        try:
            if self._stream is None:
                if prop is None:
                    return None
                path, baud_rate, parity, stop_bits = self._key
                self._stream = self._port.serial(path, baud_rate, parity, stop_bits)
                self._events = 0
            result = SILENT
            line = self._data or (prop and prop.spec.visitor[0])
            if not self._receive(prop is None or self._off < len(line)) and prop is not None:
                found = self._answer(prop)
                if found is not None:
                    return found
                if self._off < len(line):
                    self._off += self._stream.write(line, self._off, len(line) - self._off) or 0
                    if self._off == len(line) and self._data and prop.spec.visitor[3] is None:
                        self._prop = None
                        return SAME
            self._watch(READ if prop is None or self._off == len(line) else READ | WRITE)
        except (OSError, ValueError) as error:  # ValueError: a speed this port does not have
            self.close()
            self.error = str(error)
            return None if prop is None else result
        if prop is None or self._clock.ticks_diff(self._deadline, self._clock.ticks_ms()) > 0:
            return None
        self._prop = None
        self.error = "no answer within %d ms" % prop.device.config[2]
        return SILENT

    def close(self):
        """Close the port, forget what was begun."""
        self._prop = None
        if self._stream is not None:
            self._loop.unwatch(self._stream)
            self._stream.close()
            self._stream = None

    def _watch(self, events):
        if events != self._events:
            self._events = events
            self._loop.watch(self._stream, events, self.task)

    def _receive(self, early):
        """Take what has come into rx; what comes before all is said (`early`) is dropped. Always false."""
        piece = self._piece
        rx = self._rx
        count = self._stream.readinto(piece)
        while count:
            for i in range(count):
                if self._n < LINE_MAX:
                    rx[self._n] = piece[i]
                    self._n += 1
            count = self._stream.readinto(piece) if self._n < LINE_MAX else None
        if count == 0:
            raise OSError(5, "the line hung up")  # EIO
        if early:
            self._n = 0

    def _answer(self, prop):
        """The result, if a whole line is there."""
        terminator, checksum, _ = prop.device.config
        end = self._rx.find(terminator, 0, self._n)
        if end < 0:
            if self._n < LINE_MAX:
                return None
            return self._silent("answer of more than %d bytes" % LINE_MAX)
        self._n = 0
        self._prop = None
        if checksum:
            digits = 4 if checksum == "crc16" else 2
            if end < digits or not matches(checksum, self._rx, end - digits):
                return self._silent("wrong checksum")
            end -= digits
        if self._data:
            if prop.spec.visitor[3].match(str(self._rx[:end], "utf-8")):
                return SAME
            self.error = "the answer is " + repr(bytes(self._rx[:end]))[2:-1]
            return REFUSED
        return self._compare(prop, end)

    def _compare(self, prop, end):
        _, _, _, _, size, _, _, at = prop.spec.visitor
        if end > size:
            return self._silent("answer of more than %d bytes" % size)
        raw = prop.device.raw
        result = SAME
        if not prop.flags & _KNOWN:
            prop.flags |= _KNOWN
            result = CHANGED
        for i in range(size):
            byte = self._rx[i] if i < end else 0
            if raw[at + i] != byte:
                raw[at + i] = byte
                result = CHANGED
        return result

    def _silent(self, error):
        self._prop = None
        self._n = 0
        self.error = error
        return SILENT

    def value(self, prop):
        """What was read last means: int, float, bool, str or bytes. ValueError if it means nothing."""
        return meaning(prop)


def matches(checksum, buf, end):
    """Whether the hexadecimal digits at buf[end:] are the `checksum` of buf[:end]."""
    number = total(checksum, buf, end)
    for shift in range(12 if checksum == "crc16" else 4, -1, -4):
        digit = buf[end] | 0x20  # either case
        digit = digit - 87 if digit >= 97 else digit & 15
        if digit != number >> shift & 15:
            return False
        end += 1
    return True


def total(checksum, buf, end):
    """The "xor", "sum" (8 bits each) or "crc16" (that of Modbus) of buf[:end]."""
    number = 0xFFFF if checksum == "crc16" else 0
    for i in range(end):
        if checksum == "sum":
            number = number + buf[i] & 0xFF
            continue
        number ^= buf[i]
        if checksum == "crc16":
            for _ in range(8):
                number = number >> 1 ^ 0xA001 if number & 1 else number >> 1
    return number


def meaning(prop):
    """The value in the line that was read last. ValueError with that line when there is none."""
    _, response, _, _, size, multiply, add, at = prop.spec.visitor
    line = bytes(prop.device.raw[at : at + size]).rstrip(b"\0")
    try:
        found = response.match(str(line, "utf-8"))
    except ValueError:  # not UTF-8
        found = None
    if not found:
        raise ValueError("%s: the answer is %s" % (prop.name, repr(line)[2:-1]))
    text = found.group(1)
    kind = prop.type
    if kind == "STRING":
        return text
    if kind == "BYTES":
        return text.encode()
    if kind == "BOOLEAN":
        return text.lower() in ("1", "true", "on", "yes")
    try:
        value = (int(text) if kind == "INT" else float(text)) * multiply + add
    except ValueError:
        raise ValueError("%s: %s is not of type %s" % (prop.name, text, kind))
    return round(value) if kind == "INT" else value
