"""What surrounds a gateway that is measured: a real bridge, real Modbus devices, a real MQTT broker.

The profile is the one that the memory budget of a board is stated for: DEVICES devices of PROPERTIES
properties each, on one Modbus TCP bus.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

import cloud_bridge
from cloud_bridge.identity.folder import Folder, at_once
from cloud_bridge.identity.identity import Identity
from motelet.tools import fetch
from motelet.tools.bench.interpreters import ROOT
from motelet.tools.cli import UserError
from motelet.tools.freeport import free_ports
from motelet.tools.kubernetes.cluster import Cluster

DEVICES = 10
PROPERTIES = 5
COLLECT_MS = 5000  # between two readings; the probes set the clock forward by as much
MQTT_KEEPALIVE_S = 60000
HOST = "127.0.0.1"
NODE = "bench"
START_TIMEOUT_S = 20


class Field:
    """Modbus TCP devices: units 1 to DEVICES, each with PROPERTIES holding registers that nothing changes."""

    def __init__(self) -> None:
        self.port = 0
        self.requests = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="modbus devices", daemon=True)

    def start(self) -> None:
        """Listen on a free port, which `port` then holds."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(START_TIMEOUT_S)

    def stop(self) -> None:
        """Drop the clients and end."""
        asyncio.run_coroutine_threadsafe(self._shutdown(), self._loop).result(START_TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        registers = [SimData(n, values=200 + n, datatype=DataType.INT16) for n in range(PROPERTIES)]
        units = [SimDevice(unit, simdata=registers, action=self._count) for unit in range(1, DEVICES + 1)]
        self._server = ModbusTcpServer(units, address=(HOST, 0))
        await self._server.listen()
        listener = self._server.transport
        assert isinstance(listener, asyncio.Server)
        self.port = listener.sockets[0].getsockname()[1]

    async def _shutdown(self) -> None:
        await self._server.shutdown()  # type: ignore[no-untyped-call]

    async def _count(self, *_request: Any) -> ExcCodes | None:
        self.requests += 1
        return None


class Manifests:
    """The folder of YAML that the bridge serves."""

    def __init__(self, folder: Path, modbus_port: int) -> None:
        self._folder = folder
        self._modbus_port = modbus_port
        folder.mkdir(parents=True)
        self._write("model", _model())
        for number in range(1, DEVICES + 1):
            self.device(number, 200)

    def device(self, number: int, desired: int) -> None:
        """Write device `number` (from 1), which wants `desired` in its first register."""
        self._write(f"device-{number}", _device(number, desired, self._modbus_port))

    def _write(self, name: str, content: dict[str, Any]) -> None:
        fresh = self._folder / f".{name}.tmp"
        fresh.write_text(yaml.safe_dump(content, sort_keys=False))
        fresh.replace(self._folder / f"{name}.yaml")


class Server:
    """A process that takes connections on `port`; what it says is in the file `log`."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path, port: int) -> None:
        self._command = command
        self._environment = environment
        self._log = log
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it takes connections. Raises UserError."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _listens(self._port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                text = self._log.read_text()[-2000:]
                raise UserError(f"{self._command[0]} does not serve on port {self._port}:\n{text}")
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL, if it runs; `start` starts it again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """SIGTERM, if it runs, and wait for its end."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_TIMEOUT_S)


@dataclass(frozen=True)
class World:
    """The running peers: `config` is the gateway's configuration, for gateway_probe."""

    config: dict[str, Any]
    manifests: Manifests
    field: Field
    bridge: Server


@contextmanager
def running(folder: Path, tls: bool) -> Iterator[World]:
    """Start everything that a gateway needs, with its files in `folder`; ends with the context."""
    with ExitStack() as stack:
        field = Field()
        field.start()
        stack.callback(field.stop)
        manifests = Manifests(folder / "manifests", field.port)
        mqtt_port, bridge_port = free_ports(2)
        stack.enter_context(mosquitto(folder, mqtt_port))
        link: dict[str, Any] = {"host": HOST, "port": bridge_port, "path": f"/motelet/v1/{NODE}"}
        options = ["--plain"]
        if tls:
            identity = at_once(Identity.open(Folder(folder / "state")))
            certificate, key = at_once(identity.create_pair(NODE))
            for name, content in (("ca", identity.authority.der), ("cert", certificate), ("key", key)):
                (folder / f"{name}.der").write_bytes(content)
            options = ["--state", str(folder / "state"), "--name", "localhost", "--enrol", f"{HOST}:0"]
            files = {name: str(folder / f"{name}.der") for name in ("ca", "cert", "key")}
            link = {"host": HOST, "port": bridge_port, "server_name": "localhost", **files}
        bridge = [
            sys.executable,
            "-m",
            "motelet.tools.cli",
            "bridge",
            "--manifests",
            str(folder / "manifests"),
        ]
        bridge += ["--listen", f"{HOST}:{bridge_port}", *options]
        server = _serving(bridge, dict(os.environ), folder / "bridge.log", bridge_port)
        running_bridge = stack.enter_context(server)
        config = {
            "node": NODE,
            "bridge": link,
            "store": {"path": str(folder / "flash.img") if tls else "/flash.img", "size": 262144},
            # Longer than the probe sets its clock forward in all: it waits for no answer of the broker's.
            "mqtt": {"host": HOST, "port": mqtt_port, "keepalive": MQTT_KEEPALIVE_S},
            "log_level": "warning",
            "devices": DEVICES,
            "collect_ms": COLLECT_MS,
        }
        yield World(config, manifests, field, running_bridge)


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """An API server that knows Device, DeviceModel and DeviceStatus, with its files below `folder`."""
    definitions = Path(cloud_bridge.__file__).parent / "deploy" / "crds"
    with Cluster(folder / "cluster") as running:
        running.kubectl("apply", "--filename", str(definitions))
        running.kubectl("wait", "--for=condition=established", "crd", "--all")
        yield running


@contextmanager
def mosquitto(folder: Path, port: int) -> Iterator[None]:
    """The broker, on `port`; its files are in `folder`."""
    broker = fetch.mosquitto()
    configuration = folder / "mosquitto.conf"
    configuration.write_text(f"listener {port} {HOST}\nallow_anonymous true\nset_tcp_nodelay true\n")
    command = [*broker.command, "-c", str(configuration)]
    with _serving(command, broker.environment, folder / "broker.log", port):
        yield


@contextmanager
def plain_bridge(folder: Path, port: int) -> Iterator[None]:
    """A bridge without TLS, on `port`, that serves `folder`/manifests."""
    command = [sys.executable, "-m", "motelet.tools.cli", "bridge", "--plain", "--listen", f"{HOST}:{port}"]
    command += ["--manifests", str(folder / "manifests")]
    with _serving(command, dict(os.environ), folder / "bridge.log", port):
        yield


def fresh(name: str) -> Path:
    """A new, empty folder of that name below build/bench."""
    folder = ROOT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


@contextmanager
def _serving(command: list[str], environment: dict[str, str], log: Path, port: int) -> Iterator[Server]:
    """Run a server; the context begins when it takes connections and ends it."""
    server = Server(command, environment, log, port)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def wait_for(port: int) -> None:
    """Until a server listens there. Raises UserError."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _listens(port):
        if time.monotonic() > deadline:
            raise UserError(f"nobody listens on port {port}")
        time.sleep(0.05)


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _model() -> dict[str, Any]:
    properties = [
        {
            "name": f"property-{number}",
            "type": "INT",
            "accessMode": "ReadWrite",
            "visitors": {
                "protocolName": "modbus",
                "configData": {"register": "HoldingRegister", "offset": number, "limit": 1},
            },
        }
        for number in range(PROPERTIES)
    ]
    return {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "DeviceModel",
        "metadata": {"name": "bench-model", "namespace": "default"},
        "spec": {"protocol": "modbus", "properties": properties},
    }


def _device(number: int, desired: int, port: int) -> dict[str, Any]:
    properties: list[dict[str, Any]] = [
        {
            "name": f"property-{each}",
            "collectCycle": COLLECT_MS,
            "reportCycle": COLLECT_MS,
            "reportToCloud": True,
        }
        for each in range(PROPERTIES)
    ]
    properties[0]["desired"] = {"value": str(desired)}
    settings = {"communicateMode": "TCP", "ip": HOST, "port": port, "slaveID": number}
    return {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "Device",
        "metadata": {"name": f"device-{number}", "namespace": "default"},
        "spec": {
            "deviceModelRef": {"name": "bench-model"},
            "nodeName": NODE,
            "protocol": {"protocolName": "modbus", "configData": settings},
            "properties": properties,
        },
    }
