"""What boards report, merged into DeviceStatus: the newest of each value, in one write for many reports.

A report counts as taken when the backend holds its device's status with that value or a newer one
in it. A write that fails is tried again, with what came since; meanwhile the board keeps what was
not acknowledged, so nothing is lost when the bridge ends.

What is newest is decided by the order of arrival, not by the boards' clocks: a board sends only its
newest value of a property, a node has one session at a time, and a clock may have been wrong by
years until the bridge told the time.
"""

import asyncio
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice

from cloud_bridge import metrics
from cloud_bridge.backends.base import (
    DEVICE,
    Backend,
    BackendError,
    EdgeEvent,
    Key,
    LostError,
    NoObjectError,
    StateChange,
    StatusChange,
    TwinChange,
)
from cloud_bridge.devicecontroller import values
from cloud_bridge.devicecontroller.downstream import Downstream
from cloud_bridge.logs import Log
from cloud_bridge.resources import Event, Refusal, Report, Settle, State
from motelet import protocol

GATHER_SECONDS = 0.002
"""How long a first report waits for others to share its write."""
BATCH_MAX = 64
"""Devices in one write, so that one that comes late does not wait for thousands."""
RETRY_SECONDS_MIN = 0.2
RETRY_SECONDS_MAX = 10.0
"""How long to wait after a write that failed: doubling from the one to the other."""
ONLINE = "online"
NOT_ITS_OWN = "ReportedByOtherNode"

_log = Log("devicecontroller")


@dataclass(slots=True)
class _Pending:
    """What waits to be written for one device, and whom to tell."""

    twins: dict[str, TwinChange] = field(default_factory=dict)
    state: StateChange | None = None
    settle: list[Settle] = field(default_factory=list)
    session: int = 0

    def older(self, other: "_Pending") -> None:
        """Put `other` before this: what this has is newer."""
        newer = {name: _after(other.twins.get(name), twin) for name, twin in self.twins.items()}
        self.twins = {**other.twins, **newer}
        self.state = other.state if self.state is None else _state_after(other.state, self.state)
        self.settle = other.settle + self.settle


