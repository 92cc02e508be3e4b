"""One board's session: the bridge's end of the link in `core/motelet/protocol.cddl`, without I/O.

Bytes in, events and bytes out: `receive` takes one WebSocket message and returns what it says,
`data_to_send` gives one message at a time and makes it only then. Nothing a board sends raises
here: a message that breaks the grammar is refused by its number, or ends the session if it has
none (`closing`). A message from the board is acknowledged when `settle` was called for it, which
the caller does after the backend took it and not before.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cbor2

from cloud_bridge.cloudhub import messages
from cloud_bridge.cloudhub.delivery import Delivery
from cloud_bridge.cloudhub.intake import Intake
from cloud_bridge.cloudhub.messages import MessageError
from cloud_bridge.resources import Desired, Event, PodReport, Refusal, Report, Settle, State, Upward
from motelet import protocol

HELD_MAX = 4096
"""Resources that a board may say it holds."""
OUTPUT_QUEUE_MAX = 64
"""Answers that may wait to be sent; a board that asks on without reading is cut off."""
PUBLICATION_SIZE_MAX = 1024
"""Bytes of what is published at the edge; a board takes no more."""
VERSION_MIN = VERSION_MAX = protocol.VERSION
"""The versions of the protocol that this bridge speaks."""
WINDOW_DEFAULT = 8
"""Messages under way to a board that names no window of its own."""
CLOSE_MALFORMED = 4002
"""WebSocket close code: the board broke the protocol."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The board said hello; `info` is what it says about itself."""

    info: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Delivered:
    """The board holds `resource` in `version`, durably; with None it has forgotten it."""

    resource: str
    version: str | None


@dataclass(frozen=True, slots=True)
class Refused:
    """The board refuses to hold `resource` in `version` (None: to forget it)."""

    resource: str
    version: str | None
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Close:
    """Why the connection is to be closed: a WebSocket close code and the reason in words."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Requested:
    """The board asks for its next certificate, as it was told to: `certify` answers."""

    request: bytes


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What the board says of its own state; acknowledged already, for it is said anew on each connection."""

    fields: Mapping[str, Any]


Output = messages.Log | NodeStatus | Requested | Opened | Delivered | Refused | Upward


