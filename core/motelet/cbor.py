"""CBOR (RFC 8949), the part the link and the store use, for a device with little memory.

A general CBOR library makes an object for every item, in both directions. Here a `Writer` puts items
straight into a buffer that exists already and a `Reader` walks over a buffer and copies only what its
caller asks for, so a property report is encoded, and a message that is not wanted is skipped, without
an allocation.

Only definite lengths are read and written. Integers are those of 64 bits, map keys are integers or
strings, each key once. Tags, undefined and the other simple values are refused. An argument may come in
any length (canonical is not required), the shortest is written.
"""

from struct import pack_into, unpack_from

from micropython import const

from motelet import borrow

# Containers within containers that `value` goes down to.
DEPTH_MAX = const(8)
# Entries of one array or one map.
ITEMS_MAX = const(1024)
# Bytes of one string: what Kubernetes allows a ConfigMap or a Secret.
STRING_SIZE_MAX = const(1048576)

# Major types of items that Writer.head begins, as they lie in the first byte.
BYTES = const(0x40)
ARRAY = const(0x80)
MAP = const(0xA0)

_UINT_MAX = const(0xFFFFFFFFFFFFFFFF)


class CborError(ValueError):
    """The bytes are not the CBOR that was asked for, or do not fit. The text says what, and the offset."""


def _fail(text, at):
    raise CborError("CBOR: %s at offset %d" % (text, at))


class Writer:
    """Encodes into `buf` (bytearray or writable memoryview). `.n`, to be set at will, is where items go on.

    `link`, None unless it is set, is a websocket.Client whose `tx` is `buf`: both grow when need be.

    Every method raises CborError when the item does not fit; `.n` may then lie behind its head. Integers,
    floats, constants and whole bytes objects are written without an allocation.
    """

    link = None

    def __init__(self, buf):
        # A memoryview refuses an assignment that would change its size, where a bytearray would shrink.
        self.buf = memoryview(buf)
        self.n = 0
        self._scratch = bytearray(8)

    def _take(self, size):
        at = self.n
        if size > len(self.buf) - at:
            borrow("cborroom").make(self, size)
        self.n = at + size
        return at

    def head(self, major, value):
        """Begin an ARRAY of `value` items, a MAP of as many pairs, or BYTES of that size, which follow."""
        if value > _UINT_MAX:
            _fail("integer over 64 bits", self.n)
        size = (value > 23) + (value > 0xFF) + (value > 0xFFFF) + (value > 0xFFFFFFFF)
        if size:
            # Not by shifting: an integer of more than 31 bits would make others.
            pack_into(">Q", self._scratch, 0, value)
            value = 23 + size
        self._put(major | value, 1 << size >> 1)

    def _put(self, first, count):
        # A byte, and the last `count` of the scratch.
        at = self._take(1 + count)
        self.buf[at] = first
        for i in range(count):
            self.buf[at + 1 + i] = self._scratch[8 - count + i]

    def value(self, value, depth=DEPTH_MAX):
        """Write None, bool, an int of -2**64 to 2**64 - 1, float, str, bytes-like, or a container of these.

        A container is a dict, list or tuple, `depth` of them deep; CborError when it is deeper. Anything else
        raises what Python raises for no bytes, mostly TypeError.
        """
        if value is None or isinstance(value, bool):
            self.head(0xE0, 22 if value is None else 20 + value)
        elif isinstance(value, int):
            self.head(0x20 if value < 0 else 0, -1 - value if value < 0 else value)
        elif isinstance(value, float):
            # In the shortest of 16, 32 and 64 bits that keeps its value (RFC 8949, 4.2.1). Reading a float
            # back to compare it would make an object, so the bits of the double are looked at.
            raw = self._scratch
            pack_into(">d", raw, 0, value)
            exponent = ((raw[0] & 0x7F) << 4 | raw[1] >> 4) - 1023
            used = 52  # bits of the fraction down to its last 1: bit n lies 11 + n bits into the double
            while used and not raw[used + 11 >> 3] >> (4 - used & 7) & 1:
                used -= 1
            power = 3  # of two: how many bytes
            # The smallest exponents are those of subnormals, with fewer bits. -1023: zero; 1024: inf, NaN.
            if (
                used <= 10
                and (used - 24 <= exponent <= 15)
                or exponent == 1024
                or not used
                and exponent < -1022
            ):
                power = 1
                pack_into(">e", raw, 6, value)
            elif used <= 23 and used - 149 <= exponent <= 127:
                power = 2
                pack_into(">f", raw, 4, value)
            self._put(0xF8 + power, 1 << power)
        elif isinstance(value, dict) or isinstance(value, list) or isinstance(value, tuple):
            if not depth:
                _fail("nested too deeply", self.n)
            pairs = isinstance(value, dict)
            self.head(MAP if pairs else ARRAY, len(value))
            for item in value:
                self.value(item, depth - 1)
                if pairs:
                    self.value(value[item], depth - 1)
        else:
            major = BYTES
            if isinstance(value, str):
                value = value.encode()
                major = 0x60
            self.head(major, len(value))
            at = self._take(len(value))
            self.buf[at : self.n] = value


