"""Modbus, TCP and RTU: a master of our own, for a library's costs a board its heap, and garbage at each poll.

Sources: MODBUS Application Protocol Specification V1.1b3 (PDUs, exceptions), MODBUS Messaging on TCP/IP
Implementation Guide V1.0b (MBAP header), MODBUS over Serial Line V1.02 (RTU framing, silence, CRC-16).
Functions 1, 2, 3, 4 read, 5, 6 write one coil or register, 15, 16 several. One request at a time.

protocol.configData, KubeEdge's names (flat, or nested in `tcp` and `com` as older mappers had them):
    communicateMode  "TCP" or "RTU"; absent: RTU if there is a serial port, else TCP
    slaveID          1 if absent, but on a serial line it has to be there
    timeout          milliseconds until an answer is given up, 1000 if absent
    ip, port         port 502 if absent
    serialPort (or serialName), baudRate (9600), dataBits (8), parity (none, even, odd), stopBits (1)

visitors.configData, where the property lies in the device:
    register         CoilRegister, DiscreteInputRegister, HoldingRegister or InputRegister
    offset, limit    first register (or bit, of the first two) counted from 0, and how many. limit absent
                     or 0 is what the type needs: 4 for a DOUBLE, 2 for a FLOAT, else 1
    scale            value = what is in the register * scale; absent or 0 is 1
    isSwap           exchange the two bytes of each register
    isRegisterSwap   reverse the order of the registers
Without a swap the first register is the most significant one. Coils are packed eight a byte, the first one
lowest.
How types lie in registers:
    INT              1, 2, 4 or 8 bytes; unsigned, as in KubeEdge, unless the property has a negative minimum
    FLOAT, DOUBLE    two registers are an IEEE 754 single, four a double; one is an integer to be scaled
    BOOLEAN          true is any bit set; 1 is written
    STRING, BYTES    limit registers, filled up with NUL; those at the end are not part of a STRING
With a scale an INT is rounded to the nearest, where KubeEdge's mapper cuts off: 29 written must read as 29.

What is not ours is not believed. TCP: a frame with another transaction id or unit is a late answer and is
dropped, a length the buffer has no room for closes the connection. RTU: line noise is passed over until
address, function, length and CRC fit. An exception means that the device is there; only those by which it,
or a gateway, says that it cannot answer now count as silence.
"""

from struct import pack, unpack

from micropython import const

from motelet.cbor import Reader
from motelet.device import field, number, share
from motelet.loop import READ, WRITE
from motelet.mappers import CHANGED, DOWN, REFUSED, SAME, SILENT

_TIMEOUT_MS_DEFAULT = const(1000)
_TIMEOUT_MS_MAX = const(60000)

_REGISTERS = ("CoilRegister", "DiscreteInputRegister", "HoldingRegister", "InputRegister")  # functions 1..4
_READS = const(4)  # functions up to this one read
# Most bits or registers a request may have, by function; what can be written is held to the limit of that.
_LIMITS = (1968, 2000, 123, 125)
_EXCEPTIONS = (
    "illegal function,illegal data address,illegal data value,server device failure,acknowledge,"
    "server device busy,exception 7,memory parity error,exception 9,gateway path unavailable,"
    "gateway target device failed to respond"
)

# A visitor is the tuple of function, offset, limit, size in bytes, order (the bits below), multiply, divide.
_SWAP = const(1)
_REGISTER_SWAP = const(2)
_SIGNED = const(4)

