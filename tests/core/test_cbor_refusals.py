"""What cbor.Reader and cbor.Writer refuse, with the offset in the text, and that nothing else gets out."""

from binascii import unhexlify

from motelet.cbor import DEPTH_MAX, ITEMS_MAX, STRING_SIZE_MAX, CborError, Reader, Writer
from tests_util import raises

# RFC 8949, appendix A: tags, undefined, other simple values, indefinite lengths; and what appendix F calls
# not well-formed.
_REFUSED = (
    ("c249010000000000000000", "tag"),
    ("c11a514b67b0", "tag"),
    ("d818456449455446", "tag"),
    ("f7", "simple"),
    ("f0", "simple"),
    ("f800", "simple"),
    ("f814", "simple"),
    ("f8ff", "simple"),
    ("5f42010243030405ff", "indefinite"),
    ("7f657374726561646d696e67ff", "indefinite"),
    ("9fff", "indefinite"),
    ("bfff", "indefinite"),
    ("ff", "indefinite"),
    ("1c", "reserved"),
    ("3d", "reserved"),
    ("5e", "reserved"),
    ("fc", "reserved"),
    ("18", "cut"),
    ("19ff", "cut"),
    ("1affffff", "cut"),
    ("1bffffffffffffff", "cut"),
    ("38", "cut"),
    ("58", "cut"),
    ("98", "cut"),
    ("b9ff", "cut"),
    ("f8", "cut"),
    ("f97e", "cut"),
    ("fa7fc000", "cut"),
    ("fb7ff80000000000", "cut"),
    ("41", "left"),
    ("61", "left"),
    ("81", "left"),
    ("a100", "left"),
    ("8200", "left"),
)


def reader(data):
    result = Reader()
    result.open(data, 0, len(data))
    return result


def test_what_is_not_supported_or_not_well_formed_is_refused():
    for text, word in _REFUSED:
        data = unhexlify(text)
        assert word in str(raises(CborError, reader(data).value)), text
        assert word in str(raises(CborError, reader(data).skip)), text


def test_every_cut_of_a_message_is_refused():
    whole = unhexlify("880719ffff6161a201616202f51a0001000043616263fb3ff199999999999a82f93c00f6")
    source = reader(whole)
    value = source.value()
    assert source.at_end() and len(value) == 8 and value[-1] == [1.0, None]
    for size in range(len(whole)):
        raises(CborError, reader(whole[:size]).value)
        raises(CborError, reader(whole[:size]).skip)


def test_nothing_is_read_behind_the_end_that_was_given():
    source = Reader()
    source.open(b"\x83\x01\x02\x03\x04", 1, 2)
    assert source.uint() == 1 and source.at_end()
    raises(CborError, source.uint)
    raises(CborError, source.skip)
    raises(CborError, source.value)


def test_in_nothing_there_is_nothing_to_read():
    assert reader(b"").at_end()
    raises(CborError, reader(b"").value)


def test_another_kind_than_asked_for_is_refused_and_stays_unread():
    kinds = ("uint", "bytes", "text", "array", "map", "span")
    allowed = {"00": ("uint",), "20": (), "40": ("bytes", "span"), "60": ("text", "span")}
    allowed["80"] = ("array",)
    allowed["a0"] = ("map",)
    allowed["c0"] = allowed["f5"] = ()
    for text, right in allowed.items():
        for kind in kinds:
            source = reader(unhexlify(text))
            if kind in right:
                getattr(source, kind)()
            else:
                assert "major type" in str(raises(CborError, getattr(source, kind))), (text, kind)
                assert source.pos == 0
    raises(CborError, reader(b"\x40").span, 3)
    raises(CborError, reader(b"\x60").span, 2)


def test_the_offset_in_a_text_counts_from_the_start():
    source = Reader()
    source.open(b"......\x82\x01\x63a\xff.", 6, 11)
    assert source.array() == 2 and source.uint() == 1
    assert str(raises(CborError, source.text)) == "CBOR: over what is left at offset 3"
    source.open(b"......\x82\x01\xf5", 6, 9)
    assert source.array() == 2 and source.uint() == 1
    assert str(raises(CborError, source.uint)) == "CBOR: major type 7, not 0, at offset 2"
    assert str(raises(CborError, source.span)) == "CBOR: major type 7, not 2, at offset 2"


