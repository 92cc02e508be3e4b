"""A backend in memory: the least that controllers may rely on, and faults to order."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import yaml

from cloud_bridge.backends.base import (
    BackendError,
    Body,
    EdgeEvent,
    FieldError,
    Key,
    LostError,
    NoObjectError,
    StatusChange,
)
from cloud_bridge.backends.status import merge

MODEL = """
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: lamp-model, namespace: default}
spec:
  protocol: modbus
  protocolConfigData: {timeout: 300, slaveID: 9}
  properties:
  - name: power
    type: BOOLEAN
    accessMode: ReadWrite
    visitors: {protocolName: modbus, configData: {register: CoilRegister, offset: 0, limit: 1}}
  - name: level
    type: INT
    accessMode: ReadWrite
    minimum: "0"
    maximum: "100"
    unit: percent
    visitors: {protocolName: modbus, configData: {register: HoldingRegister, offset: 1, limit: 1}}
  - name: volts
    type: FLOAT
    accessMode: ReadOnly
  - name: label
    type: STRING
    accessMode: ReadWrite
"""
DEVICE = """
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: lamp, namespace: default}
spec:
  deviceModelRef: {name: lamp-model}
  nodeName: board-1
  protocol:
    protocolName: modbus
    configData: {communicateMode: TCP, ip: 10.0.0.9, port: 502, slaveID: 1}
  properties:
  - name: power
    desired: {value: "true"}
    reportCycle: 1000
    collectCycle: 100
    reportToCloud: true
  - name: level
    desired: {value: "40", metadata: {timestamp: "5"}}
    visitors: {configData: {offset: 7}}
"""


def model(**changes: Any) -> dict[str, Any]:
    """The model of a lamp; `changes` replace parts of its spec."""
    body: dict[str, Any] = yaml.safe_load(MODEL)
    body["spec"].update(changes)
    return body


def device(name: str = "lamp", **changes: Any) -> dict[str, Any]:
    """A lamp on board-1; `changes` replace parts of its spec."""
    body: dict[str, Any] = yaml.safe_load(DEVICE)
    body["metadata"]["name"] = name
    body["spec"].update(changes)
    return body


class MemoryNodes:
    """Implements `cloud_bridge.backends.base.Nodes`: keeps what it is told, raises `refuse` in `connect`."""

    def __init__(self) -> None:
        self.connected: dict[str, tuple[Mapping[str, Any], str, Callable[[str], None]]] = {}
        self.refuse: BackendError | None = None
        self.sessions: dict[str, int] = {}
        self.hold: asyncio.Event | None = None
        self.heard_ms: dict[str, int] = {}
        self.said: dict[str, Mapping[str, Any]] = {}

    async def connect(
        self, node: str, info: Mapping[str, Any], address: str, drop: Callable[[str], None]
    ) -> None:
        if self.hold is not None:
            await self.hold.wait()
        if self.refuse is not None:
            raise self.refuse
        self.connected[node] = info, address, drop

    def heard(self, node: str, epoch_ms: int) -> None:
        self.heard_ms[node] = epoch_ms

    def status(self, node: str, fields: Mapping[str, Any]) -> None:
        self.said[node] = fields

    async def disconnect(self, node: str) -> None:
        self.connected.pop(node, None)

    def session(self, node: str) -> int:
        return self.sessions.get(node, 0)


class MemoryBackend:
    """Implements `cloud_bridge.backends.base.Backend`."""

    def __init__(self) -> None:
        self.objects: dict[Key, Body] = {}
        self.nodes = MemoryNodes()
        self.is_synced = True
        self.complaints: dict[Key, Sequence[FieldError]] = {}
        self.status: dict[Key, dict[str, Any]] = {}
        self.writes: list[Mapping[Key, StatusChange]] = []
        self.events: list[EdgeEvent] = []
        self.has_events = True
        self.broken: set[Key | None] = set()
        self.hold: asyncio.Event | None = None
        self.delays: dict[Key, float] = {}
        self.told: list[tuple[Key, str, str, bool]] = []
        self.lost: set[Key] = set()
        self._listeners: list[Callable[[frozenset[Key]], None]] = []

    async def start(self) -> None: ...

    async def run(self) -> None: ...

    async def stop(self) -> None: ...

    def synced(self, node: str | None = None) -> bool:
        return self.is_synced

    def get(self, key: Key) -> Body | None:
        return self.objects.get(key)

    def keys(self, kind: str) -> Collection[Key]:
        return [key for key in self.objects if key.kind == kind]

    def watch(self, changed: Callable[[frozenset[Key]], None]) -> None:
        self._listeners.append(changed)

    def complain(self, key: Key, errors: Sequence[FieldError]) -> None:
        self.complaints[key] = errors
        if not errors:
            del self.complaints[key]

    def tell(self, key: Key, reason: str, text: str, warning: bool) -> None:
        self.told.append((key, reason, text, warning))

    def write_delay(self, key: Key) -> float:
        return self.delays.get(key, 0.0)

    async def write_status(self, changes: Mapping[Key, StatusChange]) -> Mapping[Key, Exception]:
        if self.hold is not None:
            await self.hold.wait()
        self.writes.append(changes)
        failures: dict[Key, Exception] = {}
        for key, change in changes.items():
            if key in self.broken:
                failures[key] = BackendError("no space left on device")
            elif key in self.lost:
                failures[key] = LostError("taken")
            elif key not in self.objects:
                failures[key] = NoObjectError(str(key))
            else:
                self.status[key] = merge(self.status.get(key, {}), change)
        return failures

    async def write_events(self, events: Sequence[EdgeEvent]) -> None:
        if None in self.broken:
            raise BackendError("no space left on device")
        if not self.has_events:
            raise NoObjectError("no place for events")
        self.events += events

    # -- what a test does to it --------------------------------------------------------------

    def put(self, *bodies: Body) -> None:
        """Create or replace objects, and tell."""
        keys = [Key(b["kind"], b["metadata"]["namespace"], b["metadata"]["name"]) for b in bodies]
        self.objects.update(zip(keys, bodies, strict=True))
        self.changed(*keys)

    def delete(self, *keys: Key) -> None:
        """Delete objects, and tell."""
        for key in keys:
            del self.objects[key]
        self.changed(*keys)

    def changed(self, *keys: Key) -> None:
        """Say that these may have changed."""
        for listener in self._listeners:
            listener(frozenset(keys))
