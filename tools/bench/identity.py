"""What an identity costs: a board's handshake and enrolment, and a bridge's memory for each node."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from cloud_bridge.identity.authority import Authority
from cloud_bridge.identity.folder import Folder, at_once
from motelet import protocol
from motelet.tools.bench import interpreters, world
from motelet.tools.bench.figures import Figure
from motelet.tools.cli import UserError
from motelet.tools.freeport import free_ports

HANDSHAKES = 30
ENROLMENTS = 10
NODES = 500
PAUSE_S = 0.015  # between two connections: below what the bridge's gate takes a second
WARM_UP = 20  # nodes that connect first, so that what is loaded once is on nobody's bill
HOST = world.HOST
START_TIMEOUT_S = 20


def measure() -> Iterator[Figure]:
    """`identity.handshake_ms.p50`, `identity.enrol_ms`, `.enrol_heap_bytes`, `bridge.kib_per_node_*`."""
    yield from _board()
    for kind in ("tls", "plain"):
        yield Figure(f"bridge.kib_per_node_{kind}", asyncio.run(_memory(kind == "tls")), "KiB", NODES)


# -- a board ------------------------------------------------------------------------------------


def _board() -> Iterator[Figure]:
    """MicroPython over mutual TLS 1.2 with P-256, both ends on this computer; connecting is part of it."""
    folder = world.fresh("identity")
    with _bridge(folder, tls=True) as bridge:
        config = {
            "bridge": {**bridge.addresses, "server_name": "localhost"},
            "tokens": [bridge.token("board") for _ in range(ENROLMENTS)],
            "node": "board",
            "handshakes": HANDSHAKES,
        }
        path = folder / "probe.json"
        path.write_text(json.dumps(config))
        with interpreters.running(interpreters.command64("identity_probe", str(path))) as answers:
            taken: dict[str, list[float]] = {}
            for answer in answers:
                taken.setdefault(answer["figure"], []).append(answer["value"])
    for figure, name, unit in (
        ("handshake", "identity.handshake_ms.p50", "ms"),
        ("enrol", "identity.enrol_ms", "ms"),
        ("heap", "identity.enrol_heap_bytes", "bytes"),
    ):
        values = taken[figure]
        value = max(values) if unit == "bytes" else statistics.median(values)
        yield Figure(name, value, unit, len(values), max(values) - min(values))


# -- a bridge -----------------------------------------------------------------------------------


async def _memory(tls: bool) -> float:
    """KiB of resident memory that a connected node adds to the bridge, its session included."""
    folder = world.fresh("nodes-tls" if tls else "nodes-plain")
    with _bridge(folder, tls) as bridge:
        clients = Clients(bridge, tls)
        try:
            for number in range(WARM_UP):
                await clients.add(number)
            before = bridge.resident_kib()
            for number in range(WARM_UP, WARM_UP + NODES):
                await clients.add(number)
            await asyncio.sleep(1)
            return (bridge.resident_kib() - before) / NODES
        finally:
            await clients.close()


class Clients:
    """Nodes that are connected and in step."""

    def __init__(self, bridge: Bridge, tls: bool) -> None:
        self._bridge = bridge
        self._authority = at_once(Authority.open(Folder(bridge.state))) if tls else None
        self._open: list[ClientConnection] = []

    async def add(self, number: int) -> None:
        """Connect one more, and let it say hello until it is in step."""
        node = f"node-{number}"
        path = protocol.PATH if self._authority else f"{protocol.PATH}/{node}"
        context = self._context(node) if self._authority else None
        client = await connect(
            f"{'wss' if context else 'ws'}://localhost:{self._bridge.port}{path}",
            ssl=context,
            subprotocols=[Subprotocol(protocol.SUBPROTOCOL)],
            compression=None,
            ping_interval=15,
            proxy=None,
        )
        self._open.append(client)
        info = {"window": 8, "max_message": 2304}
        await client.send(cbor2.dumps([protocol.HELLO, protocol.VERSION, protocol.VERSION, bytes(8), info]))
        while cbor2.loads(await client.recv())[0] != protocol.SYNCED:  # type: ignore[arg-type]
            pass
        await asyncio.sleep(PAUSE_S)

    async def close(self) -> None:
        """Cut all connections."""
        for client in self._open:
            client.transport.abort()

    def _context(self, node: str) -> ssl.SSLContext:
        assert self._authority is not None
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{node}")])
        request = x509.CertificateSigningRequestBuilder(subject).sign(key, hashes.SHA256())
        certificate = self._authority.sign(request.public_bytes(Encoding.DER), node, timedelta(days=1))
        pem = self._bridge.folder / "client.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        pem.write_bytes(certificate.public_bytes(Encoding.PEM) + private)
        context = ssl.create_default_context(cadata=self._authority.der)
        context.load_cert_chain(pem)
        return context


class Bridge:
    """A bridge process of its own, so that nothing but it is in its memory."""

    def __init__(self, folder: Path, tls: bool) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.port, self.enrol_port = free_ports(2)
        self.addresses = {"host": HOST, "port": self.port, "enrol_port": self.enrol_port}
        manifests = folder / "manifests"
        manifests.mkdir(parents=True)
        options = ["--manifests", str(manifests), "--listen", f"{HOST}:{self.port}"]
        if tls:
            options += ["--state", str(self.state), "--name", "localhost"]
            options += ["--enrol", f"{HOST}:{self.enrol_port}"]
        else:
            options.append("--plain")
        self._environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self._command = [sys.executable, "-m", "motelet.tools.cli", "bridge"]
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen([*self._command, *options], env=self._environment, stderr=log)

    def wait(self) -> None:
        """Until it listens. Raises UserError."""
        end = time.monotonic() + START_TIMEOUT_S
        while "listening" not in (self.folder / "log").read_text():
            if self.process.poll() is not None or time.monotonic() > end:
                raise UserError(f"the bridge did not start, see {self.folder / 'log'}")
            time.sleep(0.05)

    def token(self, node: str) -> str:
        """A new token."""
        command = [*self._command, "token", "create", node, "--state", str(self.state)]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def resident_kib(self) -> int:
        """What the process keeps in RAM. Raises UserError where the system does not tell."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except FileNotFoundError as error:
            raise UserError("only Linux tells how much memory another process has") from error
        (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1])


@contextmanager
def _bridge(folder: Path, tls: bool) -> Iterator[Bridge]:
    bridge = Bridge(folder, tls)
    try:
        bridge.wait()
        yield bridge
    finally:
        bridge.process.kill()
        bridge.process.wait()