class Upstream:
    """Takes messages from boards and writes them to the backend. `run` does the writing."""

    def __init__(self, backend: Backend, downstream: Downstream) -> None:
        self._backend = backend
        self._downstream = downstream
        self._pending: dict[Key, _Pending] = {}
        self._events: list[tuple[EdgeEvent, Settle]] = []
        self._fresh: set[Key] = set()  # what was reported since `_wait` looked at all that is pending
        self._work = asyncio.Event()
        self._failing: set[Key | None] = set()

    def take(self, node: str, message: Report | State | Event, settle: Settle) -> None:
        """Take a message of `node`; `settle` is called when it is durable, or at once when it is refused."""
        if isinstance(message, Event):
            self._events.append((EdgeEvent(node, message.topic, message.epoch_ms, message.payload), settle))
            self._work.set()
            return
        key = _key(message.resource)
        refusal = self._refusal(node, key, message)
        if refusal is not None:
            settle(refusal)
            return
        session = self._backend.nodes.session(node)
        pending = self._pending.get(key)
        if pending is None or pending.session != session:
            # What another bridge has had reports of since is not written any more.
            pending = _Pending(session=session)
        if isinstance(message, Report):
            try:
                twin = self._twin(key, message)
            except ValueError as error:
                settle(Refusal(protocol.INVALID, f"{message.property}: {error}"))
                return
            pending.twins[message.property] = _after(pending.twins.get(message.property), twin)
        else:
            pending.state = _state_after(pending.state, _state(message))
        pending.settle.append(settle)
        self._pending[key] = pending
        self._fresh.add(key)
        self._work.set()

    async def run(self) -> None:
        """Write what was taken, until cancelled; what is under way is finished by `flush`."""
        retry = RETRY_SECONDS_MIN
        while True:
            await self._wait()
            await asyncio.sleep(GATHER_SECONDS)
            if await self._write(self._ready()):
                retry = RETRY_SECONDS_MIN
            else:
                await asyncio.sleep(retry)
                retry = min(retry * 2, RETRY_SECONDS_MAX)

    async def flush(self) -> bool:
        """Write all that waits, once. False when some of it has to be tried again."""
        return await self._write(list(self._pending))

    async def _wait(self) -> None:
        """Until there is something that may be written now.

        Thousands may wait for their time: they are looked at once, and then only what comes in addition.
        """
        self._fresh.clear()
        if self._events or self._ready():
            return
        delay = min(map(self._backend.write_delay, self._pending), default=float("inf"))
        now = asyncio.get_running_loop().time
        until = now() + delay
        while not self._events and delay > 0:
            self._work.clear()
            try:
                async with asyncio.timeout_at(until if until < float("inf") else None):
                    await self._work.wait()
            except TimeoutError:
                return
            delay = min(map(self._backend.write_delay, self._fresh), default=float("inf"))
            self._fresh.clear()
            until = min(until, now() + delay)

    def _ready(self) -> list[Key]:
        """The Devices that may be written now, those that waited longest first."""
        ready = (key for key in self._pending if self._backend.write_delay(key) <= 0)
        return list(islice(ready, BATCH_MAX))

    async def _write(self, keys: Collection[Key]) -> bool:
        events_done = await self._flush_events()
        pending = {key: self._pending.pop(key) for key in keys if key in self._pending}
        if not pending:
            return events_done
        changes = {key: self._change(key, each) for key, each in pending.items()}
        failures = await self._backend.write_status(changes)
        for key, each in pending.items():
            self._settle(key, each, failures.get(key))
        return events_done and not any(isinstance(each, BackendError) for each in failures.values())

    # -- one message -------------------------------------------------------------------------

    def _refusal(self, node: str, key: Key, message: Report | State) -> Refusal | None:
        if self._downstream.owner(key) != node:
            if self._backend.get(key) is not None:
                text = f"node {node} reported for this device, which is not its own"
                self._backend.tell(key, NOT_ITS_OWN, text, warning=True)
            # The same answer whether it exists or not: a board learns nothing about others' devices.
            return Refusal(protocol.NOT_YOURS, f"{message.resource} is not a device of this node")
        effective = self._downstream.device(key)
        if isinstance(message, Report) and effective is not None and message.property not in effective.types:
            return Refusal(protocol.UNKNOWN, f"{message.resource} has no property {message.property}")
        return None

    def _twin(self, key: Key, report: Report) -> TwinChange:
        effective = self._downstream.device(key)
        kind = effective.types[report.property] if effective else values.type_of(report.value)
        text = values.to_text(kind, report.value)
        return TwinChange(text, values.twin_type(kind), str(report.epoch_ms), report.observed_desired)

    # -- writing -----------------------------------------------------------------------------

    def _change(self, key: Key, pending: _Pending) -> StatusChange:
        effective = self._downstream.device(key)
        types = effective.types if effective else None
        return StatusChange(pending.twins, pending.state, types, pending.session)

    def _settle(self, key: Key, pending: _Pending, failure: Exception | None) -> None:
        if isinstance(failure, BackendError):
            self._failed(key, failure)
            newer = self._pending.setdefault(key, _Pending(session=pending.session))
            if newer.session == pending.session:
                newer.older(pending)
            self._work.set()
            return
        self._recovered(key)
        if isinstance(failure, LostError):
            _log.info("report left to another bridge", key=key, error=failure)
            return
        refusal = None
        if isinstance(failure, NoObjectError):
            refusal = Refusal(protocol.UNKNOWN, f"there is no {key} any more")
        else:
            for twin in pending.twins.values():
                metrics.twin_lag_seconds.observe(time.time() - int(twin.timestamp) / 1000)
        for settle in pending.settle:
            settle(refusal)

    async def _flush_events(self) -> bool:
        events, self._events = self._events, []
        if not events:
            return True
        refusal: Refusal | None = None
        try:
            await self._backend.write_events([event for event, _ in events])
        except BackendError as error:
            self._failed(None, error)
            self._events = events + self._events
            self._work.set()
            return False
        except NoObjectError as error:
            refusal = Refusal(protocol.UNSUPPORTED, str(error))
        self._recovered(None)
        for _, settle in events:
            settle(refusal)
        return True

    def _failed(self, key: Key | None, error: BackendError) -> None:
        if key not in self._failing:
            self._failing.add(key)
            _log.error("status not written, will try again", **_named(key), error=error)

    def _recovered(self, key: Key | None) -> None:
        if key in self._failing:
            self._failing.discard(key)
            _log.info("status written again", **_named(key))


def _named(key: Key | None) -> Mapping[str, object]:
    return {"key": "events" if key is None else key}


def _key(resource: str) -> Key:
    namespace, _, rest = resource.partition("/")
    kind, _, name = rest.partition("/")
    # Of another type there is no Device: a name with a slash in it belongs to none.
    return Key(DEVICE, namespace, name if kind == "device" else resource)


def _state(message: State) -> StateChange:
    online = _rfc3339(message.epoch_ms) if message.state == ONLINE else None
    return StateChange(message.state, message.reason, str(message.epoch_ms), online)


def _after(before: TwinChange | None, twin: TwinChange) -> TwinChange:
    """`twin`, with what only the one `before` it says."""
    if before is None or twin.observed_desired is not None:
        return twin
    return replace(twin, observed_desired=before.observed_desired)


def _state_after(before: StateChange | None, state: StateChange) -> StateChange:
    """`state`, with what only the one `before` it says."""
    if before is None or state.last_online_time is not None:
        return state
    return replace(state, last_online_time=before.last_online_time)


def _rfc3339(epoch_ms: int) -> str:
    """The moment as Kubernetes writes it, in UTC and whole seconds: ``2026-11-22T21:05:00Z``."""
    return datetime.fromtimestamp(epoch_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