_HEADER = const(6)  # bytes of a TCP frame before the unit, which is where an RTU frame begins
_SILENT_CLOSE = const(2)  # timeouts in a row after which a TCP connection is taken for dead
_READS_MAX = const(16)  # pieces taken in one step, so that a peer that never ends does not stop the loop

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
    """One bus: a TCP endpoint or a serial line. The interface is that of motelet.mappers.

    `key` is (host, port) or (path, baud rate, parity, stop bits). The buffers are those that the attached
    properties need, not those that Modbus allows.
    """

    def __init__(self, port, loop, key):
        self.health = ""
        self.task = self._stream = self._prop = None  # _prop is what is under way
        self._port = port
        self._loop = loop
        self._key = key
        # RTU is silent for 3.5 characters of 11 bits, at least 1.75 ms; one more for the clock's granularity.
        self._gap_ms = max(38500 // key[1], 1) + 2 if len(key) > 2 else 0
        self._quiet = self._until = self._deadline = loop.clock.ticks_ms()
        self._fresh = True  # nothing was ever written to this stream
        self._silent = self._events = self._n = self._off = self._end = 0
        self._tx = bytearray(16)
        self._rx = bytearray(32)
        self._piece = bytearray(32)  # streams read to the start of a buffer, and slices would be garbage

    @staticmethod
    def bus(device):
        """The key of the bus that `device` is on. ValueError."""
        where = device.id
        config = device.config
        for nested in ("tcp", "com"):
            config.update(field(where, config, nested, dict, {}))
        path = field(where, config, "serialPort", str, config.get("serialName", ""))
        mode = field(where, config, "communicateMode", str, "RTU" if path else "TCP").upper()
        if mode == "TCP":
            return field(where, config, "ip", str), number(where, config, "port", 1, 65535, default=502)
        parity = field(where, config, "parity", str, "none")[:1].upper()
        if mode != "RTU" or not path or parity not in ("N", "E", "O"):
            raise ValueError(where + ": communicateMode, serialPort or parity is malformed")
        number(where, config, "dataBits", 8, 8, default=8)
        baud_rate = number(where, config, "baudRate", 300, 4000000, default=9600)
        return path, baud_rate, parity, number(where, config, "stopBits", 1, 2, default=1)

    def attach(self, device, devices):
        """Make device.config (unit, timeout in ms) and each visitor a tuple; make room for the answers."""
        config = device.config
        if self._gap_ms:
            unit = number(device.id, config, "slaveID", 1, 247)
        else:
            unit = number(device.id, config, "slaveID", 0, 255, default=1)
        timeout_ms = number(device.id, config, "timeout", 1, _TIMEOUT_MS_MAX, default=_TIMEOUT_MS_DEFAULT)
        device.config = (unit, timeout_ms)
        for prop in device.properties:
            if prop.visitor:
                prop.visitor = share(_visitor(prop), "visitor", devices)
                room = prop.visitor[3] + 16
                self._tx += bytes(max(room - len(self._tx), 0))
                self._rx += bytes(max(room + 16 - len(self._rx), 0))

    def begin(self, prop, data):
        """Begin to write `data`, or to read if it is None."""
        tx = self._tx
        visitor = prop.visitor
        function = visitor[0]
        word = visitor[2]
        end = 12
        if data:
            function = (function + 1) // 2 + (4 if word == 1 else 14)  # 5, 6, 15 or 16
            if function > 6:
                tx[end] = visitor[3]
                for byte in data:
                    end += 1
                    tx[end] = byte
                end += 1
            elif function == 5:
                word = 0xFF00 if data[0] else 0
            else:
                word = data[0] << 8 | data[1]
        tid = (tx[0] << 8 | tx[1]) + 1
        tx[0] = tid >> 8 & 255
        tx[1] = tid & 255
        tx[5] = end - _HEADER
        tx[6] = prop.device.config[0]
        tx[7] = function
        tx[8] = visitor[1] >> 8
        tx[9] = visitor[1] & 255
        tx[10] = word >> 8
        tx[11] = word & 255
        self._off = 0
        if self._gap_ms:
            crc = crc16(tx, _HEADER, end)
            tx[end] = crc & 255
            tx[end + 1] = crc >> 8
            end += 2
            self._off = _HEADER
        self._end = end
        self._prop = prop
        self._arm()

    def wait(self):
        """Milliseconds until step() must be called again."""
        clock = self._loop.clock
        return max(clock.ticks_diff(self._until, clock.ticks_ms()), 0)

    def step(self):
        """Go on; the result is that of motelet.mappers."""
        clock = self._loop.clock
        try:
            if self._stream is None:
                if self._prop is None:
                    return None
                self._open()
            result = self._receive()
            if result is not None or self._prop is None:
                return result
            if self._off < self._end:
                self._send()
        except OSError as error:
            return self._broken(str(error))
        if clock.ticks_diff(self._deadline, clock.ticks_ms()) > 0:
            return None
        self.health = "no answer within %d ms" % self._prop.device.config[1]
        self._silent += 1
        if not self._gap_ms and (self._fresh or self._silent >= _SILENT_CLOSE):
            return self._broken(self.health)
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
        clock = self._loop.clock
        self._until = self._deadline = clock.ticks_add(clock.ticks_ms(), self._prop.device.config[1])

    def _open(self):
        key = self._key
        self._fresh = True
        self._n = self._silent = 0
        if self._gap_ms:
            self._stream = self._port.serial(key[0], key[1], key[2], key[3])
            self._watch(READ)
        else:
            self._stream = self._port.tcp(key[0], key[1])
            self._arm()  # tcp() may have blocked on a name
            self._watch(READ | WRITE)

    def _watch(self, events):
        if events != self._events or self._fresh:
            self._events = events
            self._loop.watch(self._stream, events, self.task)

    def _send(self):
        clock = self._loop.clock
        if self._gap_ms:
            self._n = 0  # what came before the request is no answer to it
            if clock.ticks_diff(self._quiet, clock.ticks_ms()) > 0:
                self._until = self._quiet
                return
        written = self._stream.write(self._tx, self._off, self._end - self._off)
        self._until = self._deadline
        if written:
            self._off += written
            self._arm()
        self._watch(READ if self._off == self._end else READ | WRITE)
        self._fresh = self._fresh and not written

    def _receive(self):
        """Take what has come; returns a result when the answer is among it."""
        clock = self._loop.clock
        piece = self._piece
        rx = self._rx
        for _ in range(_READS_MAX):
            count = self._stream.readinto(piece)
            if count is None:
                return None
            if not count:
                return self._broken("connection closed")
            for i in range(count):
                if self._n < len(rx):
                    rx[self._n] = piece[i]
                    self._n += 1
            if self._gap_ms:
                self._quiet = clock.ticks_add(clock.ticks_ms(), self._gap_ms)
                result = self._rtu()
            else:
                result = self._tcp()
            if result is not None or self._stream is None:
                return result
        return None

    def _tcp(self):
        """Take the whole frames from rx; a result when one of them is the answer."""
        rx = self._rx
        tx = self._tx
        while self._n > _HEADER:
            end = _HEADER + (rx[4] << 8 | rx[5])
            if rx[2] or rx[3] or end < _HEADER + 3 or end > len(rx):
                return self._broken("malformed answer")
            if self._n < end:
                return None
            result = None
            if self._prop and self._off == self._end and rx[0] == tx[0] and rx[1] == tx[1] and rx[6] == tx[6]:
                result = self._answer(7, end)
                if result is None:
                    return self._broken("malformed answer")
            self._n -= end
            for i in range(self._n):
                rx[i] = rx[end + i]
            if result is not None:
                return result
        return None

    def _rtu(self):
        """Look for the answer anywhere in rx: noise may come before it."""
        rx = self._rx
        if self._prop and self._off == self._end:
            for at in range(1, self._n - 3):
                if rx[at - 1] == self._tx[6]:
                    end = at + self._size(rx[at])
                    if end + 2 <= self._n and crc16(rx, at - 1, end + 2) == 0:
                        return self._answer(at, end)
        return None

    def _size(self, code):
        """The length of the PDU that begins with `code`, if that is what was asked for."""
        return 2 if code & 128 else 5 if code > _READS else 2 + self._prop.visitor[3]

    def _answer(self, at, end):
        """Act on the PDU rx[at:end]; returns the result, None if it is no answer to what was asked."""
        rx = self._rx
        tx = self._tx
        prop = self._prop
        code = rx[at]
        if code & 127 != tx[7] or end - at != self._size(code):
            return None
        self.health = ""
        result = SAME
        if code & 128:
            code = rx[at + 1]
            names = _EXCEPTIONS.split(",")
            self.health = names[code - 1] if 0 < code <= len(names) else "exception %d" % code
            result = SILENT if code in (5, 6, 10, 11) else REFUSED
        elif code > _READS:
            for i in range(1, 5):
                if rx[at + i] != tx[7 + i]:
                    return None
        else:
            size = rx[at + 1]
            if size != end - at - 2:
                return None
            raw = prop.raw
            if raw is None or len(raw) != size:
                prop.raw = raw = bytearray(size)
                result = CHANGED
            for i in range(size):
                if raw[i] != rx[at + 2 + i]:
                    raw[i] = rx[at + 2 + i]
                    result = CHANGED
        self._prop = None
        self._silent = 0
        return result

    def _broken(self, reason):
        """The stream is of no use any more; a result if something was under way."""
        prop = self._prop
        self.close()
        if prop is None:
            return None
        self.health = reason
        return DOWN if self._fresh else SILENT

    def value(self, prop):
        """What prop.raw means: int, float, bool, str or bytes. ValueError for a STRING that is not UTF-8."""
        kind = prop.type
        _, _, _, size, order, multiply, divide = prop.visitor
        data = ordered(prop.raw, order)
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

    def encode(self, prop, value):
        """The bytes that mean `value`. ValueError if the register is too small or only to be read."""
        kind = prop.type
        function, _, limit, size, order, multiply, divide = prop.visitor
        where = prop.device.id + " " + prop.name + ": "
        if function not in (1, 3):
            raise ValueError(where + _REGISTERS[function - 1] + " cannot be written")
        if kind in ("STRING", "BYTES"):
            data = value.encode() if kind == "STRING" else value
            if len(data) > size:
                raise ValueError("%sdesired value is longer than %d bytes" % (where, size))
            return ordered(data + bytes(size - len(data)), order)
        if kind != "BOOLEAN":
            value *= divide
            if multiply != 1:
                value /= multiply
        if kind in ("FLOAT", "DOUBLE") and size > 2:
            if abs(value) < (3.4028235e38 if size == 4 else 1.7976931e308):
                return ordered(pack(">f" if size == 4 else ">d", value), order)
        else:
            bits = limit if function == 1 else 8 * size
            low = -(1 << bits - 1) if order & _SIGNED else 0
            # A product may be infinite, and that is not to be rounded.
            if abs(value) < 2e19 and low <= round(value) < low + (1 << bits):
                value = round(value) & (1 << 8 * size) - 1
                return ordered(value.to_bytes(size, "big"), order)
        raise ValueError("%sdesired %s does not fit %d bytes" % (where, prop.desired, size))


def _visitor(prop):
    """Check the CBOR of prop.visitor and make the tuple of it."""
    where = prop.device.id + " " + prop.name
    reader = Reader()
    reader.open(prop.visitor, 0, len(prop.visitor))
    config = field(where, reader.value(), "configData", dict)
    register = field(where, config, "register", str)
    if register not in _REGISTERS:
        raise ValueError(where + ": unknown register " + register)
    function = _REGISTERS.index(register) + 1
    kind = prop.type
    limit_max = _LIMITS[function - 1]
    limit = number(where, config, "limit", 1, limit_max, default={"DOUBLE": 4, "FLOAT": 2}.get(kind, 1))
    offset = number(where, config, "offset", 0, 65536 - limit, default=0)
    size = limit * 2 if function > 2 else (limit + 7) // 8
    if kind not in ("STRING", "BYTES") and size not in (1, 2, 4, 8):
        raise ValueError("%s: limit %d is not possible for type %s" % (where, limit, kind))
    order = _SWAP if field(where, config, "isSwap", bool, False) else 0
    if field(where, config, "isRegisterSwap", bool, False):
        order |= _REGISTER_SWAP
    if function > 2 and prop.limits and (prop.limits[0] or 0) < 0:
        order |= _SIGNED
    multiply = field(where, config, "scale", (int, float), 1) or 1
    divide = 1
    if -1 < multiply < 1:
        # A tenth is no binary fraction: 213 / 10 is 21.3, 213 * 0.1 is not.
        divide = 1 / multiply
        multiply = 1
        if abs(divide - round(divide)) < 1e-6 * abs(divide):
            divide = round(divide)
    return function, offset, limit, size, order, multiply, divide
