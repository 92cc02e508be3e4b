"""What still has to reach a board, derived from two states: what it should hold and what it holds.

Nothing here remembers an event. A resource is worth a message when the two states differ in it, no
message about it is under way, and the board has not refused just this version. So a change that is
undone before its turn costs nothing, and of ten versions in a row a slow board gets the newest.

Publications are the exception: messages, not state. Each waits here until the board has it or has refused
it, and its sender is told which.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import cbor2

from cloud_bridge import metrics
from cloud_bridge.cloudhub.messages import BlobGet, MessageError
from cloud_bridge.resources import Desired, Refusal, Settle
from motelet import protocol

PUBLICATIONS_MAX = 64
"""Publications that wait for one board."""
_UNTRIED = object()
_ack_seconds = metrics.ack_seconds.labels("down")
_HEAD_SIZE_MAX = 1 + 1 + 9 + 3 + 3 + 5
"""Bytes of a PUT besides its texts and its content: the heads of CBOR."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A message under way: `version` None means that the resource is to be forgotten."""

    resource: str
    version: str | None
    at: float
    """When it was sent, in seconds of the clock that `Delivery` was given."""
    blob: bool = False


@dataclass(frozen=True, slots=True)
class _Blob:
    sha256: bytes
    data: bytes


class Delivery:
    """The downward half of a session: numbers messages and keeps a window of them under way.

    `desire`, `open` and `start` may come in any order; nothing is sent before all three did.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._window = 0
        self._message_size_max = 0
        self._desired = Desired({}, synced=False)
        self._started = False
        self._held: dict[str, str] = {}
        self._seq = 0
        self._sent: dict[int, Sent] = {}
        self._busy: set[str] = set()
        self._todo: dict[str, None] = {}
        self._refused: dict[str, str | None] = {}
        self._no_room: set[str] = set()
        self._blob: _Blob | None = None
        self._publications: deque[tuple[str, bytes, Settle]] = deque()
        self._published: dict[int, Settle] = {}

    def open(self, window: int, message_size_max: int) -> None:
        """The board takes `window` messages at a time, none larger than `message_size_max` bytes."""
        self._window = window
        self._message_size_max = message_size_max

    def start(self, held: Mapping[str, str]) -> None:
        """The board holds `held`, resource to version."""
        self._held = dict(held)
        self._started = True
        self._plan()

    def desire(self, desired: Desired) -> None:
        """Aim at `desired` from now on."""
        self._desired = desired
        self._plan()

    def publish(self, topic: str, payload: bytes, settle: Settle) -> None:
        """Have a message published on the board's EventBus; `settle` is told what became of it."""
        if len(self._publications) >= PUBLICATIONS_MAX:
            settle(Refusal(protocol.STORAGE_FULL, f"{PUBLICATIONS_MAX} publications wait already"))
        else:
            self._publications.append((topic, payload, settle))

    def lost(self) -> None:
        """The link is gone, and with it what was not acknowledged."""
        settles = [*self._published.values(), *(settle for _, _, settle in self._publications)]
        self._published.clear()
        self._publications.clear()
        for settle in settles:
            settle(Refusal(protocol.UNKNOWN, "the link was lost before the board acknowledged it"))

    @property
    def done(self) -> bool:
        """Whether the board holds all that it is known to have to hold, but for what it refused."""
        return self._started and self._desired.synced and not self._todo and not self._sent

    @property
    def waiting(self) -> int:
        """How many messages are under way or to be sent."""
        under_way = len(self._sent) + len(self._published)
        return under_way + len(self._todo) + len(self._publications)

    def next_message(self) -> bytes | None:
        """The next message, numbered, made from the state of this moment; None when there is none now."""
        if len(self._sent) + len(self._published) >= self._window:
            return None
        while self._started and self._publications:
            topic, payload, settle = self._publications.popleft()
            message = cbor2.dumps([protocol.PUBLISH, self._seq + 1, topic, payload])
            if len(message) <= self._message_size_max:
                self._seq += 1
                self._published[self._seq] = settle
                return message
            settle(Refusal(protocol.TOO_LARGE, f"the board takes no message of {len(message)} bytes"))
        while self._todo:
            resource = next(iter(self._todo))
            del self._todo[resource]
            content = self._desired.items.get(resource)
            if content is None:
                return self._send(Sent(resource, None, self._now()), protocol.DELETE)
            size_max = _HEAD_SIZE_MAX + len(resource) + len(content.version) + len(content.data)
            if size_max <= self._message_size_max:
                sent = Sent(resource, content.version, self._now())
                return self._send(sent, protocol.PUT, content.version, content.data)
            # A board receives one blob at a time; the plan made when that one is through has the next again.
            if self._blob is None:
                self._blob = _Blob(sha256(content.data).digest(), content.data)
                what = (content.version, len(content.data), self._blob.sha256)
                sent = Sent(resource, content.version, self._now(), blob=True)
                return self._send(sent, protocol.PUTBLOB, *what)
        return None

    def ack(self, seq: int, alone: bool) -> list[Sent]:
        """The board holds what was sent up to `seq`, or with `alone` just what was sent as `seq`.

        Returns what was not settled before. Raises MessageError for a number that was never used.
        """
        self._check(seq)
        for each in [] if alone else [each for each in self._published if each <= seq]:
            self._published.pop(each)(None)
        if alone:
            seqs = [seq] if seq in self._sent else []
        else:
            seqs = [each for each, sent in self._sent.items() if each <= seq and not sent.blob]
        return [self._settle(each) for each in seqs]

    def nack(self, seq: int, code: int, reason: str = "") -> Sent | None:
        """The board refuses `seq`. Returns what that was; None for a publication, or what was settled before.

        Raises MessageError for a number that was never used.
        """
        self._check(seq)
        if seq in self._published:
            self._published.pop(seq)(Refusal(code, reason))
        if seq not in self._sent:
            return None
        sent = self._sent[seq]
        self._refused[sent.resource] = sent.version
        if code == protocol.STORAGE_FULL:
            self._no_room.add(sent.resource)
        return self._finish(seq)

    def offer_again(self) -> bool:
        """Offer anew what the board had no room for: it may have made some. -> whether there is such."""
        if not self._no_room:
            return False
        self._forgive()
        self._plan()
        return True

    def _forgive(self) -> None:
        for resource in self._no_room:
            self._refused.pop(resource, None)
        self._no_room.clear()

    def blob(self, request: BlobGet) -> bytes:
        """The BLOB message that answers `request`; its total is 0 when no such blob is under way."""
        known = self._blob is not None and self._blob.sha256 == request.sha256
        data = self._blob.data if self._blob and known else b""
        chunk = data[request.offset : request.offset + request.count]
        return cbor2.dumps([protocol.BLOB, request.sha256, request.offset, len(data), chunk])

    def _send(self, sent: Sent, kind: int, *fields: Any) -> bytes:
        self._seq += 1
        self._sent[self._seq] = sent
        self._busy.add(sent.resource)
        return cbor2.dumps([kind, self._seq, sent.resource, *fields])

    def _check(self, seq: int) -> None:
        if not 1 <= seq <= self._seq:
            raise MessageError(f"answer to message {seq}, the last one was {self._seq}")

    def _settle(self, seq: int) -> Sent:
        sent = self._sent[seq]
        _ack_seconds.observe(self._now() - sent.at)
        if sent.version is not None:
            self._held[sent.resource] = sent.version
        else:
            self._held.pop(sent.resource, None)
            self._forgive()
        return self._finish(seq)

    def _finish(self, seq: int) -> Sent:
        sent = self._sent.pop(seq)
        self._busy.discard(sent.resource)
        if sent.blob:
            self._blob = None
        if sent.blob or sent.version is None:
            self._plan()
        elif self._differs(sent.resource):
            self._todo[sent.resource] = None
        return sent

    def _plan(self) -> None:
        """Derive anew all that has to be sent. Deletions come first: they make room for the rest."""
        if self._started:
            gone = [each for each in self._held if each not in self._desired.items]
            self._todo = {each: None for each in (*gone, *self._desired.items) if self._differs(each)}

    def _differs(self, resource: str) -> bool:
        if resource in self._busy:
            return False
        content = self._desired.items.get(resource)
        version = content.version if content else None
        if self._held.get(resource) == version:
            return False
        if content is None and (not self._desired.synced or resource in self._desired.kept):
            return False
        return self._refused.get(resource, _UNTRIED) != version
