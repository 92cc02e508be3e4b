"""The backend: what users ask for and what is stored of it, durable, and a bridge's view of it.

Views lag behind as those of an API server do, writes take time and fail now and then, and what a bridge that
dies was writing is written or not.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from cloud_bridge.backends import podstatus
from cloud_bridge.backends.base import (
    DEVICE,
    POD,
    BackendError,
    Body,
    EdgeEvent,
    FieldError,
    Key,
    NoObjectError,
    PodChange,
    RefusedError,
    StatusChange,
    Token,
    TokenRequest,
)
from cloud_bridge.backends.status import merge
from motelet.tools.simulate.ledger import Ledger
from motelet.tools.simulate.schedule import MS, SECOND, SHARED, Schedule

LAG_MAX = 300 * MS
WRITE_MAX = 20 * MS


class Cloud:
    """What is durable."""

    def __init__(self, schedule: Schedule, ledger: Ledger, rng: random.Random) -> None:
        self.schedule = schedule
        self.ledger = ledger
        self.rng = rng
        self.objects: dict[Key, Body] = {}
        self.deleted_at: dict[str, int] = {}
        """Resource to when it was deleted last."""
        self.failing_until = self.slow_until = 0
        self.view: View | None = None
        self._status: dict[Key, dict[str, Any]] = {}

    def put(self, body: Body) -> None:
        """A user creates or replaces an object."""
        key = Key(body["kind"], body["metadata"]["namespace"], body["metadata"]["name"])
        self.objects[key] = body
        if self.view is not None:
            self.view.follow(key)

    def delete(self, key: Key) -> None:
        """A user deletes an object, and its status with it."""
        del self.objects[key]
        self._status.pop(key, None)
        self.deleted_at[f"{key.namespace}/{key.kind.lower()}/{key.name}"] = self.schedule.now
        if self.view is not None:
            self.view.follow(key)

    def status(self, name: str) -> Mapping[str, Any] | None:
        """The DeviceStatus of the Device with this resource, None when there is no such Device."""
        namespace, _, rest = name.partition("/device/")
        key = Key(DEVICE, namespace, rest)
        return self._status.get(key, {}) if key in self.objects else None

    def write(self, key: Key, change: StatusChange) -> None:
        """Store a change of a DeviceStatus. NoObjectError when there is no such Device."""
        if key not in self.objects:
            raise NoObjectError(str(key))
        self.ledger.stored(f"{key.namespace}/device/{key.name}", change)
        self._status[key] = merge(self._status.get(key, {}), change)

    def pod(self, resource: str) -> Body | None:
        """The Pod with this resource."""
        namespace, _, name = resource.partition("/pod/")
        return self.objects.get(Key(POD, namespace, name))

    def write_pod(self, key: Key, change: PodChange) -> None:
        """Store a change of a Pod's status, or remove it. NoObjectError when there is no such Pod."""
        body = self.objects.get(key)
        if body is None or body["metadata"]["uid"] != change.uid:
            raise NoObjectError(str(key))
        if change.deleted:
            self.delete(key)
            return
        before = body.get("status", {})
        status = podstatus.merge(before, change.status, f"{self.schedule.now}")
        if status != before:
            self.ledger.stored_pod(f"{key.namespace}/pod/{key.name}", change.uid, status)
            self.put({**body, "status": status})