def test_a_length_that_lies_is_refused_before_anything_is_made_of_it():
    for head in (
        b"\x9a\0\0\x04\0",
        b"\xba\0\0\x04\0",
        b"\x5a\0\x0f\xff\xff",
        b"\x7a\0\x0f\xff\xff",
        b"\x82",
        b"\xa1",
    ):
        for call in ("value", "skip"):
            error = raises(CborError, getattr(reader(head + b"\0"), call))
            assert "over what is left" in str(error)
    for major in (0x40, 0x60, 0x80, 0xA0):
        for tail in (b"\x7f\xff\xff\xff\xff\xff\xff\xff", b"\xff\xff\xff\xff\xff\xff\xff\xff"):
            data = bytes([major | 27]) + tail
            for call in ("value", "skip"):
                raises(CborError, getattr(reader(data + b"\0"), call))
    # An array of two in an array of two, of which each has room for two if the other has none.
    raises(CborError, reader(unhexlify("828201028201")).skip)


def test_entries_are_limited():
    data = b"\x99\x04\x00" + b"\xf6" * ITEMS_MAX
    assert len(reader(data).value()) == ITEMS_MAX
    data = b"\x99\x04\x01" + b"\xf6" * (ITEMS_MAX + 1)
    assert "length over 1024" in str(raises(CborError, reader(data).array))
    raises(CborError, reader(data).skip)
    raises(CborError, reader(b"\xb9\x04\x01" + b"\0" * (2 * ITEMS_MAX + 2)).map)


def test_strings_are_limited():
    size = STRING_SIZE_MAX + 1
    tail = bytes([0x1A, size >> 24, size >> 16 & 255, size >> 8 & 255, size & 255])
    for major, call in ((0x40, "bytes"), (0x60, "text"), (0x40, "span"), (0x60, "skip")):
        data = bytes([major | tail[0]]) + tail[1:]
        raises(CborError, getattr(reader(data), call))


def test_depth_is_limited_for_what_would_need_a_stack():
    for head in (b"\x81", b"\xa1\x01"):
        raises(CborError, reader(head * (DEPTH_MAX + 1) + b"\x80").value)
        raises(CborError, reader(head * 2000 + b"\0").value)
        raises(CborError, reader(head + b"\x80").value, 1)
        raises(CborError, reader(b"\xa0").value, 0)
        source = reader(head * 2000 + b"\0")
        source.skip()
        assert source.at_end()
    endless = []
    endless.append(endless)
    for value in (endless, {1: endless}, [{2: endless}]):
        assert "nested" in str(raises(CborError, Writer(bytearray(1000)).value, value))
    for value in ([[]], [{}], {1: []}, {1: {2: 3}}, {(): 1}):
        assert "nested" in str(raises(CborError, Writer(bytearray(100)).value, value, 1))


def test_text_that_is_not_utf8_is_refused():
    for text in ("61ff", "62c328", "61c3", "63e28228", "64f0908551", "6180", "62e282"):
        data = unhexlify(text)
        assert "not UTF-8" in str(raises(CborError, reader(data).text)), text
        raises(CborError, reader(data).value)
        source = reader(data)
        source.span()
        assert source.at_end()


def test_map_keys_are_integers_or_strings_each_once():
    for key in ("f4", "f93c00", "80", "a0", "f6"):
        assert "no map key" in str(raises(CborError, reader(unhexlify("a1" + key + "00")).value)), key
    assert reader(unhexlify("a4000020014002600300"[:-2])).value() == {0: 0, -1: 1, b"": 2, "": 3}
    for key in ("00", "20", "4161", "6161"):
        assert "equal map keys" in str(
            raises(CborError, reader(unhexlify("a2" + key + "00" + key + "00")).value)
        )


def test_a_writer_stops_at_the_end_of_its_buffer():
    items = (0, 24, 256, 65536, 1 << 32, -1, 1.5, 100000.5, 1.1, True, None, "abc", b"abc", [1, 2], {1: 2})
    for item in items:
        buf = bytearray(32)
        writer = Writer(buf)
        writer.value(item)
        size = writer.n
        for room in range(size):
            short = bytearray(room + 4)
            writer = Writer(memoryview(short)[:room])
            error = raises(CborError, writer.value, item)
            assert "at offset" in str(error)
            assert short[room:] == b"\0\0\0\0" and len(short) == room + 4
        writer = Writer(bytearray(size))
        writer.value(item)
        assert writer.n == size and bytes(writer.buf) == bytes(buf[:size])


def test_a_writer_refuses_what_cbor_cannot_say():
    writer = Writer(bytearray(100))
    assert "64 bits" in str(raises(CborError, writer.value, 1 << 64))
    raises(CborError, writer.value, -(1 << 64) - 1)
    raises(CborError, writer.value, 1 << 200)
    assert writer.n == 0
    for thing in (object(), raises):
        raises(TypeError, writer.value, thing)
