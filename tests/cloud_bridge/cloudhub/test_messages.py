"""The codec of what boards send: everything in the grammar is taken, everything else refused by name."""

from contextlib import suppress

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_bridge.cloudhub import messages
from cloud_bridge.cloudhub.messages import MessageError, decode, load
from motelet import protocol as p

SHA = bytes(32)

GOOD = [
    (
        [p.HELLO, 1, 3, bytes(8), {"window": 4, "boot": 7}],
        messages.Hello(1, 3, bytes(8), {"window": 4, "boot": 7}),
    ),
    ([p.HAVE, False, {"a/b/c": "v"}], messages.Have(False, {"a/b/c": "v"})),
    ([p.ACK, 7], messages.Ack(7)),
    ([p.ACK, 7, True], messages.Ack(7, True)),
    ([p.NACK, 7, 4, "full"], messages.Nack(7, 4, "full")),
    ([p.BLOBGET, SHA, 2048, 1], messages.BlobGet(SHA, 2048, 1)),
    ([p.NAME, 1, "a/device/c", "temperature"], messages.Name(1, "a/device/c", "temperature")),
    ([p.NAME, p.REFS_MAX, "a/device/c", None], messages.Name(p.REFS_MAX, "a/device/c", None)),
    ([p.REPORT, 1, 2, 21.5, 1000], messages.RefReport(1, 2, 21.5, 1000)),
    ([p.REPORT, 1, 2, True, 1000, "on"], messages.RefReport(1, 2, True, 1000, "on")),
    ([p.REPORT, 1, 2, -(2**63), 0], messages.RefReport(1, 2, -(2**63), 0)),
    ([p.REPORT, 1, 2, b"x" * p.VALUE_SIZE_MAX, 0], messages.RefReport(1, 2, b"x" * p.VALUE_SIZE_MAX, 0)),
    ([p.REPORT, 1, 2, "é" * 256, 0], messages.RefReport(1, 2, "é" * 256, 0)),
    ([p.STATE, 1, 2, "offline", 5, "no answer"], messages.RefState(1, 2, "offline", 5, "no answer")),
    ([p.EVENT, 1, "a/b", 5, b"xyz"], messages.RawEvent(1, "a/b", 5, b"xyz")),
]


@pytest.mark.parametrize(("item", "expected"), GOOD)
def test_every_message_of_the_grammar_is_taken(item, expected):
    assert decode(cbor2.dumps(item)) == expected


def refused(data: bytes) -> MessageError:
    with pytest.raises(MessageError) as caught:
        decode(data)
    return caught.value


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not CBOR"),
        (b"\xff", "not CBOR"),
        (b"\x81", "not CBOR"),
        (cbor2.dumps([p.ACK, 1]) + b"\0", "1 bytes after the message"),
        (bytes.fromhex("9f0501ff"), "not CBOR"),  # an array of indefinite length
        (bytes.fromhex("9bffffffffffffffff"), "not CBOR"),  # lengths that lie
        (bytes.fromhex("bbffffffffffffffff"), "not CBOR"),
        (bytes.fromhex("5bffffffffffffffff"), "not CBOR"),
        (bytes.fromhex("7b7fffffffffffffff"), "not CBOR"),
        (bytes.fromhex("9a10000000"), "not CBOR"),
        (b"\x81" * 9 + b"\0", "not CBOR"),  # nested once too deep
        (b"\x81" * 60000 + b"\0", "not CBOR"),
        (bytes.fromhex("8303f4a2616101616102"), "not CBOR"),  # the same key twice
        (bytes.fromhex("8303f4a101616a"), "not CBOR"),  # a key that is a number
        (bytes.fromhex("820561ff"), "not CBOR"),  # not UTF-8
        (cbor2.dumps({}), "not an array"),
        (cbor2.dumps([]), "not an array"),
        (cbor2.dumps(["5", 1]), "not an array"),
        (cbor2.dumps([True, 1]), "not an array"),
        (cbor2.dumps([-1, 1]), "not an array"),
        (cbor2.dumps([99]), "unknown kind 99"),
        (cbor2.dumps([99, "x"]), "unknown kind 99"),
        (cbor2.dumps([p.WELCOME, 1, 1, 1]), "unknown kind 1"),  # what only a bridge says
        (cbor2.dumps([p.ACK]), "with 1 items"),
        (cbor2.dumps([p.ACK, 1, True, 1]), "with 4 items"),
        (bytes(p.MESSAGE_SIZE_MAX + 1), "bytes, at most"),
    ],
)
def test_what_is_no_message_is_refused_without_a_number(data, reason):
    error = refused(data)
    assert reason in error.reason
    assert error.seq is None


@pytest.mark.parametrize("tag", [*range(64), 100, 256, 258, 260, 261, 1004, 43000, 55799, 2**64 - 1])
@pytest.mark.parametrize("body", ["01", "6161", "4161", "820102", "a0", "80"])
def test_no_tag_is_decoded(tag, body):
    head = cbor2.dumps(cbor2.CBORTag(tag, 0))[:-1]
    with pytest.raises(MessageError, match="not CBOR"):
        load(head + bytes.fromhex(body))


