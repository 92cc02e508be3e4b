"""protocol.cddl against both sides: what core's Writer and the bridge's cbor2 make of the same message.

A CDDL validator (RFC 8610) that neither side is built on is the judge.
"""

from pathlib import Path

import cbor2
import pytest
from cddl_verifier import Validator, schema_diagnostics

import motelet
from cloud_bridge.cloudhub.messages import MessageError, decode
from motelet import protocol
from motelet.cbor import Reader, Writer

GRAMMAR = Path(motelet.__file__).resolve().parent / "protocol.cddl"
VALIDATOR = Validator(GRAMMAR)
DIGEST = bytes(range(8))
SHA256 = bytes(range(32))
RESOURCE = "default/device/thermostat"
NOW = 1_790_000_000_123
INFO = {
    "max_message": 2432,
    "window": 8,
    "boot": 3,
    "software": "motelet 0.1.0",
    "platform": "esp32",
    "heap": 56 * 1024,
    "flash": 1 << 21,
    "rssi": -61,
    "volts": 3.25,
    "wired": False,
}

STATUS = {
    "uid": "u",
    "reason": "OutOfmemory",
    "message": "größer",
    "start": NOW,
    "init": [[2, False, 0, 0, NOW, NOW, "Completed", ""]],
    "containers": [[0, False, 3, 0, 0, 0, "CrashLoopBackOff", "", [137, NOW, NOW, "OOMKilled", "x"]]],
}

