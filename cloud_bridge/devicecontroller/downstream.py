"""Which Devices each node should hold, kept up to date as Devices and DeviceModels change.

The work is keyed by object: for each Device that may differ, what it should be is derived anew from
the backend, so a notification too many costs a little time and changes nothing. A Device that is
not valid stays what it last was. If the bridge was started since, nobody here knows what that was,
but the board does: the resource is then `kept`, neither changed nor deleted.
"""

from collections import defaultdict
from collections.abc import Callable

from cloud_bridge.backends.base import DEVICE, DEVICE_MODEL, Backend, Body, FieldError, Key
from cloud_bridge.devicecontroller.effective import (
    Effective,
    InvalidError,
    check_model,
    join,
    model_of,
    node_of,
)
from cloud_bridge.logs import Log
from cloud_bridge.resources import Desired

DEVICES_MAX = 256
"""Devices of one node."""

_log = Log("devicecontroller")


class Downstream:
    """Follows a backend and keeps a table of effective Devices by node."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._devices: dict[Key, Effective] = {}
        self._nodes: defaultdict[str, dict[str, Effective]] = defaultdict(dict)
        self._models: dict[Key, Body] = {}
        self._users: defaultdict[Key, set[Key]] = defaultdict(set)
        self._model_of: dict[Key, Key] = {}
        self._kept: set[Key] = set()
        self._waiting: set[Key] = set()
        self._listeners: list[Callable[[str | None], None]] = []
        self._synced = False

    def start(self) -> None:
        """Take over what the backend has and follow it from now on."""
        self._backend.watch(self._changed)
        self._changed(frozenset((*self._backend.keys(DEVICE_MODEL), *self._backend.keys(DEVICE))))

    def watch(self, changed: Callable[[str | None], None]) -> None:
        """Have `changed(node)` called whenever `desired(node)` may have changed; None stands for all."""
        self._listeners.append(changed)

    def desired(self, node: str) -> Desired:
        """What the node should hold now."""
        items = {each.resource: each.content for each in self._nodes.get(node, {}).values()}
        kept = frozenset(_resource(each) for each in self._kept)
        return Desired(items, kept, self._backend.synced(node))

    def device(self, key: Key) -> Effective | None:
        """The Device as its node has or should have it, None when that is not known."""
        return self._devices.get(key)

    def owner(self, key: Key) -> str | None:
        """The node that the Device belongs to, None when there is no such Device or it names no node."""
        effective = self._devices.get(key)
        if effective is not None:
            return effective.node or None
        body = self._backend.get(key)
        return node_of(body) or None if body is not None else None

    # -- following the backend ---------------------------------------------------------------

    def _changed(self, keys: frozenset[Key]) -> None:
        devices = {key for key in keys if key.kind == DEVICE}
        for key in sorted(key for key in keys if key.kind == DEVICE_MODEL):
            if self._model(key):
                devices |= self._users[key]
        # Those that found no room are tried last: what goes away in the same turn makes room.
        touched: set[str | None] = set()
        for key in (*sorted(devices - self._waiting), *sorted(self._waiting)):
            touched |= self._device(key)
        synced = self._backend.synced()
        if synced != self._synced or not keys:
            # All nodes, not only those with devices: one that has none left may hold some to be forgotten.
            self._synced = synced
            touched.add(None)
        for node in (None,) if None in touched else sorted(filter(None, touched)):
            for listener in self._listeners:
                listener(node)

    def _model(self, key: Key) -> bool:
        """Look at a DeviceModel again; whether it differs from before."""
        body = self._backend.get(key)
        before = self._models.get(key)
        if body is None:
            self._models.pop(key, None)
            return before is not None
        try:
            check_model(body)
        except InvalidError as error:
            self._backend.complain(key, error.errors)
            return False
        self._backend.complain(key, ())
        self._models[key] = body
        return body != before

    def _device(self, key: Key) -> set[str | None]:
        """Look at a Device again; the nodes for which it makes a difference, None for all."""
        body = self._backend.get(key)
        self._refer(key, body)
        if body is None:
            return self._put(key, None)
        try:
            effective = self._join(key, body)
        except InvalidError as error:
            self._backend.complain(key, error.errors)
            if key in self._devices or key in self._kept:
                return set()
            self._kept.add(key)
            return {None}  # nobody knows which board has it
        self._backend.complain(key, ())
        return self._put(key, effective)

    def _join(self, key: Key, body: Body) -> Effective:
        model_key = self._model_of.get(key)
        model = self._models.get(model_key) if model_key else None
        text = ""
        if model_key and model is None:
            there = self._backend.get(model_key) is not None
            text = f"{model_key} is not valid" if there else f"there is no {model_key}"
        effective = join(body, model, text)
        others = self._nodes.get(effective.node, {})
        self._waiting.discard(key)
        if effective.node and len(others) >= DEVICES_MAX and effective.resource not in others:
            self._waiting.add(key)
            full = f"node {effective.node} has {DEVICES_MAX} devices, there is no room for more"
            raise InvalidError([FieldError(("spec", "nodeName"), full)])
        return effective

    def _refer(self, key: Key, body: Body | None) -> None:
        """Note which DeviceModel the Device refers to now."""
        before = self._model_of.pop(key, None)
        if before is not None:
            self._users[before].discard(key)
            if not self._users[before]:
                del self._users[before]
        name = model_of(body) if body is not None else ""
        if name:
            self._model_of[key] = Key(DEVICE_MODEL, key.namespace, name)
            self._users[self._model_of[key]].add(key)

    def _put(self, key: Key, effective: Effective | None) -> set[str | None]:
        before = self._devices.pop(key, None)
        was_kept = key in self._kept
        self._kept.discard(key)
        if effective is not None:
            self._devices[key] = effective
        else:
            self._waiting.discard(key)
        if effective == before and not was_kept:
            return set()
        if before is not None:
            del self._nodes[before.node][before.resource]
            if not self._nodes[before.node]:
                del self._nodes[before.node]
        if effective is not None:
            self._nodes[effective.node][effective.resource] = effective
        _log.info("device gone" if effective is None else "device", key=key, **_where(effective))
        if was_kept:
            return {None}
        return {each.node for each in (before, effective) if each is not None and each.node}


def _where(effective: Effective | None) -> dict[str, str]:
    return {"node": effective.node, "version": effective.content.version} if effective else {}


def _resource(key: Key) -> str:
    return f"{key.namespace}/device/{key.name}"
