"""The parts of this backend put together; `base.Backend` says what each method has to do."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from cloud_bridge.backends.base import (
    DEVICE,
    DEVICE_MODEL,
    BackendError,
    Body,
    EdgeEvent,
    FieldError,
    Key,
    LostError,
    NoObjectError,
    PodChange,
    StatusChange,
    Token,
    TokenRequest,
)
from cloud_bridge.backends.kubernetes.access import Access
from cloud_bridge.backends.kubernetes.api import Api, ApiError
from cloud_bridge.backends.kubernetes.budget import Budget
from cloud_bridge.backends.kubernetes.cloudcore import refuse_cloudcore
from cloud_bridge.backends.kubernetes.events import Events
from cloud_bridge.backends.kubernetes.informer import Informer, Name
from cloud_bridge.backends.kubernetes.nodes import KubernetesNodes
from cloud_bridge.backends.kubernetes.pods import Pods
from cloud_bridge.backends.kubernetes.profiles import Profiles
from cloud_bridge.backends.kubernetes.statuswriter import GROUP, StatusWriter
from cloud_bridge.logs import Log

Change = TypeVar("Change")
INVALID = "Invalid"
"""Reason of the event for an object that cannot be used as it is."""
_PLURALS = {DEVICE: "devices", DEVICE_MODEL: "devicemodels"}
_log = Log("kubernetes")


class Kubernetes:
    """The backend on an API server. `bridge` names this bridge, `writes` is its budget a second (0: none)."""

    def __init__(self, access: Access, bridge: str, writes: float = 0.0) -> None:
        self._api = Api(access)
        self.nodes = KubernetesNodes(self._api, bridge)
        self._budget = Budget(writes)
        self._events = Events(self._api)
        self._profiles = Profiles(self._api, self.get)
        self._pods = Pods(self._api, self.nodes, self._tell)
        self.nodes.watch(self._pods.boards)
        self._status: StatusWriter
        self._informers = {
            kind: Informer(self._api, f"{GROUP}/{plural}", self._teller(kind))
            for kind, plural in _PLURALS.items()
        }
        self._listeners: list[Callable[[frozenset[Key]], None]] = []
        self._complaints: dict[Key, tuple[FieldError, ...]] = {}
        self._notes: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """See `base.Backend`. Raises BackendError where there is nothing for this backend to serve."""
        try:
            separate = await self._has_device_status()
            await self.nodes.informer.list()
            await refuse_cloudcore(self._api, self.nodes.informer)
            devices, models = self._informers[DEVICE], self._informers[DEVICE_MODEL]
            for informer in (models, devices, self._pods.informer):
                await informer.list()
        except ApiError as error:
            await self._api.close()
            raise BackendError(_helped(error)) from error
        except BackendError:
            await self._api.close()
            raise
        self._status = StatusWriter(self._api, self.nodes, self._budget, separate)
        _log.info("started", devices=len(self._informers[DEVICE].objects), device_status=separate)

    async def run(self) -> None:
        """See `base.Backend`."""
        parts: Sequence[Callable[[], Coroutine[Any, Any, None]]] = (
            *(each.run for each in self._informers.values()),
            self.nodes.run,
            self._pods.run,
            self._events.run,
            self._profiles.run,
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                for part in parts:
                    tasks.create_task(part())
        finally:
            for note in self._notes:
                note.cancel()

    async def stop(self) -> None:
        """See `base.Backend`."""
        await self._api.close()

    def synced(self, node: str | None = None) -> bool:
        """See `base.Backend`."""
        return all(each.synced for each in self._informers.values()) and self._pods.synced()

    def get(self, key: Key) -> Body | None:
        """See `base.Backend`."""
        informer = self._informers.get(key.kind)
        if informer is None:
            return self._pods.get(key)
        return informer.objects.get((key.namespace, key.name))

    def keys(self, kind: str) -> Collection[Key]:
        """See `base.Backend`."""
        informer = self._informers.get(kind)
        if informer is None:
            return self._pods.keys(kind)
        return [Key(kind, *name) for name in informer.objects]

    def watch(self, changed: Callable[[frozenset[Key]], None]) -> None:
        """See `base.Backend`."""
        self._listeners.append(changed)

    def refer(self, kind: str, keys: Collection[Key]) -> None:
        """See `base.Backend`."""
        self._pods.refer(kind, keys)

    async def write_pods(self, changes: Mapping[Key, PodChange]) -> Mapping[Key, Exception]:
        """See `base.Backend`."""
        return await _each(changes, self._pods.write)

    async def request_token(self, request: TokenRequest) -> Token:
        """See `base.Backend`."""
        return await self._pods.request_token(request)

    def complain(self, key: Key, errors: Sequence[FieldError]) -> None:
        """See `base.Backend`. It is told by an event, and of a Device in its DeviceStatus' extensions too."""
        told = tuple(errors)
        if self._complaints.get(key, ()) == told:
            return
        if told:
            self._complaints[key] = told
            text = "; ".join(map(str, told))
            _log.error("object is not valid", key=key, error=text)
            self.tell(key, INVALID, text, warning=True)
        else:
            del self._complaints[key]
            _log.info("object is good again", key=key)
        if key.kind == DEVICE:
            note = asyncio.create_task(self._note(key))
            self._notes.add(note)
            note.add_done_callback(self._notes.discard)

    def tell(self, key: Key, reason: str, text: str, warning: bool) -> None:
        """See `base.Backend`."""
        self._events.tell(key, self.get(key), reason, text, warning)

    def write_delay(self, key: Key) -> float:
        """See `base.Backend`."""
        return self._status.delay(key)

    async def write_status(self, changes: Mapping[Key, StatusChange]) -> Mapping[Key, Exception]:
        """See `base.Backend`."""
        return await _each(changes, self._write)

    async def write_events(self, events: Sequence[EdgeEvent]) -> None:
        """See `base.Backend`. A cluster has no place for what applications publish for the cloud."""
        raise NoObjectError("a Kubernetes cluster keeps no messages: publish them to a broker")

    # -- parts -------------------------------------------------------------------------------

    async def _write(self, key: Key, change: StatusChange) -> None:
        device = self.get(key)
        if device is None:
            raise NoObjectError(str(key))
        node = device.get("spec", {}).get("nodeName", "")
        if change.session != self.nodes.session(node):
            raise LostError(f"another bridge has served {node} since this was reported")
        errors = self._complaints.get(key, ())
        await self._status.write(device, key, node, change, "; ".join(map(str, errors)))

    async def _note(self, key: Key) -> None:
        """Write down in the Device's status what is wrong with it, or that nothing is."""
        device = self.get(key)
        if device is None:
            return
        errors = self._complaints.get(key, ())
        try:
            await self._status.write(device, key, None, StatusChange({}), "; ".join(map(str, errors)))
        except (BackendError, NoObjectError) as error:
            _log.warning("complaint not written to the status", key=key, error=error)

    def _teller(self, kind: str) -> Callable[[frozenset[Name]], None]:
        def tell(names: frozenset[Name]) -> None:
            keys = frozenset(Key(kind, *name) for name in names)
            for key in keys:
                if self.get(key) is None:
                    self._complaints.pop(key, None)
                    if kind == DEVICE and hasattr(self, "_status"):
                        self._status.forget(key)
            if kind == DEVICE:
                self._profiles.changed(keys)
            self._tell(keys)

        return tell

    def _tell(self, keys: frozenset[Key]) -> None:
        for listener in self._listeners:
            listener(keys)

    async def _has_device_status(self) -> bool:
        """Whether the cluster has DeviceStatus: KubeEdge up to 1.22 does not. Raises BackendError."""
        try:
            resources = (await self._api.request("GET", GROUP))["resources"]
        except ApiError as error:
            if error.code != 404:
                raise
            text = "the cluster has no Devices: apply the CustomResourceDefinitions of motelet, or KubeEdge's"
            raise BackendError(text) from error
        names = {each["name"] for each in resources}
        if missing := set(_PLURALS.values()) - names:
            raise BackendError(f"the cluster has no {', '.join(sorted(missing))}.devices.kubeedge.io")
        return "devicestatuses" in names


async def _each(
    changes: Mapping[Key, Change], write: Callable[[Key, Change], Awaitable[None]]
) -> Mapping[Key, Exception]:
    """Write all of them; -> the errors of those that were not."""
    failures: dict[Key, Exception] = {}

    async def one(key: Key, change: Change) -> None:
        try:
            await write(key, change)
        except (BackendError, NoObjectError, LostError) as error:
            failures[key] = error

    await asyncio.gather(*(one(key, change) for key, change in changes.items()))
    return failures


def _helped(error: ApiError) -> str:
    hints = {401: "the credentials are not good", 403: "the bridge's role is missing something"}
    hint = hints.get(error.code)
    return f"{error} ({hint})" if hint else str(error)
