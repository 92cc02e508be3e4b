"""Bridges on a real API server under a user with the rights of cloud_bridge/deploy/rbac.yaml, and boards."""

import asyncio
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.error
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import yaml
from board_client import SERVER_NAMES, BoardClient

import cloud_bridge
from cloud_bridge.backends.base import BackendError
from cloud_bridge.backends.kubernetes import access
from cloud_bridge.backends.kubernetes.backend import Kubernetes
from cloud_bridge.cloudhub.server import CloudHub
from cloud_bridge.cloudhub.tls import context_of
from cloud_bridge.controllers import Controllers
from cloud_bridge.devicecontroller.controller import DeviceController
from cloud_bridge.edgecontroller.controller import EdgeController
from cloud_bridge.identity.identity import Identity
from cloud_bridge.resources import Controller
from motelet import protocol
from motelet.tools.freeport import free_port
from motelet.tools.kubernetes.cluster import Cluster
from motelet.tools.load.board import SimulatedBoard

DEPLOY = Path(cloud_bridge.__file__).parent / "deploy"
GROUP = "/apis/devices.kubeedge.io/v1beta1"
USER = "motelet-bridge"
SUBJECT = {"kind": "User", "name": USER, "apiGroup": "rbac.authorization.k8s.io"}
SECONDS_MAX = 90.0


def install(cluster: Cluster) -> None:
    """The definitions of Device, DeviceModel and DeviceStatus, and the rights of the bridge's user."""
    cluster.kubectl("apply", "--filename", str(DEPLOY / "crds"))
    cluster.kubectl("wait", "--for=condition=established", "crd", "--all")
    cluster.kubectl("create", "namespace", "motelet")
    documents = list(yaml.safe_load_all((DEPLOY / "rbac.yaml").read_text()))
    bound = [_bound(f"motelet-bridge-{each}") for each in ("device-profiles", "pods", "tokens")]
    for each in documents:
        if each["kind"].endswith("Binding"):
            each["subjects"].append(SUBJECT)
    cluster.kubectl("apply", "--filename=-", stdin=yaml.safe_dump_all([*documents, *bound]))


def _bound(role: str) -> dict[str, Any]:
    """The role of the bridge's user in the namespace default."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": role, "namespace": "default"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [SUBJECT],
    }


def config(cluster: Cluster, server: str = "") -> Path:
    """The kubeconfig of the bridge's user."""
    return cluster.kubeconfig(USER, (), server)


class Objects:
    """What a user of the cluster does: Devices and their like in one namespace."""

    def __init__(self, cluster: Cluster, namespace: str = "default") -> None:
        self.cluster = cluster
        self.namespace = namespace

    def path(self, plural: str, name: str = "") -> str:
        return f"{GROUP}/namespaces/{self.namespace}/{plural}{'/' if name else ''}{name}"

    def model(self, name: str, properties: Sequence[dict[str, Any]]) -> None:
        body = {"metadata": {"name": name}, "spec": {"protocol": "modbus", "properties": list(properties)}}
        self._create("DeviceModel", "devicemodels", body)

    def device(self, name: str, node: str, model: str, **desired: str) -> None:
        spec = {
            "deviceModelRef": {"name": model},
            "nodeName": node,
            "protocol": {"protocolName": "modbus", "configData": {"ip": "10.0.0.9"}},
            "properties": [{"name": key, "desired": {"value": value}} for key, value in desired.items()],
        }
        self._create("Device", "devices", {"metadata": {"name": name}, "spec": spec})

    def patch(self, plural: str, name: str, body: Any) -> Any:
        return self.cluster.request("PATCH", self.path(plural, name), body, "application/merge-patch+json")

    def desire(self, name: str, **desired: str) -> None:
        properties = [{"name": key, "desired": {"value": value}} for key, value in desired.items()]
        self.patch("devices", name, {"spec": {"properties": properties}})

    def delete(self, plural: str, name: str) -> None:
        self.cluster.request("DELETE", self.path(plural, name))

    def get(self, plural: str, name: str) -> Any:
        """The object, None when there is none."""
        return get(self.cluster, self.path(plural, name))

    def twins(self, name: str) -> dict[str, str]:
        """What DeviceStatus has as reported."""
        body = self.get("devicestatuses", name) or {}
        twins = body.get("status", {}).get("twins") or ()
        return {each["propertyName"]: each["reported"]["value"] for each in twins}

    def events(self, name: str) -> list[str]:
        """The messages of the events on the object."""
        answer = self.cluster.request("GET", f"/api/v1/namespaces/{self.namespace}/events?limit=500")
        return [each["message"] for each in answer["items"] if each["involvedObject"]["name"] == name]

    def _create(self, kind: str, plural: str, body: dict[str, Any]) -> None:
        body = {"apiVersion": "devices.kubeedge.io/v1beta1", "kind": kind, **body}
        self.cluster.request("POST", self.path(plural), body)


