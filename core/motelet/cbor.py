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

# Containers within containers that `value` goes down to.
DEPTH_MAX = const(8)
# Entries of one array or one map.
ITEMS_MAX = const(1024)
# Bytes of one string: what Kubernetes allows a ConfigMap or a Secret.
STRING_SIZE_MAX = const(1048576)

_UINT_MAX = const(0xFFFFFFFFFFFFFFFF)


class CborError(ValueError):
    """The bytes are not the CBOR that was asked for. The text says what is wrong and at which offset."""


class LimitError(CborError):
    """Too big: for the buffer that is written to, or for one of the limits above."""


class Writer:
    """Encodes into `buf` (bytearray or writable memoryview). `.n` is the offset of the next item.

    Every method raises LimitError when the item does not fit; `.n` may then lie behind its head, so go back
    with `reset`. Integers, floats, constants and whole bytes objects are written without an allocation.
    """

    def __init__(self, buf):
        # A memoryview refuses an assignment that would change its size, where a bytearray would shrink.
        self.buf = memoryview(buf)
        self.n = 0
        self._double = bytearray(8)

    def reset(self, at=0):
        """Start again at offset `at`."""
        self.n = at

    def _take(self, size):
        at = self.n
        if size > len(self.buf) - at:
            raise LimitError("CBOR: no room for %d bytes at offset %d" % (size, at))
        self.n = at + size
        return at

    def _head(self, major, value):
        if value > _UINT_MAX:
            raise LimitError("CBOR: integer over 64 bits at offset %d" % self.n)
        size = (value > 23) + (value > 0xFF) + (value > 0xFFFF) + (value > 0xFFFFFFFF)
        at = self._take((1, 2, 3, 5, 9)[size])
        self.buf[at] = major | (23 + size if size else value)
        if size:
            # This writes an integer of more than 31 bits as it is; shifting it would make other integers.
            pack_into((">B", ">B", ">H", ">I", ">Q")[size], self.buf, at + 1, value)

    def array(self, count):
        """The head of an array; `count` items have to follow."""
        self._head(0x80, count)

    def map(self, count):
        """The head of a map; `count` times a key and a value have to follow."""
        self._head(0xA0, count)

    def int(self, value):
        """An integer of -2**64 to 2**64 - 1."""
        if value < 0:
            self._head(0x20, -1 - value)
        else:
            self._head(0, value)

    # The name the grammar uses where an integer cannot be negative.
    uint = int

    def text(self, value):
        """A text string: a str, or its UTF-8 as bytes (which spares the copy that encoding makes)."""
        if isinstance(value, str):
            value = value.encode()
        self.bytes(value, 0, None, 0x60)

    def bytes(self, data, offset=0, size=None, major=0x40):
        """A byte string: all of `data`, or `size` bytes of it from `offset` on."""
        if size is not None:
            data = memoryview(data)[offset : offset + size]
        self._head(major, len(data))
        at = self._take(len(data))
        self.buf[at : self.n] = data

    def bytes_head(self, size):
        """The head of a byte string whose `size` bytes follow somewhere else."""
        self._head(0x40, size)

    def float(self, value):
        """A float in the shortest of 16, 32 and 64 bits that keeps its value (RFC 8949, 4.2.1)."""
        # Reading a float back to compare it would make an object, so the bits of the double are looked at.
        raw = self._double
        pack_into(">d", raw, 0, value)
        exponent = ((raw[0] & 0x7F) << 4 | raw[1] >> 4) - 1023
        used = 52  # bits of the fraction down to its last 1: bit n lies 11 + n bits into the double
        while used > 4 and not raw[used + 11 >> 3]:
            used -= 8
        while used and not raw[used + 11 >> 3] >> (4 - used & 7) & 1:
            used -= 1
        size = 2
        # The smallest exponents belong to subnormals, which have fewer bits. -1023: zero; 1024: inf, NaN.
        if used <= 10 and used - 24 <= exponent <= 15 or exponent == 1024 or exponent == -1023 and not used:
            size = 0
        elif used <= 23 and used - 149 <= exponent <= 127:
            size = 1
        pack_into((">Be", ">Bf", ">Bd")[size], self.buf, self._take((3, 5, 9)[size]), 0xF9 + size, value)

    def bool(self, value):
        """true or false."""
        self._head(0xE0, 21 if value else 20)

    def null(self):
        """null."""
        self._head(0xE0, 22)

    def value(self, value, depth=DEPTH_MAX):
        """None, bool, int, float, str, bytes-like, or a dict, list, tuple of these, `depth` containers deep.

        LimitError when it is deeper; anything else raises what Python raises for no bytes, mostly TypeError.
        """
        if value is None:
            self.null()
        elif value is True or value is False:
            self.bool(value)
        elif isinstance(value, int):
            self.int(value)
        elif isinstance(value, float):
            self.float(value)
        elif isinstance(value, str):
            self.text(value)
        elif not (isinstance(value, dict) or isinstance(value, list) or isinstance(value, tuple)):
            self.bytes(value)
        elif not depth:
            raise LimitError("CBOR: nested too deeply at offset %d" % self.n)
        else:
            pairs = isinstance(value, dict)
            self._head(0xA0 if pairs else 0x80, len(value))
            for item in value:
                self.value(item, depth - 1)
                if pairs:
                    self.value(value[item], depth - 1)