class Session:
    """The session of one connection. `epoch_ms` tells the time in milliseconds since 1970 UTC."""

    def __init__(self, epoch_ms: Callable[[], int]) -> None:
        self.closing: Close | None = None
        """Set once the session has ended; what `data_to_send` still gives goes out before the close."""
        self._epoch_ms = epoch_ms
        self._opened = False
        self._delivery = Delivery()
        self._intake = Intake(protocol.WINDOW_MAX)
        self._desired: Desired | None = None
        self._digest: bytes | None = None
        self._listed: dict[str, str] | None = None
        self._refs: dict[int, tuple[str, str | None]] = {}
        self._output: deque[bytes] = deque()
        self._synced = False
        self._unknown = False  # a report was refused because its device or property is not known here
        self._renews = False
        self._renewing = False
        self._requested = False

    @property
    def waiting(self) -> int:
        """How many messages are under way to the board or are to be sent."""
        return len(self._output) + self._delivery.waiting

    def receive(self, data: bytes) -> list[Output]:
        """Take one message of the board. Returns what it says; an ended session says nothing more."""
        if self.closing:
            return []
        try:
            message = messages.decode(data)
            if not self._opened and not isinstance(message, messages.Hello):
                raise MessageError("the first message is not HELLO")
            return _HANDLERS[type(message)](self, message)
        except MessageError as error:
            self._refuse(error)
            return []

    def desire(self, desired: Desired) -> None:
        """The board should hold `desired` from now on; to be called whenever that changes."""
        self._desired = desired
        self._delivery.desire(desired)
        if self._unknown:
            self._synced = self._unknown = False  # to be said again: what was not known may be now
        self._compare()

    def settle(self, seq: int, refusal: Refusal | None = None) -> None:
        """The backend holds the message `seq`, or `refusal` says why not.

        Raises ValueError if `seq` is not open.
        """
        self._intake.settle(seq, refusal)
        if refusal is not None and refusal.code in (protocol.NOT_YOURS, protocol.UNKNOWN):
            self._unknown = True

    def offer_again(self) -> bool:
        """Offer what the board had no room for anew; -> whether there is such."""
        return self._delivery.offer_again()

    def publish(self, topic: str, payload: bytes, settle: Settle) -> None:
        """Have `payload` published under `topic` on the board's EventBus, at least once.

        `settle` is told once: None when the board has it in flash, else why not. Raises ValueError for what
        the link cannot carry.
        """
        if not 0 < len(topic.encode()) <= messages.TOPIC_SIZE_MAX or any(each in topic for each in "+#\0"):
            raise ValueError(f"topic {topic[:64]!r} cannot be published to")
        if len(payload) > PUBLICATION_SIZE_MAX:
            raise ValueError(f"payload of {len(payload)} bytes, at most {PUBLICATION_SIZE_MAX}")
        self._delivery.publish(topic, payload, settle)

    def lost(self) -> None:
        """The connection is gone."""
        self._delivery.lost()

    def tell_time(self) -> None:
        """Send the board the time, for its clock drifts."""
        if self._opened and not self.closing:
            self._send(protocol.TIME, self._epoch_ms())

    def ask_log(self, resource: str, lines: int) -> None:
        """Ask the board for the newest `lines` lines of a container's log; `messages.Log` answers."""
        if self._opened and not self.closing:
            self._send(protocol.LOGGET, resource, lines)

    def renew(self) -> bool:
        """Have the board renew its certificate, if it can; -> whether it was told to just now."""
        if not self._renews or self._renewing or self.closing:
            return False
        self._renewing = True
        self._send(protocol.RENEW)
        return True

    def certify(self, certificate: bytes) -> None:
        """Give the board the certificate (DER) that it asked for."""
        if not self.closing:
            self._send(protocol.CERTIFICATE, certificate)

    def fail(self, reason: str) -> None:
        """End the session: the board broke the protocol."""
        self.end(CLOSE_MALFORMED, reason)

    def end(self, code: int, reason: str) -> None:
        """End the session: nothing more is taken from the board. The first reason counts."""
        self.closing = self.closing or Close(code, reason)

    def data_to_send(self) -> bytes | None:
        """The next message for the board, None when there is none now."""
        if self._output:
            return self._output.popleft()
        if self.closing or not self._opened:
            return None
        message = self._intake.next_message() or self._delivery.next_message()
        if message is None and self._delivery.done and not self._synced:
            self._synced = True
            return cbor2.dumps([protocol.SYNCED])
        return message

    # -- how it begins ------------------------------------------------------------------------

    def _hello(self, hello: messages.Hello) -> list[Output]:
        if self._opened:
            raise MessageError("a second HELLO")
        version = min(hello.version_max, VERSION_MAX)
        if version < max(hello.version_min, VERSION_MIN):
            self._send(protocol.WELCOME, 0, self._epoch_ms(), protocol.WINDOW_MAX)
            mine = f"{VERSION_MIN} to {VERSION_MAX}"
            self.end(protocol.CLOSE_VERSION, f"the bridge speaks versions {mine}")
            return []
        self._send(protocol.WELCOME, version, self._epoch_ms(), protocol.WINDOW_MAX)
        self._opened = True
        self._renews = hello.info.get("renew") is True
        size_max = hello.info.get("max_message", protocol.MESSAGE_SIZE_MIN)
        window = hello.info.get("window", WINDOW_DEFAULT)
        self._delivery.open(window, min(size_max, protocol.MESSAGE_SIZE_MAX))
        self._digest = hello.digest
        self._compare()
        return [Opened(hello.info)]

    def _compare(self) -> None:
        """Once it is known what the board should hold: does it hold just that? If not, ask what it holds."""
        if self._digest is None or self._desired is None:
            return
        wanted = {resource: content.version for resource, content in self._desired.items.items()}
        total = bytearray(messages.DIGEST_SIZE)
        for resource, version in wanted.items():
            protocol.digest_xor(total, protocol.digest_item(resource, version))
        if total == self._digest:
            self._delivery.start(wanted)
        elif not any(self._digest):
            self._delivery.start({})
        else:
            self._listed = {}
            self._send(protocol.LIST)
        self._digest = None

    def _have(self, have: messages.Have) -> list[Output]:
        if self._listed is None:
            raise MessageError("HAVE that was not asked for")
        if len(self._listed) + len(have.held) > HELD_MAX:
            raise MessageError(f"more than {HELD_MAX} resources held")
        self._listed.update(have.held)
        if not have.more:
            self._delivery.start(self._listed)
            self._listed = None
        return []

    # -- what the board says about what it was sent ------------------------------------------

    def _ack(self, ack: messages.Ack) -> list[Output]:
        return [Delivered(sent.resource, sent.version) for sent in self._delivery.ack(ack.seq, ack.alone)]

    def _nack(self, nack: messages.Nack) -> list[Output]:
        sent = self._delivery.nack(nack.seq, nack.code, nack.reason)
        return [Refused(sent.resource, sent.version, Refusal(nack.code, nack.reason))] if sent else []

    def _blob_get(self, request: messages.BlobGet) -> list[Output]:
        self._push(self._delivery.blob(request))
        return []

    # -- what the board reports --------------------------------------------------------------

    def _name(self, name: messages.Name) -> list[Output]:
        self._refs[name.ref] = (name.resource, name.property)
        return []

    def _report(self, report: messages.RefReport) -> list[Output]:
        resource, prop = self._refs.get(report.ref, (None, None))
        if resource is None or prop is None:
            raise MessageError(f"{report.ref} names no property", report.seq, protocol.UNKNOWN)
        self._intake.arrive(report.seq)
        observed = report.observed_desired
        return [Report(report.seq, resource, prop, report.value, report.epoch_ms, observed)]

    def _state(self, state: messages.RefState) -> list[Output]:
        resource, prop = self._refs.get(state.ref, (None, None))
        if resource is None or prop is not None:
            raise MessageError(f"{state.ref} names no device", state.seq, protocol.UNKNOWN)
        self._intake.arrive(state.seq)
        return [State(state.seq, resource, state.state, state.epoch_ms, state.reason)]

    def _event(self, event: messages.RawEvent) -> list[Output]:
        self._intake.arrive(event.seq)
        return [Event(event.seq, event.topic, event.epoch_ms, event.payload)]

    def _pod(self, pod: messages.RawPod) -> list[Output]:
        self._intake.arrive(pod.seq)
        return [PodReport(pod.seq, pod.resource, pod.content)]

    def _node(self, node: messages.RawNode) -> list[Output]:
        self._intake.arrive(node.seq)
        self._intake.settle(node.seq, None)
        return [NodeStatus(node.fields)]

    def _csr(self, csr: messages.Csr) -> list[Output]:
        if not self._renewing or self._requested:
            raise MessageError("CSR that was not asked for")
        self._requested = True
        return [Requested(csr.request)]

    # -- sending and ending ------------------------------------------------------------------

    def _refuse(self, error: MessageError) -> None:
        """Refuse by number what has one; end the session over what has none."""
        if error.seq is None or not self._opened:
            self.fail(error.reason)
            return
        try:
            self._intake.arrive(error.seq)
        except MessageError as broken:
            self.fail(broken.reason)
            return
        self._intake.settle(error.seq, Refusal(error.code, error.reason))

    def _send(self, *fields: Any) -> None:
        self._push(cbor2.dumps(fields))

    def _push(self, message: bytes) -> None:
        if len(self._output) >= OUTPUT_QUEUE_MAX:
            self._output.clear()
            self.fail(f"{OUTPUT_QUEUE_MAX} answers were not read")
            return
        self._output.append(message)


_HANDLERS: Mapping[type, Callable[[Session, Any], list[Output]]] = {
    messages.Hello: Session._hello,
    messages.Have: Session._have,
    messages.Ack: Session._ack,
    messages.Nack: Session._nack,
    messages.BlobGet: Session._blob_get,
    messages.Name: Session._name,
    messages.RefReport: Session._report,
    messages.RefState: Session._state,
    messages.RawEvent: Session._event,
    messages.Csr: Session._csr,
    messages.RawNode: Session._node,
    messages.RawPod: Session._pod,
    messages.Log: lambda _, log: [log],
}
