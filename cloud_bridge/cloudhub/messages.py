"""From the bytes of one WebSocket message to a checked value, and nothing else.

Whatever a board sends is one of the classes below or a `MessageError`; no other exception leaves
`decode`. The grammar is `core/motelet/protocol.cddl`; the sizes are the constants of
`motelet.protocol`, and every one of them is checked here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NoReturn

import cbor2

from motelet import protocol

DEPTH_MAX = 8
"""Nesting of a message, and of an object within one."""
EPOCH_MS_MAX = 253_402_300_799_999
"""Milliseconds: the end of the year 9999, the last moment that RFC 3339 can name."""
HAVE_SIZE_MAX = 4096
"""Entries in one HAVE; the size of a message allows no more of them anyway."""
INFO_SIZE_MAX = 32
"""Entries in HELLO's map of what the board says about itself."""
INFO_TEXT_MAX = 256
"""Bytes of a text in that map."""
STATE_SIZE_MAX = 32
"""Bytes of the name of a device's state."""
TOPIC_SIZE_MAX = 512
"""Bytes of an event's topic."""
DIGEST_SIZE = 8
_UINT32_MAX = 2**32 - 1
SHA256_SIZE = 32
POD_SIZE_MAX = 4096
"""Bytes of what a board says of one pod."""
LOG_TEXT_MAX = 1536
"""Bytes of a part of a log."""
NODE_TEXT_MAX = 1200
"""Bytes of a text that a board says about itself in NODE."""

_TAGS = (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799)


class MessageError(Exception):
    """A message that breaks the grammar or a limit. `seq` is its sequence number, None if it has none."""

    def __init__(self, reason: str, seq: int | None = None, code: int = protocol.MALFORMED) -> None:
        super().__init__(reason)
        self.reason = reason
        self.seq = seq
        self.code = code


@dataclass(frozen=True, slots=True)
class Hello:
    """The board's first message."""

    version_min: int
    version_max: int
    digest: bytes
    info: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Have:
    """A part of the list of what the board holds: resource to version."""

    more: bool
    held: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Ack:
    """All up to `seq` is durable but for blobs under way; with `alone`, `seq` and nothing else."""

    seq: int
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Nack:
    """The board refuses `seq`."""

    seq: int
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class BlobGet:
    """The board asks for `count` bytes of the blob, from `offset` on."""

    sha256: bytes
    offset: int
    count: int


@dataclass(frozen=True, slots=True)
class Name:
    """`ref` stands for the property (or, with None, the device) from now on."""

    ref: int
    resource: str
    property: str | None


@dataclass(frozen=True, slots=True)
class RefReport:
    """REPORT as it is on the wire."""

    seq: int
    ref: int
    value: int | float | bool | str | bytes
    epoch_ms: int
    observed_desired: str | None = None


@dataclass(frozen=True, slots=True)
class RefState:
    """STATE as it is on the wire."""

    seq: int
    ref: int
    state: str
    epoch_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class RawEvent:
    """EVENT as it is on the wire."""

    seq: int
    topic: str
    epoch_ms: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Csr:
    """The board asks for the certificate that RENEW offered it."""

    request: bytes


@dataclass(frozen=True, slots=True)
class RawNode:
    """NODE as it is on the wire."""

    seq: int
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RawPod:
    """POD as it is on the wire."""

    seq: int
    resource: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Log:
    """A part of the log that LOGGET asked for; `more` parts follow."""

    resource: str
    more: bool
    text: str


Message = (
    Log
    | RawPod
    | RawNode
    | Csr
    | Hello
    | Have
    | Ack
    | Nack
    | BlobGet
    | Name
    | RefReport
    | RefState
    | RawEvent
)
Field = Callable[[Any], Any]


def _refuse_tag(*_: Any) -> NoReturn:
    raise ValueError("tags are not part of the protocol")


_SEMANTIC: Mapping[int, Any] = dict.fromkeys(_TAGS, _refuse_tag)


