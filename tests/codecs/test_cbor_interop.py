"""cbor.Writer and cbor.Reader against cbor2, which is what the bridge encodes and decodes with."""

import math
import struct

import cbor2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from motelet.cbor import DEPTH_MAX, STRING_SIZE_MAX, CborError, Reader, Writer

INTS = st.integers(-(2**64), 2**64 - 1)
FLOATS = st.one_of(
    st.floats(),
    st.floats(width=32),
    st.floats(width=16),
    st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack(">d", struct.pack(">Q", bits))[0]),
)
KEYS = st.one_of(st.integers(-1000, 1000), st.text(max_size=8), st.binary(max_size=8))
SCALARS = st.one_of(st.none(), st.booleans(), INTS, FLOATS, st.text(), st.binary())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(KEYS, inner, max_size=6)),
    max_leaves=30,
)


def write(value, size=65536):
    buf = bytearray(size)
    writer = Writer(buf)
    writer.value(value)
    return bytes(buf[: writer.n])


def read(data):
    reader = Reader()
    reader.open(data, 0, len(data))
    value = reader.value()
    assert reader.at_end()
    return value


def same(a, b):
    """Equal, with NaN equal to NaN, 0.0 not to -0.0, and 1, 1.0 and True all different."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or struct.pack(">d", a) == struct.pack(">d", b)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return a == b


def read_as_cbor2_or_refused(data):
    reader = Reader()
    reader.open(data, 0, len(data))
    try:
        value = reader.value()
    except CborError:
        return
    assert same(cbor2.loads(data[: reader.pos]), value)


def depth(value):
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 0


@given(VALUES)
def test_cbor2_reads_what_the_writer_wrote(value):
    if depth(value) <= DEPTH_MAX:
        assert same(cbor2.loads(write(value)), value)


@given(VALUES)
def test_the_reader_reads_what_cbor2_wrote(value):
    if depth(value) <= DEPTH_MAX:
        assert same(read(cbor2.dumps(value)), value)


@given(VALUES)
def test_what_is_canonical_in_cbor2_is_written_with_the_same_bytes(value):
    if depth(value) <= DEPTH_MAX:
        data = cbor2.dumps(value, canonical=True)
        assert write(read(data)) == data


@settings(max_examples=2000)
@given(FLOATS)
@example(5e-324)
@example(2.0**-1022)
@example(-0.0)
def test_floats_have_the_same_bytes_as_the_canonical_ones_of_cbor2(value):
    if not math.isnan(value):
        assert write(value) == cbor2.dumps(value, canonical=True)


@given(VALUES, VALUES)
def test_skip_and_value_end_at_the_same_place(value, after):
    data = cbor2.dumps(value, canonical=True)
    reader = Reader()
    whole = data + cbor2.dumps(after)
    reader.open(whole, 0, len(whole))
    reader.skip()
    assert reader.pos == len(data)


@settings(max_examples=3000)
@given(st.binary(max_size=60))
@example(b"\x9a\xff\xff\xff\xff")
@example(b"\xbb" + b"\xff" * 8)
@example(b"\x81" * 60)
def test_bytes_at_random_are_read_as_cbor2_reads_them_or_refused(data):
    read_as_cbor2_or_refused(data)


@given(VALUES, st.data())
def test_a_flipped_bit_is_read_as_cbor2_reads_it_or_refused(value, data):
    whole = bytearray(cbor2.dumps(value))
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[bit // 8] ^= 1 << bit % 8
    read_as_cbor2_or_refused(bytes(whole))


@given(VALUES, st.data())
def test_every_shorter_message_is_refused(value, data):
    whole = cbor2.dumps(value)
    size = data.draw(st.integers(0, len(whole) - 1))
    reader = Reader()
    for call in (reader.value, reader.skip):
        reader.open(whole, 0, size)
        with pytest.raises(CborError):
            call()


@given(VALUES, st.data())
def test_a_buffer_that_is_too_small_is_never_left(value, data):
    if depth(value) > DEPTH_MAX:
        return
    size = len(write(value))
    room = data.draw(st.integers(0, size - 1))
    buf = bytearray(b"\xee" * (room + 8))
    with pytest.raises(CborError):
        Writer(memoryview(buf)[4 : 4 + room]).value(value)
    assert buf[:4] == buf[4 + room :] == b"\xee" * 4


@pytest.mark.parametrize("piece", [b"x", "x"])
def test_a_string_of_a_mebibyte_is_read_and_one_byte_more_is_not(piece):
    assert read(cbor2.dumps(piece * STRING_SIZE_MAX)) == piece * STRING_SIZE_MAX
    data = cbor2.dumps(piece * (STRING_SIZE_MAX + 1))
    reader = Reader()
    for call in (reader.value, reader.skip, reader.span):
        reader.open(data, 0, len(data))
        with pytest.raises(CborError):
            call()


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (cbor2.dumps(2**64), "tag"),
        (cbor2.dumps(cbor2.CBORTag(24, b"")), "tag"),
        (cbor2.dumps(cbor2.undefined), "simple value"),
        (cbor2.dumps(cbor2.CBORSimpleValue(99)), "simple value"),
        (b"\x9f\x01\xff", "indefinite"),
    ],
)
def test_what_cbor2_writes_with_tags_or_without_lengths_is_refused_by_name(data, word):
    with pytest.raises(CborError, match=f"{word}.* at offset"):
        read(data)
