"""What boards report, merged into DeviceStatus, or into Device.status where there is no DeviceStatus.

DeviceStatus has no status subresource, and a merge patch replaces lists whole. So each write is made from
what is stored and carries its resourceVersion: whoever wrote in between is not overwritten but read again.

No older value lands after a newer one of another bridge. A write based on this bridge's own last write
fails if anyone has written since. One based on a fresh read is made only if, *after* that read, the node's
session is still this bridge's: whatever another bridge writes later changes the version and fails ours.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from cloud_bridge.backends.base import Body, Key, LostError, NoObjectError, StatusChange
from cloud_bridge.backends.kubernetes.api import MERGE, Api, ApiError
from cloud_bridge.backends.kubernetes.budget import Budget
from cloud_bridge.backends.kubernetes.nodes import KubernetesNodes
from cloud_bridge.backends.status import merge
from cloud_bridge.logs import Log

GROUP = "/apis/devices.kubeedge.io/v1beta1"
API_VERSION = "devices.kubeedge.io/v1beta1"
PARALLEL = 16
"""Writes under way at a time."""
CONFLICTS_MAX = 8
"""How often a write is based anew on what others wrote before it is given up for now."""
INVALID = "invalid"
"""In the extensions: what is wrong with the Device."""
INVALID_MAX = 2048
"""Characters of it."""
INTERVAL_SECONDS = 1.0
"""Between two writes of one device; the first after a pause goes out at once."""


_log = Log("kubernetes")


class _Stored:
    """What this bridge knows to be stored for one device. `version` is None when there is none yet."""

    __slots__ = ("status", "uid", "version", "written")

    def __init__(self) -> None:
        self.uid = ""
        self.version: str | None = None
        self.status: dict[str, Any] = {}
        self.written = float("-inf")


class StatusWriter:
    """Writes for Devices; `separate`: whether the cluster has DeviceStatus."""

    def __init__(self, api: Api, nodes: KubernetesNodes, budget: Budget, separate: bool) -> None:
        self._api = api
        self._nodes = nodes
        self._budget = budget
        self._separate = separate
        self._stored: dict[Key, _Stored] = {}
        self._parallel = asyncio.Semaphore(PARALLEL)

    def delay(self, key: Key) -> float:
        """Seconds until the device may be written again, 0.0 for now."""
        stored = self._stored.get(key)
        if stored is None:
            return 0.0
        return max(0.0, stored.written + INTERVAL_SECONDS - asyncio.get_running_loop().time())

    def forget(self, key: Key) -> None:
        """The Device is gone."""
        self._stored.pop(key, None)

    async def write(
        self, device: Body, key: Key, node: str | None, change: StatusChange, invalid: str
    ) -> None:
        """Merge `change` into what is stored for `device`, which `node` has (None: nothing of it is a value).

        `invalid` is what is wrong with the Device, empty if nothing is.
        Raises ApiError, NoObjectError, and LostError when the node is not this bridge's any more.
        """
        async with self._parallel:
            stored = self._stored.get(key)
            uid = device["metadata"]["uid"]
            if stored is None or stored.uid != uid:
                stored = self._stored[key] = _Stored()
                stored.uid = uid
                await self._read(key, stored, node)
            for _ in range(CONFLICTS_MAX):
                status = _noted(merge(stored.status, change), invalid)
                if status == stored.status:
                    return
                await self._budget.take()
                try:
                    await self._put(device, key, stored, status)
                    stored.written = asyncio.get_running_loop().time()
                    if self._separate and node is not None and change.state is not None:
                        await self._show(device, key, node, change.state.state)
                    return
                except ApiError as error:
                    if error.code not in (404, 409):
                        # It may have been written, or not: only a look can tell.
                        self._stored.pop(key, None)
                        raise
                    if error.code == 404 and (stored.version is None or not self._separate):
                        self._stored.pop(key, None)
                        raise NoObjectError(str(key)) from error
                await self._read(key, stored, node)
            self._stored.pop(key, None)
            raise ApiError(409, f"{key}: somebody else writes its status all the time")

    async def _read(self, key: Key, stored: _Stored, node: str | None) -> None:
        """Read what is stored, and see to it that the node was this bridge's after that."""
        try:
            body = await self._api.request("GET", self._path(key))
            stored.version = body["metadata"]["resourceVersion"]
            status = body.get("status")
            stored.status = status if isinstance(status, dict) else {}
        except ApiError as error:
            if error.code != 404:
                self._stored.pop(key, None)
                raise
            stored.version, stored.status = None, {}
        if node is not None and not await self._nodes.verify(node):
            self._stored.pop(key, None)
            raise LostError(f"node {node} is served by another bridge now")

    async def _put(self, device: Body, key: Key, stored: _Stored, status: Mapping[str, Any]) -> None:
        if stored.version is None:
            path = f"{GROUP}/namespaces/{key.namespace}/devicestatuses"
            body = await self._api.request("POST", path, _new(device, status))
        else:
            extensions = {**dict.fromkeys(stored.status.get("extensions") or ()), **status["extensions"]}
            change = {**status, "extensions": extensions}  # None removes
            patch = {"metadata": {"resourceVersion": stored.version}, "status": change}
            body = await self._api.request("PATCH", self._path(key), patch, MERGE)
        stored.version = body["metadata"]["resourceVersion"]
        # What the definition has no room for was dropped, and is not to be written again and again.
        stored.status = {**status, **(body.get("status") or {})}

    async def _show(self, device: Body, key: Key, node: str, state: str) -> None:
        """Have `kubectl get devices` show the state too. It changes seldom, and nobody waits for it."""
        path = f"{GROUP}/namespaces/{key.namespace}/devices/{key.name}"
        try:
            for _ in range(CONFLICTS_MAX):
                if (device.get("status") or {}).get("state") == state:
                    return
                version = device["metadata"]["resourceVersion"]
                patch = {"metadata": {"resourceVersion": version}, "status": {"state": state}}
                try:
                    await self._api.request("PATCH", path, patch, MERGE)
                    return
                except ApiError as error:
                    if error.code != 409:
                        raise
                device = await self._api.request("GET", path)
                if not await self._nodes.verify(node):
                    return
        except ApiError as error:
            _log.warning("state not shown in the Device", key=key, error=error)

    def _path(self, key: Key) -> str:
        plural = "devicestatuses" if self._separate else "devices"
        return f"{GROUP}/namespaces/{key.namespace}/{plural}/{key.name}"


def _noted(status: dict[str, Any], invalid: str) -> dict[str, Any]:
    """`status` with what is wrong with the Device in its extensions."""
    extensions = status.get("extensions")
    known = dict(extensions) if isinstance(extensions, dict) else {}
    known.pop(INVALID, None)
    if invalid:
        known[INVALID] = invalid[:INVALID_MAX]
    return {**status, "extensions": known}


def _new(device: Body, status: Mapping[str, Any]) -> dict[str, Any]:
    """A DeviceStatus that goes with its Device."""
    metadata = device["metadata"]
    owner = {
        "apiVersion": API_VERSION,
        "kind": "Device",
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "DeviceStatus",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "ownerReferences": [owner],
        },
        "spec": {},
        "status": status,
    }