class BoardNodes:
    """Whom CloudHub tells of its boards: cloud_bridge.backends.base.Nodes. Looks that it keeps the order."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._busy: set[str] = set()
        self._connected: set[str] = set()

    async def connect(
        self, node: str, _info: Mapping[str, Any], _address: str, _drop: Callable[[str], None]
    ) -> None:
        await self._wait(node, "connected")
        if self._cloud.failing_until > self._cloud.schedule.now and self._cloud.rng.random() < 0.2:
            raise BackendError("the API server is not available")
        self._connected.add(node)

    def heard(self, node: str, _epoch_ms: int) -> None:
        self._look(node, "was heard")

    def status(self, node: str, _fields: Mapping[str, Any]) -> None:
        self._look(node, "said how it is")

    async def disconnect(self, node: str) -> None:
        await self._wait(node, "disconnected")
        self._connected.discard(node)

    def session(self, _node: str) -> int:
        return 0  # one bridge

    def _look(self, node: str, what: str) -> None:
        if node not in self._connected:
            self._cloud.ledger.fail(f"{node} {what}, and is not connected")

    async def _wait(self, node: str, what: str) -> None:
        """It takes a while, and meanwhile nothing else is said of this node."""
        if node in self._busy:
            self._cloud.ledger.fail(f"{node} is {what} while something else about it is under way")
        self._busy.add(node)
        try:
            await asyncio.sleep(self._cloud.rng.randrange(WRITE_MAX) / SECOND)
        finally:
            self._busy.discard(node)


class View:
    """The backend as one bridge sees it: cloud_bridge.backends.base.Backend."""

    def __init__(self, cloud: Cloud, late: bool) -> None:
        """With `late` some of the objects are found only after a while, and until then it is not synced."""
        self.nodes = BoardNodes(cloud)
        self._cloud = cloud
        self._dead = False
        self._objects = dict(cloud.objects)
        self._synced = not late
        self._listeners: list[Callable[[frozenset[Key]], None]] = []
        if late:
            for key in cloud.objects:
                if cloud.rng.random() < 0.3:
                    del self._objects[key]
            after = cloud.rng.randrange(SECOND, 20 * SECOND)
            cloud.schedule.at(cloud.schedule.now + after, SHARED, self._sync)
        cloud.view = self

    def follow(self, key: Key) -> None:
        """`key` has changed; this view will know it a little later."""
        cloud = self._cloud
        cloud.schedule.at(cloud.schedule.now + cloud.rng.randrange(LAG_MAX), SHARED, self._see, key)

    def die(self) -> None:
        """The bridge is gone, in the middle of whatever it did."""
        self._dead = True

    def _see(self, key: Key) -> None:
        if self._dead:
            return
        if key in self._cloud.objects:
            self._objects[key] = self._cloud.objects[key]
        else:
            self._objects.pop(key, None)
        self._tell(frozenset((key,)))

    def _sync(self) -> None:
        if not self._dead:
            changed = frozenset(self._cloud.objects.keys() - self._objects.keys())
            self._objects = dict(self._cloud.objects)
            self._synced = True
            self._tell(changed)

    def _tell(self, keys: frozenset[Key]) -> None:
        for listener in self._listeners:
            listener(keys)

    # -- what controllers call ---------------------------------------------------------------

    async def start(self) -> None:
        """Everything was read by now."""

    async def run(self) -> None:
        """The schedule does it."""

    async def stop(self) -> None:
        self._dead = True

    def synced(self, node: str | None = None) -> bool:
        return self._synced

    def get(self, key: Key) -> Body | None:
        return self._objects.get(key)

    def keys(self, kind: str) -> Collection[Key]:
        return [key for key in self._objects if key.kind == kind]

    def watch(self, changed: Callable[[frozenset[Key]], None]) -> None:
        self._listeners.append(changed)

    def complain(self, key: Key, errors: Sequence[FieldError]) -> None:
        """Users see what is wrong with their objects in the log of the bridge."""

    def write_delay(self, _key: Key) -> float:
        return 0.0

    def refer(self, kind: str, keys: Collection[Key]) -> None:
        """All objects are shown anyway."""

    def tell(self, key: Key, reason: str, text: str, warning: bool) -> None:
        """Users see it in the log of the bridge."""

    async def write_pods(self, changes: Mapping[Key, PodChange]) -> Mapping[Key, Exception]:
        return await self._write_each(changes, self._cloud.write_pod)

    async def request_token(self, request: TokenRequest) -> Token:
        raise RefusedError("no pod of this world asks for a token")

    async def write_status(self, changes: Mapping[Key, StatusChange]) -> Mapping[Key, Exception]:
        return await self._write_each(changes, self._cloud.write)

    async def _write_each(
        self, changes: Mapping[Key, Any], store: Callable[[Key, Any], None]
    ) -> Mapping[Key, Exception]:
        failures: dict[Key, Exception] = {}

        def write() -> None:
            for key, change in changes.items():
                if self._cloud.failing_until > self._cloud.schedule.now and self._cloud.rng.random() < 0.7:
                    failures[key] = BackendError("the API server is not available")
                    continue
                try:
                    store(key, change)
                except NoObjectError as error:
                    failures[key] = error

        await self._write(write)
        return failures

    async def write_events(self, events: Sequence[EdgeEvent]) -> None:
        def write() -> None:
            if self._cloud.failing_until > self._cloud.schedule.now:
                raise BackendError("the API server is not available")
            for event in events:
                self._cloud.ledger.arrived_event(event.topic)

        await self._write(write)

    async def _write(self, write: Callable[[], None]) -> None:
        """Do it now or in a while; who dies between will not know."""
        cloud = self._cloud
        slow = 100 if cloud.slow_until > cloud.schedule.now else 1
        delay = slow * cloud.rng.randrange(WRITE_MAX) / SECOND
        early = cloud.rng.random() < 0.5
        if early and not self._dead:
            write()
        await asyncio.sleep(delay)
        if not early and not self._dead:
            write()
        if self._dead:
            raise BackendError("the bridge is gone")