UP = [
    [protocol.HELLO, 1, 1, DIGEST, {}],
    [protocol.HELLO, 1, 255, DIGEST, INFO],
    [protocol.HAVE, True, {RESOURCE: "12", "default/configmap/größe": ""}],
    [protocol.HAVE, False, {}],
    [protocol.ACK, 1],
    [protocol.ACK, 1, True],
    [protocol.NACK, 2, protocol.TOO_LARGE, ""],
    [protocol.NACK, 2, protocol.UNKNOWN, "x" * protocol.REASON_SIZE_MAX],
    [protocol.BLOBGET, SHA256, 0, 1],
    [protocol.BLOBGET, SHA256, 1 << 20, protocol.CHUNK_SIZE_MAX],
    [protocol.NAME, 1, RESOURCE, None],
    [protocol.NAME, protocol.REFS_MAX, "x" * protocol.RESOURCE_SIZE_MAX, "p" * protocol.PROPERTY_NAME_MAX],
    [protocol.REPORT, 1, 1, 21.5, NOW],
    [protocol.REPORT, 1 << 32, 4, 1.1, NOW, "21"],
    [protocol.REPORT, 3, 4, -(2**63), 0, ""],
    [protocol.REPORT, 3, 4, 2**63 - 1, NOW, "x" * protocol.VALUE_SIZE_MAX],
    [protocol.REPORT, 3, 4, True, NOW],
    [protocol.REPORT, 3, 4, "x" * protocol.VALUE_SIZE_MAX, NOW],
    [protocol.REPORT, 3, 4, b"x" * protocol.VALUE_SIZE_MAX, NOW],
    [protocol.STATE, 3, 4, "offline", NOW, "no answer from unit 3"],
    [protocol.EVENT, 9, "SYS/dis/upload_records", NOW, b"\xff\x00"],
    [protocol.CSR, b"x" * protocol.CSR_SIZE_MAX],
    [protocol.POD, 1, RESOURCE, cbor2.dumps({"uid": "u", "gone": True, "start": NOW, "containers": []})],
    [protocol.POD, 2, RESOURCE, cbor2.dumps(STATUS)],
    [protocol.LOG, RESOURCE, True, "x" * 1536],
    [protocol.LOG, RESOURCE, False, ""],
    [protocol.NODE, 1, {}],
    [
        protocol.NODE,
        2,
        {"heap": 56 * 1024, "heap_free": 0, "temperature": 41.5, "signal": -61, "reset": "watchdog"},
    ],
    [
        protocol.NODE,
        3,
        {"crash": "x" * 1200, "sleep_until": NOW, "address": "10.0.0.9", "volts": 3.3, "ok": True},
    ],
]
DOWN = [
    [protocol.WELCOME, protocol.VERSION, NOW, protocol.WINDOW_MAX],
    [protocol.WELCOME, 0, NOW, 1],
    [protocol.LOGGET, RESOURCE + "/main", 1000],
    [protocol.LIST],
    [protocol.SYNCED],
    [protocol.ACK, 2**64 - 1],
    [protocol.NACK, 1, protocol.MALFORMED, "größer"],
    [
        protocol.PUT,
        1,
        RESOURCE,
        "v" * protocol.VERSION_SIZE_MAX,
        cbor2.dumps({"properties": [{"name": "t"}]}),
    ],
    [protocol.DELETE, 2, RESOURCE],
    [protocol.PUTBLOB, 3, RESOURCE, "13", 1 << 20, SHA256],
    [protocol.BLOB, SHA256, 0, 0, b""],
    [protocol.BLOB, SHA256, 2048, 4096, b"x" * protocol.CHUNK_SIZE_MAX],
    [protocol.TIME, NOW],
    [protocol.RENEW],
    [protocol.CERTIFICATE, b"x" * protocol.CERTIFICATE_SIZE_MAX],
    [protocol.PUBLISH, 1, "default/lamp/blink", b""],
    [protocol.PUBLISH, 2, "t" * 512, b"x" * 1024],
]
# One thing wrong in each, mostly a limit passed by one.
WRONG_UP = [
    [],
    5,
    {0: 1},
    ["5", 1],
    [5.0, 1],
    [protocol.HELLO],
    [protocol.HELLO, 1, 1, DIGEST],
    [protocol.HELLO, 1, 1, DIGEST, {}, 0],
    [protocol.HELLO, 1, 1, DIGEST[1:], {}],
    [protocol.HELLO, -1, 1, DIGEST, {}],
    [protocol.HELLO, 1, 1, DIGEST, []],
    [protocol.HELLO, 1, 1, DIGEST, {"window": 0}],
    [protocol.HELLO, 1, 1, DIGEST, {"window": protocol.WINDOW_MAX + 1}],
    [protocol.HELLO, 1, 1, DIGEST, {"max_message": protocol.MESSAGE_SIZE_MIN - 1}],
    [protocol.HELLO, 1, 1, DIGEST, {"platform": "x" * 257}],
    [protocol.HELLO, 1, 1, DIGEST, {"x" * 257: 1}],
    [protocol.HELLO, 1, 1, DIGEST, {1: 1}],
    [protocol.HELLO, 1, 1, DIGEST, {"more": [1]}],
    [protocol.HELLO, 1, 1, DIGEST, {"more": None}],
    [protocol.HELLO, 1, 1, DIGEST, {"renew": 1}],
    [protocol.CSR],
    [protocol.CSR, b""],
    [protocol.CSR, "text"],
    [protocol.CSR, b"x" * (protocol.CSR_SIZE_MAX + 1)],
    [protocol.POD, 1, RESOURCE],
    [protocol.POD, 0, RESOURCE, b"x"],
    [protocol.POD, 1, RESOURCE, "x"],
    [protocol.POD, 1, RESOURCE, b"x" * 4097],
    [protocol.LOG, RESOURCE, 1, ""],
    [protocol.LOG, RESOURCE, True, "x" * 1537],
    [protocol.NODE, 1],
    [protocol.NODE, 0, {}],
    [protocol.NODE, 1, []],
    [protocol.NODE, 1, {"heap": -1}],
    [protocol.NODE, 1, {"heap_free": "much"}],
    [protocol.NODE, 1, {"temperature": "hot"}],
    [protocol.NODE, 1, {"signal": True}],
    [protocol.NODE, 1, {"reset": 1}],
    [protocol.NODE, 1, {"crash": "x" * 1201}],
    [protocol.NODE, 1, {"more": "x" * 1201}],
    [protocol.NODE, 1, {"more": [1]}],
    [protocol.NODE, 1, {str(i): i for i in range(33)}],
    [protocol.HELLO, 1, 1, DIGEST, {str(i): i for i in range(33)}],
    [protocol.HAVE, 1, {}],
    [protocol.HAVE, True, {RESOURCE: 12}],
    [protocol.HAVE, True, {"x" * (protocol.RESOURCE_SIZE_MAX + 1): "1"}],
    [protocol.HAVE, True, {RESOURCE: "v" * (protocol.VERSION_SIZE_MAX + 1)}],
    [protocol.ACK],
    [protocol.ACK, -1],
    [protocol.ACK, "1"],
    [protocol.ACK, 1, False],
    [protocol.ACK, 1, True, 1],
    [protocol.NACK, 1, protocol.INVALID],
    [protocol.NACK, 1, protocol.INVALID, "x" * (protocol.REASON_SIZE_MAX + 1)],
    [protocol.NACK, 1, protocol.INVALID, "ü" * (protocol.REASON_SIZE_MAX // 2 + 1)],
    [protocol.BLOBGET, SHA256[1:], 0, 1],
    [protocol.BLOBGET, SHA256, -1, 1],
    [protocol.BLOBGET, SHA256, 0, 0],
    [protocol.BLOBGET, SHA256, 0, protocol.CHUNK_SIZE_MAX + 1],
    [protocol.NAME, 0, RESOURCE, "p"],
    [protocol.NAME, protocol.REFS_MAX + 1, RESOURCE, "p"],
    [protocol.NAME, 1, "x" * (protocol.RESOURCE_SIZE_MAX + 1), "p"],
    [protocol.NAME, 1, RESOURCE, "p" * (protocol.PROPERTY_NAME_MAX + 1)],
    [protocol.NAME, 1, RESOURCE],
    [protocol.NAME, 1, RESOURCE, 7],
    [protocol.REPORT, 1, 1, None, NOW],
    [protocol.REPORT, 1, 1, [1], NOW],
    [protocol.REPORT, 1, 1, {}, NOW],
    [protocol.REPORT, 1, 0, 1, NOW],
    [protocol.REPORT, 1, protocol.REFS_MAX + 1, 1, NOW],
    [protocol.REPORT, 1, 1, 2**63, NOW],
    [protocol.REPORT, 1, 1, -(2**63) - 1, NOW],
    [protocol.REPORT, 1, 1, "x" * (protocol.VALUE_SIZE_MAX + 1), NOW],
    [protocol.REPORT, 1, 1, b"x" * (protocol.VALUE_SIZE_MAX + 1), NOW],
    [protocol.REPORT, 1, 1, 1, -1],
    [protocol.REPORT, 1, 1, 1, 253_402_300_800_000],
    [protocol.REPORT, 1, 1, 1, 1.5],
    [protocol.REPORT, 1, 1, 1, NOW, "x" * (protocol.VALUE_SIZE_MAX + 1)],
    [protocol.REPORT, 1, 1, 1, NOW, None],
    [protocol.REPORT, 1, 1, 1],
    [protocol.STATE, 1, 1, "x" * 33, NOW, ""],
    [protocol.STATE, 1, 1, "online", NOW],
    [protocol.STATE, 1, 1, "online", NOW, "x" * (protocol.REASON_SIZE_MAX + 1)],
    [protocol.EVENT, 1, "t" * 513, NOW, b""],
    [protocol.EVENT, 1, "t", NOW, "text"],
    [protocol.TIME, NOW],  # the other way
    [protocol.LIST],
]
WRONG_DOWN = [
    [protocol.WELCOME, 1, NOW],
    [protocol.WELCOME, 256, NOW, 8],
    [protocol.WELCOME, 1, NOW, 0],
    [protocol.WELCOME, 1, NOW, protocol.WINDOW_MAX + 1],
    [protocol.LIST, 1],
    [protocol.SYNCED, True],
    [protocol.ACK, 0],
    [protocol.ACK, 1, True],
    [protocol.NACK, 1, 0, ""],
    [protocol.NACK, 1, protocol.UNKNOWN + 1, ""],
    [protocol.PUT, 0, RESOURCE, "1", b"\xa0"],
    [protocol.PUT, 1, "", "1", b"\xa0"],
    [protocol.PUT, 1, "x" * (protocol.RESOURCE_SIZE_MAX + 1), "1", b"\xa0"],
    [protocol.PUT, 1, RESOURCE, "v" * (protocol.VERSION_SIZE_MAX + 1), b"\xa0"],
    [protocol.PUT, 1, RESOURCE, "1", b""],
    [protocol.PUT, 1, RESOURCE, "1", b"\xa1"],
    [protocol.PUT, 1, RESOURCE, "1", {}],
    [protocol.DELETE, 1],
    [protocol.DELETE, 1, RESOURCE, "1"],
    [protocol.PUTBLOB, 1, RESOURCE, "1", 5, SHA256[1:]],
    [protocol.PUTBLOB, 1, RESOURCE, "1", -5, SHA256],
    [protocol.PUTBLOB, 1, RESOURCE, "1", 1 << 32, SHA256],
    [protocol.BLOB, SHA256, 0, 9999, b"x" * (protocol.CHUNK_SIZE_MAX + 1)],
    [protocol.BLOB, SHA256, 0, "x", b""],
    [protocol.TIME, -1],
    [protocol.TIME, NOW, 1],
    [protocol.HELLO, 1, 1, DIGEST, {}],  # the other way
    [protocol.REPORT, 1, 1, 1, NOW],
    [protocol.PUBLISH, 1, "t"],
    [protocol.PUBLISH, 0, "t", b""],
    [protocol.PUBLISH, 1, "", b""],
    [protocol.PUBLISH, 1, "t" * 513, b""],
    [protocol.PUBLISH, 1, "t", "text"],
    [protocol.PUBLISH, 1, "t", b"x" * 1025],
]


def written(message):
    """The message in the bytes of core's Writer."""
    buf = bytearray(protocol.MESSAGE_SIZE_MAX)
    writer = Writer(buf)
    writer.value(message)
    return bytes(buf[: writer.n])


def brief(message):
    return repr(message)[:60]


def test_the_grammar_has_no_faults():
    assert not schema_diagnostics(GRAMMAR)


@pytest.mark.parametrize("encode", [written, cbor2.dumps], ids=["Writer", "cbor2"])
@pytest.mark.parametrize(
    ("direction", "message"), [("up", m) for m in UP] + [("down", m) for m in DOWN], ids=brief
)
def test_what_either_side_writes_is_in_the_grammar(direction, message, encode):
    data = encode(message)
    for rule in (direction, "message"):
        result = VALIDATOR.validate(data, root_type=rule)
        assert result.valid, result.diagnostics
    reader = Reader()
    reader.open(data, 0, len(data))
    assert reader.value() == message == cbor2.loads(data)
    if direction == "up":
        decode(data)


@pytest.mark.parametrize(
    ("direction", "message"), [("up", m) for m in WRONG_UP] + [("down", m) for m in WRONG_DOWN], ids=brief
)
def test_what_breaks_a_rule_is_not_in_the_grammar(direction, message):
    assert not VALIDATOR.validate(cbor2.dumps(message), root_type=direction).valid


@pytest.mark.parametrize("message", WRONG_UP, ids=brief)
def test_the_bridge_refuses_what_the_grammar_does(message):
    with pytest.raises(MessageError):
        decode(cbor2.dumps(message))


def test_every_kind_is_in_the_grammar_once():
    assert sorted({message[0] for message in UP + DOWN}) == list(range(25))


@pytest.mark.parametrize("message", [[25, 1], [25, 1, "x", {}], [2**64 - 1, 2**64 - 1]])
def test_a_later_kind_has_a_seq_to_refuse_it_by(message):
    assert VALIDATOR.validate(written(message), root_type="later").valid
    assert not VALIDATOR.validate(written(message), root_type="message").valid
    with pytest.raises(MessageError) as error:
        decode(written(message))
    assert (error.value.seq, error.value.code) == (message[1], protocol.UNKNOWN)


@pytest.mark.parametrize("message", [[19, 1], [21], [21, -1], [21, "1"], [22, 0]])
def test_a_later_kind_without_a_seq_is_not_in_the_grammar(message):
    assert not VALIDATOR.validate(written(message), root_type="later").valid


def test_the_numbers_in_the_grammar_are_those_of_the_code():
    text = GRAMMAR.read_text(encoding="utf-8")
    for words in (
        protocol.SUBPROTOCOL,
        f"WebSocket (RFC 6455) at {protocol.PATH},",
        f"closes with {protocol.CLOSE_VERSION}",
        f"max_message: {protocol.MESSAGE_SIZE_MIN}..",
        f"payload: bstr .size (0..{protocol.MESSAGE_SIZE_MAX})",
    ):
        assert words in text
