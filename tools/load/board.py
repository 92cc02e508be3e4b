"""A board that is not there: it speaks the protocol over bytes, with what it holds and nothing else.

It has no I/O, so the same one serves tests of the session alone, tests over a real connection, and load.
It is strict where a real board is: sequence numbers must follow, a window must be kept.
"""

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

import cbor2

from motelet import protocol

CHUNK = protocol.CHUNK_SIZE_MAX


class BridgeError(Exception):
    """The bridge has broken the protocol; the text says how."""


def digest(held: Mapping[str, str]) -> bytes:
    """The digest of HELLO over resource -> version."""
    total = bytearray(8)
    for resource, version in held.items():
        protocol.digest_xor(total, protocol.digest_item(resource, version))
    return bytes(total)


class SimulatedBoard:
    """`flash` survives `power_cut`; everything else is of the present connection.

    `out` are messages to be sent to the bridge. `accept` decides on a content: None to store it, or
    a code and a reason to refuse it. `page`: entries of one HAVE.
    """

    def __init__(self, window: int = 8, max_message: int = 4096, page: int = 3) -> None:
        self.flash: dict[str, tuple[str, bytes]] = {}
        self.published: list[tuple[str, bytes]] = []
        self.window = window
        self.max_message = max_message
        self.page = page
        self.accept: Any = lambda resource, content: None
        self.keeps_log = True
        self.log: list[list[Any]] = []
        self._handlers: Mapping[int, Callable[..., Any]] = {
            protocol.WELCOME: self._welcome,
            protocol.LIST: self._list,
            protocol.SYNCED: self._synced,
            protocol.ACK: self._ack,
            protocol.NACK: self._nack,
            protocol.PUT: self._put,
            protocol.DELETE: self._delete,
            protocol.PUTBLOB: self._putblob,
            protocol.BLOB: self._blob,
            protocol.TIME: lambda epoch_ms: None,
            protocol.PUBLISH: self._publish,
            protocol.RENEW: lambda: None,
            protocol.CERTIFICATE: lambda certificate: None,
        }
        self.power_cut()

    def power_cut(self) -> None:
        """Lose the connection and all that is in RAM."""
        self.bridge_window = 0
        self.out: list[bytes] = []
        self.connected = self.synced = False
        self.rx_seq = self.tx_seq = 0
        self.acked = 0
        self.nacks: dict[int, tuple[int, str]] = {}
        self.blob: Any = None
        self.refs: dict[tuple[str, str | None], int] = {}

    @property
    def held(self) -> dict[str, str]:
        return {resource: version for resource, (version, _) in self.flash.items()}

    def hello(self, **info: Any) -> None:
        info = {"window": self.window, "max_message": self.max_message, **info}
        self.send(protocol.HELLO, protocol.VERSION, protocol.VERSION, digest(self.held), info)

    def send(self, *fields: Any) -> None:
        self.out.append(cbor2.dumps(list(fields)))

    def take_out(self) -> list[bytes]:
        out, self.out = self.out, []
        return out

    # -- what comes down ---------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        _require(len(data) <= self.max_message, f"a message of {len(data)} bytes")
        try:
            message = cbor2.loads(data)
        except cbor2.CBORDecodeError as error:
            raise BridgeError(f"the bridge sent what is not CBOR: {error}") from error
        if self.keeps_log:
            self.log.append(message)
        handler = self._handlers.get(message[0])
        if handler is None:
            raise BridgeError(f"the bridge sent a message of the kind {message[0]}")
        handler(*message[1:])

    def kinds(self) -> list[int]:
        """The kinds of all messages received, oldest first."""
        return [each[0] for each in self.log]

    def _welcome(self, version: int, epoch_ms: int, window: int) -> None:
        _require(not self.connected, "a second WELCOME")
        self.connected = version == protocol.VERSION
        self.bridge_window = window

    def _list(self) -> None:
        entries = list(self.held.items())
        for start in range(0, len(entries), self.page) or (0,):
            part = dict(entries[start : start + self.page])
            self.send(protocol.HAVE, start + self.page < len(entries), part)

    def _synced(self) -> None:
        _require(not self.synced, "a second SYNCED")
        self.synced = True

    def _next(self, seq: int) -> None:
        _require(seq == self.rx_seq + 1, f"message {seq} after {self.rx_seq}")
        self.rx_seq = seq

    def _put(self, seq: int, resource: str, version: str, content: bytes) -> None:
        self._next(seq)
        self._store(seq, resource, version, content)
        self.send(protocol.ACK, seq)

    def _publish(self, seq: int, topic: str, payload: bytes) -> None:
        self._next(seq)
        if topic == "refuse/this":
            self.send(protocol.NACK, seq, protocol.INVALID, "no EventBus")
        else:
            self.published.append((topic, payload))
        self.send(protocol.ACK, seq)

    def _store(self, seq: int, resource: str, version: str, content: bytes) -> bool:
        refusal = self.accept(resource, content)
        if refusal is not None:
            self.send(protocol.NACK, seq, *refusal)
            return False
        self.flash[resource] = (version, content)
        return True

    def _delete(self, seq: int, resource: str) -> None:
        self._next(seq)
        self.flash.pop(resource, None)
        self.send(protocol.ACK, seq)

    def _putblob(self, seq: int, resource: str, version: str, total: int, digest: bytes) -> None:
        self._next(seq)
        _require(self.blob is None, "a second blob at a time")
        self.blob = (seq, resource, version, total, digest, bytearray())
        self.send(protocol.ACK, seq)
        self.send(protocol.BLOBGET, digest, 0, CHUNK if total > CHUNK else total)

    def _blob(self, digest: bytes, offset: int, total: int, chunk: bytes) -> None:
        seq, resource, version, expected, wanted, data = self.blob
        _require((digest, offset, total) == (wanted, len(data), expected), "a part of a blob not asked for")
        data += chunk
        if len(data) < expected:
            self.send(protocol.BLOBGET, digest, len(data), min(CHUNK, expected - len(data)))
            return
        self.blob = None
        _require(sha256(data).digest() == digest, "a blob of another digest")
        if self._store(seq, resource, version, bytes(data)):
            self.send(protocol.ACK, seq, True)

    # -- what goes up ------------------------------------------------------------------------

    def ref(self, resource: str, prop: str | None) -> int:
        """The number that stands for a property, or with None for the device; said if it was not yet."""
        if (resource, prop) not in self.refs:
            self.refs[(resource, prop)] = len(self.refs) + 1
            self.send(protocol.NAME, self.refs[(resource, prop)], resource, prop)
        return self.refs[(resource, prop)]

    def report(self, resource: str, prop: str, value: Any, epoch_ms: int, *observed: str) -> int:
        """Report a value; -> its sequence number."""
        ref = self.ref(resource, prop)
        self.tx_seq += 1
        self.send(protocol.REPORT, self.tx_seq, ref, value, epoch_ms, *observed)
        return self.tx_seq

    def state(self, resource: str, state: str, epoch_ms: int, reason: str = "") -> int:
        """Report a device's state; -> its sequence number."""
        ref = self.ref(resource, None)
        self.tx_seq += 1
        self.send(protocol.STATE, self.tx_seq, ref, state, epoch_ms, reason)
        return self.tx_seq

    def event(self, topic: str, payload: bytes, epoch_ms: int = 1) -> int:
        """Publish an event; -> its sequence number."""
        self.tx_seq += 1
        self.send(protocol.EVENT, self.tx_seq, topic, epoch_ms, payload)
        return self.tx_seq

    def node(self, **fields: Any) -> int:
        """Say something of itself; -> its sequence number."""
        self.tx_seq += 1
        self.send(protocol.NODE, self.tx_seq, fields)
        return self.tx_seq

    def _ack(self, seq: int) -> None:
        _require(self.acked < seq <= self.tx_seq, f"ACK of {seq} after {self.acked} of {self.tx_seq}")
        self.acked = seq

    def _nack(self, seq: int, code: int, reason: str) -> None:
        _require(self.acked < seq <= self.tx_seq, f"NACK of {seq} after the ACK that covers it")
        _require(len(reason.encode()) <= protocol.REASON_SIZE_MAX, "a reason that is too long")
        self.nacks[seq] = (code, reason)


def _require(held: bool, otherwise: str) -> None:
    if not held:
        raise BridgeError(f"the bridge sent {otherwise}")