def load(data: bytes) -> Any:
    """The one CBOR item (RFC 8949) that `data` is: definite lengths, no tags, DEPTH_MAX, nothing after it.

    A claimed length costs no memory before that many bytes are there. Raises MessageError.
    """
    if len(data) > protocol.MESSAGE_SIZE_MAX:
        raise MessageError(f"{len(data)} bytes, at most {protocol.MESSAGE_SIZE_MAX}")
    file = BytesIO(data)
    try:
        decoder = cbor2.CBORDecoder(
            file,
            tag_hook=_refuse_tag,
            semantic_decoders=_SEMANTIC,
            read_size=1,  # reads no byte ahead, so that the file's position tells where the item ended
            max_depth=DEPTH_MAX,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
        )
        item = decoder.decode()
    except (cbor2.CBORDecodeError, ValueError) as error:
        raise MessageError(f"not CBOR: {error}") from error
    if file.tell() != len(data):
        raise MessageError(f"{len(data) - file.tell()} bytes after the message")
    return item


def decode(data: bytes) -> Message:
    """The message that `data` holds. Raises MessageError, with its sequence number if it has one."""
    item = load(data)
    if not isinstance(item, list) or not item or not _is_uint(item[0]):
        raise MessageError("not an array that begins with its kind")
    kind = item[0]
    seq = item[1] if (kind in _DURABLE or kind > _KIND_MAX) and len(item) > 1 and _is_uint(item[1]) else None
    if kind not in _GRAMMAR:
        raise MessageError(f"unknown kind {kind}", seq, protocol.UNKNOWN)
    make, needed, fields = _GRAMMAR[kind]
    if not needed < len(item) <= len(fields) + 1:
        raise MessageError(f"kind {kind} with {len(item)} items", seq)
    try:
        message: Message = make(*(field(value) for field, value in zip(fields, item[1:], strict=False)))
    except ValueError as error:
        raise MessageError(f"kind {kind}: {error}", seq) from error
    return message


# -- fields: each takes what was decoded and returns it, or raises ValueError with the reason --------


def _is_uint(value: Any) -> bool:
    return type(value) is int and value >= 0


def _uint(limit: int, least: int = 0) -> Field:
    def check(value: Any) -> int:
        if type(value) is not int or not least <= value <= limit:
            raise ValueError(f"expected a number from {least} to {limit}")
        return value

    return check


def _text(limit: int, least: int = 0) -> Field:
    def check(value: Any) -> str:
        if not isinstance(value, str) or not least <= len(value.encode()) <= limit:
            raise ValueError(f"expected a text of {least} to {limit} bytes")
        return value

    return check


def _bytes(least: int, limit: int) -> Field:
    def check(value: Any) -> bytes:
        if not isinstance(value, bytes) or not least <= len(value) <= limit:
            raise ValueError(f"expected {least} to {limit} bytes")
        return value

    return check


def _bool(value: Any) -> bool:
    if value is not True and value is not False:
        raise ValueError("expected true or false")
    return value is True


def _true(value: Any) -> bool:
    if value is not True:
        raise ValueError("expected true")
    return True


def _property(value: Any) -> str | None:
    if value is None:
        return None
    text: str = _text(protocol.PROPERTY_NAME_MAX)(value)
    return text


def _value(value: Any) -> int | float | bool | str | bytes:
    match value:
        case bool() | float():
            return value
        case int() if -(2**63) <= value < 2**63:
            return value
        case str() if len(value.encode()) <= protocol.VALUE_SIZE_MAX:
            return value
        case bytes() if len(value) <= protocol.VALUE_SIZE_MAX:
            return value
    raise ValueError(f"expected a value of at most {protocol.VALUE_SIZE_MAX} bytes")


def _held(value: Any) -> Mapping[str, str]:
    if not isinstance(value, dict) or len(value) > HAVE_SIZE_MAX:
        raise ValueError("expected a map of resources to versions")
    resource, version = _RESOURCE, _text(protocol.VERSION_SIZE_MAX)
    return {resource(key): version(text) for key, text in value.items()}