def test_no_tag_that_the_library_knows_has_been_forgotten():
    """A later cbor2 may decode more of them by itself; each would be work that a peer can make us do."""
    known = []
    for tag in range(60000):
        with pytest.raises(MessageError) as caught:
            load(cbor2.dumps(cbor2.CBORTag(tag, 0))[:-1] + b"\x01")
        if "tags are not part" not in str(caught.value.__cause__.__cause__):
            known.append(tag)
    assert known == []


LONG = "x" * 600


@pytest.mark.parametrize(
    "item",
    [
        [p.HELLO, 0, 1, bytes(8), {}],
        [p.HELLO, 1, 256, bytes(8), {}],
        [p.HELLO, 1, 1, bytes(7), {}],
        [p.HELLO, 1, 1, "digest!!", {}],
        [p.HELLO, 1, 1, bytes(8), []],
        [p.HELLO, 1, 1, bytes(8), {f"k{i}": 1 for i in range(messages.INFO_SIZE_MAX + 1)}],
        [p.HELLO, 1, 1, bytes(8), {"k" * (messages.INFO_TEXT_MAX + 1): 1}],
        [p.HELLO, 1, 1, bytes(8), {"k": "v" * (messages.INFO_TEXT_MAX + 1)}],
        [p.HELLO, 1, 1, bytes(8), {b"k": 1}],
        [p.HELLO, 1, 1, bytes(8), {"k": [1]}],
        [p.HELLO, 1, 1, bytes(8), {"window": 0}],
        [p.HELLO, 1, 1, bytes(8), {"window": p.WINDOW_MAX + 1}],
        [p.HELLO, 1, 1, bytes(8), {"window": "8"}],
        [p.HELLO, 1, 1, bytes(8), {"max_message": p.MESSAGE_SIZE_MIN - 1}],
        [p.HAVE, 0, {}],
        [p.HAVE, False, []],
        [p.HAVE, False, {"a": 1}],
        [p.HAVE, False, {"a": "v" * (p.VERSION_SIZE_MAX + 1)}],
        [p.HAVE, False, {"a" * (p.RESOURCE_SIZE_MAX + 1): "v"}],
        [p.HAVE, False, {f"{i}": "" for i in range(messages.HAVE_SIZE_MAX + 1)}],
        [p.ACK, -1],
        [p.ACK, 0],
        [p.BLOBGET, SHA, 2**32, 1],
        [p.HELLO, 1, 1, bytes(8), {"max_message": 2**32}],
        [p.ACK, True],
        [p.ACK, 1.0],
        [p.ACK, 1, False],
        [p.NACK, 1, 256, ""],
        [p.NACK, 1, 1, "x" * (p.REASON_SIZE_MAX + 1)],
        [p.NACK, 1, 1, "é" * (p.REASON_SIZE_MAX // 2 + 1)],
        [p.BLOBGET, bytes(31), 0, 1],
        [p.BLOBGET, SHA, -1, 1],
        [p.BLOBGET, SHA, 0, 0],
        [p.BLOBGET, SHA, 0, p.CHUNK_SIZE_MAX + 1],
        [p.NAME, 0, "a/device/b", "p"],
        [p.NAME, 1, "", "p"],
        [p.NAME, p.REFS_MAX + 1, "a/device/b", "p"],
        [p.NAME, 1, "a" * (p.RESOURCE_SIZE_MAX + 1), "p"],
        [p.NAME, 1, "a/device/b", "p" * (p.PROPERTY_NAME_MAX + 1)],
        [p.NAME, 1, "a/device/b", 1],
    ],
)
def test_a_message_that_has_no_number_is_refused_without_one(item):
    error = refused(cbor2.dumps(item))
    assert error.seq is None
    assert f"kind {item[0]}" in error.reason


@pytest.mark.parametrize(
    "item",
    [
        [p.REPORT, 9],
        [p.REPORT, 9, 1, 1, 1, "a", "b"],
        [p.REPORT, 9, 0, 1, 1],
        [p.REPORT, 9, p.REFS_MAX + 1, 1, 1],
        [p.REPORT, 9, 1, None, 1],
        [p.REPORT, 9, 1, [1], 1],
        [p.REPORT, 9, 1, 2**63, 1],
        [p.REPORT, 9, 1, LONG, 1],
        [p.REPORT, 9, 1, LONG.encode(), 1],
        [p.REPORT, 9, 1, cbor2.undefined, 1],
        [p.REPORT, 9, 1, 1, -1],
        [p.REPORT, 9, 1, 1, messages.EPOCH_MS_MAX + 1],
        [p.REPORT, 9, 1, 1, 1, LONG],
        [p.REPORT, 9, 1, 1, 1, None],
        [p.STATE, 9, 1, "x" * (messages.STATE_SIZE_MAX + 1), 1, ""],
        [p.STATE, 9, 1, "online", 1, "x" * (p.REASON_SIZE_MAX + 1)],
        [p.EVENT, 9, "x" * (messages.TOPIC_SIZE_MAX + 1), 1, b""],
        [p.EVENT, 9, "t", 1, "text"],
    ],
)
def test_a_durable_message_is_refused_by_its_number(item):
    error = refused(cbor2.dumps(item))
    assert (error.seq, error.code) == (9, p.MALFORMED)


def test_a_kind_of_the_future_is_refused_by_its_number():
    error = refused(cbor2.dumps([p.LOG + 1, 9, {"any": "thing"}]))
    assert (error.seq, error.code) == (9, p.UNKNOWN)


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_a_message_or_refused(data):
    with suppress(MessageError):
        decode(data)
