"""cbor.Writer and cbor.Reader on the vectors of RFC 8949, appendix A, item by item and under the heap lock.

What is wrong, too much or cut short is in test_cbor_refusals.py.
"""

from binascii import hexlify, unhexlify

from motelet.cbor import ARRAY, BYTES, DEPTH_MAX, ITEMS_MAX, MAP, STRING_SIZE_MAX, CborError, Reader, Writer
from tests_util import heap_locked, raises

_INF = float("inf")
# RFC 8949, appendix A, and the borders between sizes: the items that a Writer makes in just this form.
_BOTH_WAYS = (
    (0, "00"),
    (1, "01"),
    (10, "0a"),
    (23, "17"),
    (24, "1818"),
    (25, "1819"),
    (100, "1864"),
    (1000, "1903e8"),
    (255, "18ff"),
    (256, "190100"),
    (65535, "19ffff"),
    (65536, "1a00010000"),
    (1000000, "1a000f4240"),
    (4294967295, "1affffffff"),
    (4294967296, "1b0000000100000000"),
    (1000000000000, "1b000000e8d4a51000"),
    (18446744073709551615, "1bffffffffffffffff"),
    (-18446744073709551616, "3bffffffffffffffff"),
    (-1, "20"),
    (-10, "29"),
    (-100, "3863"),
    (-1000, "3903e7"),
    (0.0, "f90000"),
    (-0.0, "f98000"),
    (1.0, "f93c00"),
    (1.1, "fb3ff199999999999a"),
    (1.5, "f93e00"),
    (65504.0, "f97bff"),
    (100000.0, "fa47c35000"),
    (3.4028234663852886e38, "fa7f7fffff"),
    (1.0e300, "fb7e37e43c8800759c"),
    (5.960464477539063e-8, "f90001"),
    (0.00006103515625, "f90400"),
    (-4.0, "f9c400"),
    (-4.1, "fbc010666666666666"),
    (_INF, "f97c00"),
    (-_INF, "f9fc00"),
    (False, "f4"),
    (True, "f5"),
    (None, "f6"),
    (b"", "40"),
    (b"\x01\x02\x03\x04", "4401020304"),
    ("", "60"),
    ("a", "6161"),
    ("IETF", "6449455446"),
    ('"\\', "62225c"),
    ("\u00fc", "62c3bc"),
    ("\u6c34", "63e6b0b4"),
    ("\U00010151", "64f0908591"),
    ([], "80"),
    ([1, 2, 3], "83010203"),
    ([1, [2, 3], [4, 5]], "8301820203820405"),
    (list(range(1, 26)), "98190102030405060708090a0b0c0d0e0f101112131415161718181819"),
    ({}, "a0"),
    (["a", {"b": "c"}], "826161a161626163"),
)
# Further vectors of appendix A, which are read. First other forms of values above.
_READ_ONLY = (
    (_INF, "fa7f800000"),
    (-_INF, "faff800000"),
    (_INF, "fb7ff0000000000000"),
    (-_INF, "fbfff0000000000000"),
    # Maps whose order MicroPython does not keep.
    ({1: 2, 3: 4}, "a201020304"),
    ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
    ({"a": "A", "b": "B", "c": "C", "d": "D", "e": "E"}, "a56161614161626142616361436164614461656145"),
)
# Numbers at the borders between the sizes of floats: one more bit of fraction or a step of the exponent.
_FLOATS = (
    (1.0009765625, 3),  # 1 + 2**-10
    (1.00048828125, 5),  # 1 + 2**-11
    (65536.0, 5),  # the exponent after the last of 16 bits
    (2.0**-24, 3),  # the smallest subnormal of 16 bits
    (2.0**-25, 5),
    (3 * 2.0**-24, 3),
    (3 * 2.0**-25, 5),
    (2.0**-14 + 2.0**-24, 3),
    (2.0**-15 + 2.0**-25, 5),
    (1 + 2.0**-23, 5),
    (1 + 2.0**-24, 9),
    (2.0**127, 5),
    (2.0**128, 9),
    (2.0**-149, 5),  # the smallest subnormal of 32 bits
    (2.0**-150, 9),
    (3 * 2.0**-149, 5),
    (3 * 2.0**-150, 9),
    (5e-324, 9),  # the smallest subnormal of 64 bits
    (2.0**-1022, 9),
)


def encoded(value):
    buf = bytearray(128)
    writer = Writer(buf)
    writer.value(value)
    return bytes(buf[: writer.n])


def reader(data):
    result = Reader()
    result.open(data, 0, len(data))
    return result


def decoded(data):
    source = reader(data)
    value = source.value()
    assert source.at_end()
    return value


def same(a, b):
    return type(a) is type(b) and a == b and (not isinstance(a, float) or str(a) == str(b))  # 0.0 is not -0.0


def test_vectors_of_the_rfc_are_written():
    for value, text in _BOTH_WAYS:
        assert hexlify(encoded(value)).decode() == text, value


def test_vectors_of_the_rfc_are_read():
    for value, text in _BOTH_WAYS + _READ_ONLY:
        assert same(decoded(unhexlify(text)), value), text


def test_nan_is_read_in_every_size_and_written_in_the_shortest():
    for text in ("f97e00", "fa7fc00000", "fb7ff8000000000000"):
        assert str(decoded(unhexlify(text))) == "nan"
    assert encoded(float("nan")) == b"\xf9\x7e\x00"