def _entries(value: Any, text_max: int) -> Mapping[str, Any]:
    """What a board says about itself: texts to texts, numbers, true and false."""
    if not isinstance(value, dict) or len(value) > INFO_SIZE_MAX:
        raise ValueError(f"expected a map of at most {INFO_SIZE_MAX} entries")
    for key, entry in value.items():
        _text(INFO_TEXT_MAX)(key)
        if not isinstance(entry, int | float):
            _text(text_max)(entry)
    entries: Mapping[str, Any] = value
    return entries


def _node(value: Any) -> Mapping[str, Any]:
    fields = _entries(value, NODE_TEXT_MAX)
    for key in ("heap", "heap_free", "heap_largest", "flash", "flash_free", "uploads_dropped", "sleep_until"):
        if key in fields:
            _uint(EPOCH_MS_MAX)(fields[key])
    for key in ("temperature", "signal"):
        if key in fields and type(fields[key]) not in (int, float):
            raise ValueError(f"expected {key} to be a number")
    for key in ("reset", "crash", "address"):
        _text(NODE_TEXT_MAX)(fields.get(key, ""))
    return fields


def _info(value: Any) -> Mapping[str, Any]:
    info = _entries(value, INFO_TEXT_MAX)
    if "renew" in info:
        _bool(info["renew"])
    if "window" in info:
        _uint(protocol.WINDOW_MAX, 1)(info["window"])
    if "max_message" in info:
        _uint(_UINT32_MAX, protocol.MESSAGE_SIZE_MIN)(info["max_message"])
    return info


_SEQ = _uint(2**64 - 1, 1)
_VERSION = _uint(255, 1)
_RESOURCE = _text(protocol.RESOURCE_SIZE_MAX, 1)
_REF = _uint(protocol.REFS_MAX, 1)
_TIME = _uint(EPOCH_MS_MAX)
_SHA256 = _bytes(SHA256_SIZE, SHA256_SIZE)
_REASON = _text(protocol.REASON_SIZE_MAX)

_DURABLE = (protocol.REPORT, protocol.STATE, protocol.EVENT, protocol.NODE, protocol.POD)
_KIND_MAX = protocol.LOG
_GRAMMAR: Mapping[int, tuple[Callable[..., Message], int, tuple[Field, ...]]] = {
    # kind: what it becomes, how many fields it has at least, its fields
    protocol.HELLO: (Hello, 4, (_VERSION, _VERSION, _bytes(DIGEST_SIZE, DIGEST_SIZE), _info)),
    protocol.HAVE: (Have, 2, (_bool, _held)),
    protocol.ACK: (Ack, 1, (_SEQ, _true)),
    protocol.NACK: (Nack, 3, (_SEQ, _uint(255), _REASON)),
    protocol.BLOBGET: (BlobGet, 3, (_SHA256, _uint(_UINT32_MAX), _uint(protocol.CHUNK_SIZE_MAX, 1))),
    protocol.NAME: (Name, 3, (_REF, _RESOURCE, _property)),
    protocol.REPORT: (RefReport, 4, (_SEQ, _REF, _value, _TIME, _text(protocol.VALUE_SIZE_MAX))),
    protocol.STATE: (RefState, 5, (_SEQ, _REF, _text(STATE_SIZE_MAX), _TIME, _REASON)),
    protocol.POD: (RawPod, 3, (_SEQ, _RESOURCE, _bytes(1, POD_SIZE_MAX))),
    protocol.LOG: (Log, 3, (_RESOURCE, _bool, _text(LOG_TEXT_MAX))),
    protocol.NODE: (RawNode, 2, (_SEQ, _node)),
    protocol.CSR: (Csr, 1, (_bytes(1, protocol.CSR_SIZE_MAX),)),
    protocol.EVENT: (RawEvent, 4, (_SEQ, _text(TOPIC_SIZE_MAX), _TIME, _bytes(0, protocol.MESSAGE_SIZE_MAX))),
}