class Reader:
    """Walks over the items between two offsets of a buffer. `.pos` is the offset of the next one.

    Every method raises CborError when the next item is not of its kind, does not end before the end, or
    breaks a limit (LimitError); the offset in its text counts from the start that `open` was given. A length
    is compared with its limit and with the bytes that are left before anything is made of that length.
    """

    def __init__(self):
        self.open(b"", 0, 0)

    def open(self, buf, start, end):
        """Read what lies in buf[start:end] (bytes, bytearray or memoryview) from now on."""
        self.buf = buf
        self.pos = self.start = self.end = self._base = start
        self._limit = end

    def at_end(self):
        """True when everything was read."""
        return self.pos == self._limit

    def _fail(self, text, kind=CborError):
        raise kind("CBOR: %s at offset %d" % (text, self.pos - self._base))

    def major(self):
        """The major type of the next item, which stays where it is.

        0 uint, 1 negative int, 2 bytes, 3 text, 4 array, 5 map, 6 tag, 7 float, bool, null.
        """
        if self.pos >= self._limit:
            self._fail("an item is missing")
        return self.buf[self.pos] >> 5

    def _head(self, major):
        if self.major() != major:
            self._fail("major type %d, not %d," % (self.major(), major))
        at = self.pos + 1
        value = self.buf[self.pos] & 31
        if value > 27:
            self._fail("indefinite or reserved length")
        if value > 23:
            end = at + (1 << value - 24)
            if end > self._limit:
                self._fail("item cut short")
            value = 0
            while at < end:
                value = value << 8 | self.buf[at]
                at += 1
        self.pos = at
        return value

    def _count(self, major, size_min, limit):
        # How many things of at least size_min bytes follow the head.
        count = self._head(major)
        if count > limit:
            self._fail("length over %d" % limit, LimitError)
        if count * size_min > self._limit - self.pos:
            self._fail("length over what is left")
        return count

    def uint(self):
        """An integer that is not negative."""
        return self._head(0)

    def int(self):
        """An integer."""
        return -1 - self._head(1) if self.major() == 1 else self._head(0)

    def array(self):
        """The number of items in the array that begins here."""
        return self._count(4, 1, ITEMS_MAX)

    def map(self):
        """The number of pairs in the map that begins here."""
        return self._count(5, 2, ITEMS_MAX)

    def span(self, major=None):
        """Pass over a byte string (major 2), a text string (3) or either, which is then buf[.start:.end].

        Its UTF-8 is not checked.
        """
        size = self._count(major or (3 if self.major() == 3 else 2), 1, STRING_SIZE_MAX)
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
            self._fail("text that is not UTF-8 ends")

    def skip(self):
        """Pass over one item, however deep, and keep nothing of it."""
        left = 1
        while left:
            left -= 1
            major = self.major()
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
        major = self.major()
        if major < 2:
            return self.int()
        if major < 4:
            return self.text() if major == 3 else self.bytes()
        if major == 7:
            at = self.pos + 1
            kind = self.buf[self.pos] & 31
            self._head(7)
            if kind > 24:
                return unpack_from((">e", ">f", ">d")[kind - 25], self.buf, at)[0]
            if 20 <= kind <= 22:
                return None if kind == 22 else kind == 21
        if major > 5:
            self._fail("a tag or simple value, not supported, ends")
        if not depth:
            self._fail("nested too deeply", LimitError)
        if major == 4:
            # Not a list comprehension: that would make every call, also for a number, allocate its cells.
            result = []
            for _ in range(self.array()):
                result.append(self.value(depth - 1))
            return result
        result = {}
        for _ in range(self.map()):
            if self.major() > 3:
                self._fail("map key that is no integer or string")
            key = self.value()
            if key in result:
                self._fail("the second of two equal map keys ends")
            result[key] = self.value(depth - 1)
        return result