class Reader:
    """Walks over the items between two offsets of a buffer, once `open` has named them.

    `.pos` is the offset of the next item. Every method raises CborError when that is not of its kind, does
    not end before the end, or breaks a limit; the offset in its text counts from the start that `open` was
    given. A length is compared with its limit and with the bytes that are left before anything is made of
    that length.
    """

    def open(self, buf, start, end):
        """Read what lies in buf[start:end] (bytes, bytearray or memoryview) from now on."""
        self.buf = buf
        self.pos = self.start = self.end = self._base = start
        self._limit = end

    def at_end(self):
        """True when everything was read."""
        return self.pos == self._limit

    def _major(self):
        # 0 uint, 1 negative int, 2 bytes, 3 text, 4 array, 5 map, 6 tag, 7 float, bool, null.
        if self.pos >= self._limit:
            _fail("no item", self.pos - self._base)
        return self.buf[self.pos] >> 5

    def _head(self, major, size_min=0, limit=0):
        # The argument of the next item. With a size_min it says how many things of that size or more follow.
        if self._major() != major:
            _fail("major type %d, not %d," % (self._major(), major), self.pos - self._base)
        at = self.pos + 1
        value = self.buf[self.pos] & 31
        if value > 27:
            _fail("indefinite or reserved", self.pos - self._base)
        if value > 23:
            end = at + (1 << value - 24)
            if end > self._limit:
                _fail("cut short", self.pos - self._base)
            value = 0
            while at < end:
                value = value << 8 | self.buf[at]
                at += 1
        self.pos = at
        if size_min:
            if value > limit:
                _fail("length over %d" % limit, self.pos - self._base)
            if value * size_min > self._limit - at:
                _fail("over what is left", self.pos - self._base)
        return value

    def uint(self):
        """An integer that is not negative."""
        return self._head(0)

    def array(self):
        """The number of items in the array that begins here."""
        return self._head(4, 1, ITEMS_MAX)

    def map(self):
        """The number of pairs in the map that begins here."""
        return self._head(5, 2, ITEMS_MAX)

    def span(self, major=None):
        """Pass over a byte string (major 2), a text string (3) or either, which is then buf[.start:.end].

        Its UTF-8 is not checked.
        """
        size = self._head(major or (3 if self._major() == 3 else 2), 1, STRING_SIZE_MAX)
        self.start = self.pos
        self.pos = self.end = self.start + size

    def bytes(self):
        """A copy of a byte string."""
        self.span(2)
        return bytes(memoryview(self.buf)[self.start : self.end])

    def text(self):
        """A text string. (MicroPython lets some bytes pass that Unicode forbids: surrogates, overlong.)"""
        self.span(3)
        try:
            return str(memoryview(self.buf)[self.start : self.end], "utf-8")
        except UnicodeError:
            _fail("text not UTF-8", self.pos - self._base)

    def skip(self):
        """Pass over one item, however deep, and keep nothing of it."""
        left = 1
        while left:
            left -= 1
            major = self._major()
            if major == 4:
                left += self.array()
            elif major == 5:
                left += 2 * self.map()
            elif 2 <= major <= 3:
                self.span()
            else:
                self.value()

    def value(self, depth=DEPTH_MAX):
        """The next item: None, bool, int, float, str, bytes, or a list or dict, `depth` containers deep."""
        major = self._major()
        if major == 0:
            return self._head(0)
        if major == 1:
            return -1 - self._head(1)
        if major == 2:
            return self.bytes()
        if major == 3:
            return self.text()
        if major > 5:
            at = self.pos + 1
            kind = self.buf[self.pos] & 31
            self._head(major)
            if major == 7 and kind > 24:
                return unpack_from(">d" if kind == 27 else ">f" if kind == 26 else ">e", self.buf, at)[0]
            if major == 6 or not 20 <= kind <= 22:
                _fail("tag or simple value", self.pos - self._base)
            return None if kind == 22 else kind == 21
        if not depth:
            _fail("nested too deeply", self.pos - self._base)
        if major == 4:
            # Not a list comprehension: that would make every call, also for a number, allocate its cells.
            result = []
            for _ in range(self.array()):
                result.append(self.value(depth - 1))
            return result
        result = {}
        for _ in range(self.map()):
            if self._major() > 3:
                _fail("no map key", self.pos - self._base)
            key = self.value()
            if key in result:
                _fail("equal map keys", self.pos - self._base)
            result[key] = self.value(depth - 1)
        return result