def get(cluster: Cluster, path: str) -> Any:
    """The object at `path`, None when there is none."""
    try:
        return cluster.request("GET", path)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def node(cluster: Cluster, name: str) -> Any:
    return get(cluster, f"/api/v1/nodes/{name}")


def session(cluster: Cluster, name: str) -> str:
    body = node(cluster, name)
    return str(body["metadata"]["annotations"]["motelet.dev/session"]) if body else ""


def prop(name: str, kind: str = "INT", mode: str = "ReadWrite", **more: Any) -> dict[str, Any]:
    """A property of a DeviceModel."""
    visitors = {"protocolName": "modbus", "configData": {"register": "HoldingRegister", "offset": 0}}
    return {"name": name, "type": kind, "accessMode": mode, "visitors": visitors, **more}


class Bridge:
    """A bridge in this process, plain, so that a test may be any node; with `pods` it has EdgeController too.

    An asynchronous context manager.
    """

    def __init__(
        self,
        cluster: Cluster,
        name: str = "bridge-a",
        writes: float = 0.0,
        identity: Identity | None = None,
        pods: bool = False,
        **options: Any,
    ) -> None:
        self.identity = identity
        self.with_pods = pods
        self.backend = Kubernetes(access.find(config(cluster, **options)), name, writes)
        self.failure: BaseException | None = None

    async def __aenter__(self) -> Self:
        await self.backend.start()
        self.controller = DeviceController(self.backend)
        self.controller.start()
        context = None
        if self.identity is not None:
            context = context_of(await self.identity.server(SERVER_NAMES), self.identity.authority.der)
        parts: list[Any] = [self.backend, self.controller]
        controller: Controller = self.controller
        if self.with_pods:
            pods = EdgeController(self.backend)
            pods.start()
            parts.append(pods)
            controller = Controllers(self.controller, pods)
        self.hub = CloudHub(controller, self.backend.nodes, context, self.identity)
        self.port = await self.hub.start("localhost", 0)
        self._tasks = [asyncio.create_task(each.run()) for each in (*parts, self.hub)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self.hub.stop()
        await self.backend.stop()
        for task in self._tasks:
            assert task.cancelled(), task.exception()

    def board(self, node: str, board: SimulatedBoard | None = None) -> BoardClient:
        return BoardClient(board or SimulatedBoard(), self.port, path=f"{protocol.PATH}/{node}")


class BridgeProcess:
    """`motelet bridge` as a process of its own; it is killed at the end. A context manager."""

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        folder: Path,
        server: str = "",
        port: int = 0,
        identity: Sequence[str] = ("--plain",),
    ) -> None:
        self.port = port or free_port()
        self._log = folder / f"{name}.log"
        arguments = ["--kubernetes", f"--kubeconfig={config(cluster, server)}", f"--bridge-name={name}"]
        self._command = [*arguments, *identity, f"--listen=127.0.0.1:{self.port}", "--log-level=debug"]
        self.process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it and wait until it listens."""
        before = self.log.count("text=listening")
        with open(self._log, "ab") as log:
            command = [sys.executable, "-m", "motelet.tools.cli", "bridge", *self._command]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ))
        end = time.monotonic() + SECONDS_MAX
        while self.log.count("text=listening") == before:
            assert self.process.poll() is None and time.monotonic() < end, self.log
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        self.process.kill()
        self.process.wait()

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def board(
        self, node: str, board: SimulatedBoard | None = None, context: ssl.SSLContext | None = None
    ) -> BoardClient:
        path = protocol.PATH if context else f"{protocol.PATH}/{node}"
        # Loopback has two addresses, and this bridge listens on one of them.
        more = {"server_hostname": "localhost"} if context else {}
        return BoardClient(board or SimulatedBoard(), self.port, context, path, "127.0.0.1", **more)


async def seen(condition: Callable[[], Any]) -> Any:
    """Wait until `condition()`, which may ask the API server, holds; -> what it gave."""
    async with asyncio.timeout(SECONDS_MAX):
        while not (result := await asyncio.to_thread(condition)):
            await asyncio.sleep(0.02)
    return result


def start_fails(cluster: Cluster) -> str:
    """Start a backend that must not start; -> why."""

    async def run() -> str:
        backend = Kubernetes(access.find(config(cluster)), "bridge-x")
        try:
            await backend.start()
        except BackendError as error:
            return str(error)
        await backend.stop()
        raise AssertionError("it has started")

    return asyncio.run(run())


def content(board: SimulatedBoard, resource: str) -> Any:
    """What the board holds of a resource, decoded."""
    import cbor2

    return cbor2.loads(board.flash[resource][1]) if resource in board.flash else None


def text(body: Any) -> str:
    return json.dumps(body, sort_keys=True)