def test_floats_are_written_in_the_shortest_form_that_keeps_them():
    for value, size in _FLOATS:
        for number in (value, -value):
            data = encoded(number)
            assert len(data) == size, (number, data)
            assert decoded(data) == number


def test_an_argument_longer_than_need_be_is_read():
    assert decoded(b"\x1b\0\0\0\0\0\0\0\x07") == 7
    assert decoded(b"\x39\0\0") == -1
    assert decoded(b"\x7a\0\0\0\x01a") == "a"
    assert decoded(b"\x99\0\x01\xf4") == [False]
    assert decoded(b"\xba\0\0\0\x01\x18\x01\x58\x01b") == {1: b"b"}


def test_lengths_at_every_step_of_the_head():
    for size in (23, 24, 255, 256):
        buf = bytearray(size + 3)
        writer = Writer(buf)
        writer.value(b"x" * size)
        assert writer.n == size + (1 if size < 24 else 2 if size < 256 else 3)
        source = reader(buf)
        source.span()
        assert source.end - source.start == size
    buf = bytearray(70000)
    writer = Writer(buf)
    writer.value(memoryview(buf)[:65536])
    assert writer.n == 65541 and buf[:5] == b"\x5a\0\x01\0\0"
    assert writer.value(65535) is None and buf[65541:65544] == b"\x19\xff\xff"
    writer.n = 0
    writer.value(-65537)
    assert buf[:5] == b"\x3a\0\x01\0\0"


def test_a_message_written_and_read_item_by_item():
    buf = bytearray(100)
    writer = Writer(buf)
    writer.n = 8
    writer.head(ARRAY, 9)
    writer.value(7)
    writer.value(-7)
    writer.value("gr\u00fc\u00df")
    writer.value("raw")
    writer.value(memoryview(b"0123456")[2:5])
    writer.value(bytearray(b"\0\1"))
    writer.head(MAP, 2)
    writer.value("key")
    writer.value(True)
    writer.value(None)
    writer.head(MAP, 0)
    writer.value(0.5)
    source = Reader()
    source.open(buf, 8, writer.n)
    assert source.array() == 9
    assert source.uint() == 7
    assert source.value() == -7
    assert source.text() == "gr\u00fc\u00df"
    source.span()
    assert buf[source.start : source.end] == b"raw"
    assert source.bytes() == b"234"
    assert source.bytes() == b"\0\1"
    assert source.map() == 2
    source.span(3)
    assert source.value() is True and source.value() is None and not source.at_end()
    assert source.value() == {}
    assert source.pos == writer.n - 3 and source.value() == 0.5 and source.at_end()


def test_bytes_written_behind_a_head_of_their_own():
    buf = bytearray(6)
    writer = Writer(buf)
    writer.head(BYTES, 2)
    buf[writer.n : writer.n + 2] = b"ab"
    assert decoded(bytes(buf[:3])) == b"ab"
    writer.value(b"")
    assert writer.n == 2


def test_a_reader_takes_bytes_bytearray_and_memoryview():
    data = b"\x83\x61a\x41b\xf9\x3c\x00"
    for buf in (data, bytearray(data), memoryview(data)):
        source = reader(buf)
        assert source.value() == ["a", b"b", 1.0]
        source = reader(buf)
        source.skip()
        assert source.at_end()


def test_a_tuple_is_written_as_an_array_and_a_bytearray_as_bytes():
    assert encoded((1, (b"a",), bytearray(b"b"))) == b"\x83\x01\x81\x41a\x41b"


def test_skip_passes_over_one_item_of_any_kind():
    for _, text in _BOTH_WAYS + _READ_ONLY:
        data = unhexlify(text)
        source = reader(data + b"\x17")
        source.skip()
        assert source.pos == len(data) and source.uint() == 23


def test_depth_is_that_of_the_containers():
    value = 0
    for _ in range(DEPTH_MAX):
        value = [value]
    data = encoded(value)
    assert decoded(data) == value
    value = {}
    for _ in range(DEPTH_MAX - 1):
        value = {1: value}
    assert decoded(encoded(value)) == value


def test_a_report_and_an_acknowledgement_are_written_without_an_allocation():
    writer = Writer(bytearray(80))
    time_ms = 1790000000123
    values = (21.5, 21.37, True, -3, "on".encode(), None)

    def report(value):
        writer.n = 8
        writer.head(ARRAY, 6)
        writer.value(13)
        writer.value(70000)
        writer.value(4096)
        writer.value(value)
        writer.value(time_ms)
        writer.value(b"21.5")

    for value in values:
        heap_locked(report, value)
        source = Reader()
        source.open(writer.buf, 8, writer.n)
        assert source.value() == [13, 70000, 4096, value, time_ms, b"21.5"]


def test_a_message_is_looked_through_without_an_allocation():
    data = encoded([7, 300, "default/device/t1", "12345", b"\xa1\x61a\xf5", [{"b": -5}, [], None]])
    source = reader(data)

    def walk():
        source.open(data, 0, len(data))
        assert source.array() == 6 and source.uint() == 7 and source.value() == 300
        source.span()
        assert source.end - source.start == 17
        source.skip()
        source.span(2)
        assert source.end - source.start == 4
        source.skip()
        assert source.at_end()

    heap_locked(walk)


def test_limits_have_the_values_that_the_documentation_names():
    assert (DEPTH_MAX, ITEMS_MAX, STRING_SIZE_MAX) == (8, 1024, 1 << 20)
    assert issubclass(CborError, ValueError)
    assert raises(CborError, Writer(bytearray(0)).value, None)
