"""ConfigMap ``device-profile-config-<node>`` for mappers that run as pods: the devices of a node, as JSON.

One in each namespace that has devices of the node, for a pod can mount none of another; it goes with the
last of them. Every bridge derives the same from the same Devices and writes only what differs. Where the
bridge may not write ConfigMaps there are none, and everything else goes on.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Any

from cloud_bridge.backends.base import Body, Key
from cloud_bridge.backends.kubernetes.api import MERGE, Api, ApiError
from cloud_bridge.logs import Log
from cloud_bridge.names import NAME_SIZE_MAX

PREFIX = "device-profile-config-"
FILE = "deviceProfile.json"
LABEL = "motelet.dev/device-profile"
SIZE_MAX = 1_000_000
"""Bytes of the JSON; a ConfigMap takes 1 MiB."""
GATHER_SECONDS = 0.2
"""How long a first change waits for others."""
RETRY_SECONDS = 5.0

Place = tuple[str, str]
"""Namespace and node."""

_log = Log("kubernetes")


class Profiles:
    """Keeps the ConfigMaps; `get` gives a Device as it is now."""

    def __init__(self, api: Api, get: Callable[[Key], Body | None]) -> None:
        self._api = api
        self._get = get
        self._places: dict[Key, Place] = {}
        self._devices: defaultdict[Place, set[Key]] = defaultdict(set)
        self._dirty: set[Place] = set()
        self._refused: set[Place] = set()
        self._work = asyncio.Event()

    def changed(self, keys: Collection[Key]) -> None:
        """These Devices may differ from before."""
        for key in keys:
            before = self._places.pop(key, None)
            if before is not None:
                self._devices[before].discard(key)
                self._dirty.add(before)
            body = self._get(key)
            node = body.get("spec", {}).get("nodeName") if body is not None else None
            if isinstance(node, str) and 0 < len(node) <= NAME_SIZE_MAX - len(PREFIX):
                place = key.namespace, node
                self._places[key] = place
                self._devices[place].add(key)
                self._dirty.add(place)
        if self._dirty:
            self._work.set()

    async def run(self) -> None:
        """Write what differs, until cancelled."""
        await self._look_for_leftovers()
        while True:
            await self._work.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._work.clear()
            dirty, self._dirty = self._dirty, set()
            for place in dirty:
                try:
                    await self._write(place)
                    self._refused.discard(place)
                except ApiError as error:
                    self._failed(place, error)

    async def _look_for_leftovers(self) -> None:
        """What belongs to devices that went while no bridge ran, where that may be asked."""
        try:
            answer = await self._api.request(
                "GET", "/api/v1/configmaps", query={"labelSelector": f"{LABEL}=true"}
            )
        except ApiError as error:
            _log.debug("left over profiles are not looked for", error=error)
            return
        for each in answer["items"]:
            metadata = each["metadata"]
            self._dirty.add((metadata["namespace"], metadata["name"].removeprefix(PREFIX)))
        self._work.set()

    async def _write(self, place: Place) -> None:
        namespace, node = place
        folder = f"/api/v1/namespaces/{namespace}/configmaps"
        path = f"{folder}/{PREFIX}{node}"
        bodies = [self._get(key) for key in sorted(self._devices.get(place, ()))]
        wanted = profile([each for each in bodies if each is not None])
        stored = await self._stored(path)
        if not self._devices.get(place):
            self._devices.pop(place, None)
            if stored is not None:
                await self._api.request("DELETE", path)
            return
        if len(wanted.encode()) > SIZE_MAX:
            raise ApiError(413, f"{len(wanted)} bytes do not fit a ConfigMap")
        if stored is None:
            labels = {LABEL: "true"}
            metadata = {"name": f"{PREFIX}{node}", "namespace": namespace, "labels": labels}
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {FILE: wanted}}
            await self._api.request("POST", folder, body)
        elif stored.get("data", {}).get(FILE) != wanted:
            await self._api.request("PATCH", path, {"data": {FILE: wanted}}, MERGE)

    async def _stored(self, path: str) -> dict[str, Any] | None:
        try:
            body: dict[str, Any] = await self._api.request("GET", path)
        except ApiError as error:
            if error.code == 404:
                return None
            raise
        return body

    def _failed(self, place: Place, error: ApiError) -> None:
        if place not in self._refused:
            self._refused.add(place)
            _log.warning("device profile not written", namespace=place[0], node=place[1], error=error)
        if error.code not in (403, 404, 413):
            self._dirty.add(place)
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._work.set)


def profile(devices: Collection[Body]) -> str:
    """The JSON: each device's protocol and node, and each property's desired value and visitors."""
    instances = [_instance(each["metadata"], each.get("spec") or {}) for each in devices]
    return json.dumps({"deviceInstances": instances}, sort_keys=True, separators=(",", ":"))


def _instance(metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("name", "desired", "visitors")
    properties = [
        {key: each[key] for key in kept if key in each}
        for each in spec.get("properties") or ()
        if isinstance(each, Mapping)
    ]
    return {
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "model": (spec.get("deviceModelRef") or {}).get("name", ""),
        "nodeName": spec.get("nodeName", ""),
        "protocol": spec.get("protocol") or {},
        "properties": properties,
    }
