"""The Devices of the load, where the bridge finds them: in its folder of YAML, or in a cluster.

What is made here says so, and only that is ever changed or removed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import yaml

from cloud_bridge.backends import files
from cloud_bridge.backends.kubernetes.access import Access
from cloud_bridge.backends.kubernetes.api import MERGE, Api, ApiError
from motelet.tools.cli import UserError

API_VERSION = "devices.kubeedge.io/v1beta1"
NODES = "/api/v1/nodes"
MODEL = "motelet-load"
LABEL = "motelet.dev/load"
PARALLEL = 16
"""Requests to the API server at a time."""
DESIRED_FIRST = "1"
"""The desired value of each device's first property at the beginning."""
_MARK = "# Made by `motelet load`, which removes it in the end.\n"


class World(Protocol):
    """Where the Devices are."""

    def resources(self) -> Sequence[str]:
        """What the boards get of them, as the link names it."""

    async def create(self) -> None:
        """Make the DeviceModel and the Devices. Raises UserError."""

    async def desire(self, value: str) -> None:
        """Change the desired value of each Device. Raises UserError."""

    async def remove(self) -> None:
        """Remove what was made. Raises UserError."""


class Plan:
    """Which Devices: `devices` of each node, with `properties` properties each."""

    def __init__(self, nodes: Sequence[str], devices: int, properties: int, namespace: str) -> None:
        self.nodes = nodes
        self.namespace = namespace
        self._devices = devices
        self._properties = [f"p{number}" for number in range(properties)]

    def names(self, node: str) -> list[str]:
        """The Devices of a node."""
        return [f"{node}-{number}" for number in range(self._devices)]

    def resources(self) -> list[str]:
        """All Devices, as the link names them."""
        return [f"{self.namespace}/device/{name}" for node in self.nodes for name in self.names(node)]

    def model(self) -> dict[str, Any]:
        """The DeviceModel: whole numbers that can be desired."""
        data = {"register": "HoldingRegister", "offset": 0, "limit": 1}
        visitors = {"protocolName": "load", "configData": data}
        kind = {"type": "INT", "accessMode": "ReadWrite", "visitors": visitors}
        properties = [{"name": name, **kind} for name in self._properties]
        return self._object("DeviceModel", MODEL, {"protocol": "load", "properties": properties})

    def device(self, node: str, name: str, desired: str) -> dict[str, Any]:
        """One Device."""
        spec = {
            "deviceModelRef": {"name": MODEL},
            "nodeName": node,
            "protocol": {"protocolName": "load", "configData": {}},
            "properties": self.wanted(desired),
        }
        return self._object("Device", name, spec)

    def wanted(self, desired: str) -> list[dict[str, Any]]:
        """`spec.properties` of a Device."""
        return [{"name": self._properties[0], "desired": {"value": desired}}]

    def _object(self, kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        metadata = {"name": name, "namespace": self.namespace, "labels": {LABEL: "true"}}
        return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


class Folder:
    """A bridge's folder of YAML: a file for the model, and one a node."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self._folder = folder
        self._plan = plan
        self._made: list[Path] = []
        self.resources = plan.resources

    async def create(self) -> None:
        """See `World`."""
        if not self._folder.is_dir():
            raise UserError(f"there is no folder {self._folder}")
        names = [self._path("model"), *(self._path(node) for node in self._plan.nodes)]
        for path in names:
            if path.exists() and not path.read_text(encoding="utf-8").startswith(_MARK):
                raise UserError(f"{path} is there already, and not made by `motelet load`")
        self._made = names
        self._write("model", [self._plan.model()])
        await self.desire(DESIRED_FIRST)

    async def desire(self, value: str) -> None:
        """See `World`."""
        for node in self._plan.nodes:
            self._write(node, [self._plan.device(node, name, value) for name in self._plan.names(node)])
            await asyncio.sleep(0)  # the boards have their turn

    async def remove(self) -> None:
        """See `World`."""
        for path in reversed(self._made):
            path.unlink(missing_ok=True)

    def _write(self, name: str, bodies: Sequence[Mapping[str, Any]]) -> None:
        text = yaml.dump_all(bodies, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False)
        files.replace(self._path(name), (_MARK + text).encode(), durable=False)

    def _path(self, name: str) -> Path:
        return self._folder / f"motelet-load-{name}.yaml"


class Cluster:
    """A cluster that has the Devices' definitions; the Nodes that the boards became are removed too."""

    def __init__(self, access: Access, plan: Plan) -> None:
        self._api = Api(access)
        self._plan = plan
        self._folder = f"/apis/{API_VERSION}/namespaces/{plan.namespace}"
        self._made: list[str] = []
        self._others: set[str] = set()
        self.resources = plan.resources

    async def create(self) -> None:
        """See `World`."""
        listed = await self._ask("GET", NODES)
        self._others = {each["metadata"]["name"] for each in listed["items"]}
        await self._put("devicemodels", self._plan.model())
        await self._each(
            lambda node, name: self._put("devices", self._plan.device(node, name, DESIRED_FIRST))
        )

    async def desire(self, value: str) -> None:
        """See `World`."""
        patch = {"spec": {"properties": self._plan.wanted(value)}}
        await self._each(lambda _, name: self._ask("PATCH", f"{self._folder}/devices/{name}", patch))

    async def remove(self) -> None:
        """See `World`."""
        nodes = [f"{NODES}/{node}" for node in self._plan.nodes if node not in self._others]
        try:
            # The Devices before their model, which was made first.
            await self._all(self._delete(path) for path in self._made[1:])
            await self._all(self._delete(path) for path in (*self._made[:1], *nodes))
        finally:
            await self._api.close()

    async def _put(self, plural: str, body: Mapping[str, Any]) -> None:
        name = body["metadata"]["name"]
        path = f"{self._folder}/{plural}/{name}"
        try:
            await self._api.request("POST", f"{self._folder}/{plural}", body)
            self._made.append(path)
            return
        except ApiError as error:
            if error.code != 409:
                raise UserError(f"{plural}/{name}: {error}") from error
        stored = await self._ask("GET", path)
        if LABEL not in stored["metadata"].get("labels", {}):
            raise UserError(f"{plural}/{name} is there already, and not made by `motelet load`")
        self._made.append(path)
        await self._ask("PATCH", path, {"spec": body["spec"]})

    async def _delete(self, path: str) -> None:
        try:
            await self._api.request("DELETE", path)
        except ApiError as error:
            if error.code != 404:
                raise UserError(f"{path} is not removed: {error}") from error

    async def _ask(self, verb: str, path: str, body: Any = None) -> Any:
        try:
            return await self._api.request(verb, path, body, MERGE)
        except ApiError as error:
            raise UserError(f"{path}: {error}") from error

    async def _each(self, act: Callable[[str, str], Awaitable[Any]]) -> None:
        await self._all(act(node, name) for node in self._plan.nodes for name in self._plan.names(node))

    async def _all(self, acts: Iterable[Awaitable[Any]]) -> None:
        several = iter(acts)

        async def worker() -> None:
            for act in several:
                await act

        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(PARALLEL):
                    tasks.create_task(worker())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
