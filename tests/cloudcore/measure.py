"""The figures `cloudcore.*` of `make bench`: one JSON line each on standard output.

The stand-in for CloudCore, a bridge, the real MicroPython gateway and a Modbus device for the latencies;
boards with TLS on both sides for the memory; the demo's thermostat for the bytes of an update. A desired
value is timed from its patch in the cluster to the register, as an application would wait for it; a report
from the register to the moment when CloudCore's confirmation leaves.
"""

import asyncio
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the tests have a folder cloud_bridge too
sys.path += [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import cbor2
from board_client import BoardClient
from ca_peer import CaPeer
from cloudhub_peer import CloudHubPeer
from flapping import _memory
from peer_thread import PeerThread

from cloud_bridge.backends.cloudcore.credentials import Credentials
from cloud_bridge.identity.folder import Folder, at_once
from cloud_bridge.identity.identity import Identity
from motelet import protocol
from motelet.tools.bench.figures import Figure, quantiles
from motelet.tools.demo.system import NODE, System
from motelet.tools.freeport import free_ports
from motelet.tools.load.board import SimulatedBoard

ROUNDS = 100
LOOK_SECONDS = 0.001
ROUND_SECONDS = 120.0
NODES = 200


def latencies(folder: Path) -> Iterator[Figure]:
    """There and back, `ROUNDS` times, over the system that the demo shows; and the bytes of an update."""
    cloud = PeerThread()
    system = System(folder, backend=["--cloudcore", f"ws://127.0.0.1:{cloud.port}"])
    try:
        system.prepare()
        cloud.thermostat(system.thermostat_port)
        system.start()
        _wait(lambda: NODE in cloud.peer.sessions)
        cloud.call(lambda peer: peer.resend())
        _wait(lambda: _reported(cloud, 21.0))
        there, back = [], []
        for number in range(ROUNDS):
            degrees = (24.5, 18.5)[number % 2]
            cloud.call(lambda peer, degrees=degrees: peer.desire("thermostat", "setpoint", f"{degrees:g}"))
            there.append(_wait(lambda degrees=degrees: system.registers.read().setpoint == degrees))
            back.append(_wait(lambda degrees=degrees: _reported(cloud, degrees)))
    finally:
        system.stop()
        cloud.stop()
    yield from quantiles("cloudcore.desired_to_edge_ms", there, "ms")
    yield from quantiles("cloudcore.report_to_ack_ms", back, "ms")


def _reported(cloud: PeerThread, degrees: float) -> bool:
    return cloud.peer.status("thermostat").get("setpoint", ("",))[0] == f"{degrees:g}"


def _wait(happened: Callable[[], bool]) -> float:
    """Wait until it happened; -> milliseconds."""
    began = time.perf_counter()
    while not happened():
        if time.perf_counter() - began > ROUND_SECONDS:
            raise SystemExit(f"did not happen within {ROUND_SECONDS:.0f} s")
        time.sleep(LOOK_SECONDS)
    return (time.perf_counter() - began) * 1000


async def sizes(folder: Path) -> list[Figure]:
    """What an update of a desired value costs on either link, and a node of memory."""
    ca = CaPeer(folder)
    url = ca.start()
    nodes = [f"board-{number}" for number in range(NODES)]
    peer = CloudHubPeer()
    cloud = await peer.start(context=ca.context(required=True))
    identity = await Identity.open(Folder(folder / "state"))
    await asyncio.to_thread(Credentials(folder / "state" / "cloudcore").join, url, ca.token(), nodes)
    port, enrol = free_ports(2)
    command = [sys.executable, "-m", "motelet.tools.cli", "bridge", "--cloudcore", f"wss://127.0.0.1:{cloud}"]
    command += ["--state", str(folder / "state"), "--listen", f"127.0.0.1:{port}", "--name", "localhost"]
    with open(folder / "bridge.log", "wb") as log:
        bridge = subprocess.Popen([*command, "--enrol", f"127.0.0.1:{enrol}"], stderr=log)
    clients = []
    try:
        for number, node in enumerate(nodes):
            client = await _joined(identity, folder, node, port)
            clients.append(client)
            if number == NODES // 10:
                before = _memory(bridge.pid)
        await _all_in(peer, NODES)
        after = _memory(bridge.pid)
        updates = await _updates(peer, clients[0])
    finally:
        for client in clients:
            client.socket.transport.abort()
        os.kill(bridge.pid, signal.SIGTERM)
        bridge.wait(60)
        await peer.stop()
        ca.stop()
    count = NODES - NODES // 10 - 1
    return [Figure("cloudcore.kib_per_node", (after - before) * 1024 / count, "KiB", count), *updates]


async def _joined(identity: Identity, folder: Path, node: str, port: int) -> BoardClient:
    """A board of this node, connected over TLS and with all that it has to hold."""
    context = await asyncio.to_thread(_context, identity, folder, node)
    for _ in range(100):
        with suppress(OSError):
            client = await BoardClient(SimulatedBoard(), port, context, ping_interval=10).__aenter__()
            await client.until(lambda board=client.board: board.synced)
            return client
        await asyncio.sleep(0.1)
    raise SystemExit("the bridge does not listen")


def _context(identity: Identity, folder: Path, node: str) -> ssl.SSLContext:
    from certificates import new_key
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import NameOID

    key = new_key("ec")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{node}")])
    request = x509.CertificateSigningRequestBuilder(name).sign(key, hashes.SHA256())
    _, der = at_once(identity.renew(node, request.public_bytes(Encoding.DER)))
    file = folder / f"{node}.pem"
    pem = x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
    file.write_bytes(pem + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.create_default_context(cadata=identity.authority.der)
    context.load_cert_chain(file)
    return context


async def _all_in(peer: CloudHubPeer, count: int) -> None:
    async with asyncio.timeout(60):
        while len(peer.sessions) < count or sum(key[0] == "Lease" for key in peer.objects) < count:
            await asyncio.sleep(0.1)
    await asyncio.sleep(2)


async def _updates(peer: CloudHubPeer, client: BoardClient) -> list[Figure]:
    from peer_thread import bodies

    for body in bodies():
        if body["kind"] == "Device":
            body["spec"]["nodeName"] = "board-0"
        peer.apply(body)
    board = client.board
    resource = "default/device/thermostat"
    await client.until(lambda: resource in board.flash)
    down = sent = 0
    for number in range(20):
        version, log, bytes_sent = board.flash[resource][0], len(board.log), peer.bytes_sent
        peer.desire("thermostat", "setpoint", f"{15 + number % 5}.5")
        await client.until(lambda version=version: board.flash[resource][0] != version)
        await asyncio.sleep(0.05)
        down += sum(len(cbor2.dumps(each)) for each in board.log[log:] if each[0] == protocol.PUT)
        sent += peer.bytes_sent - bytes_sent
    return [
        Figure("cloudcore.bytes_to_board_per_device_update", down / 20, "bytes", 20),
        Figure("cloudcore.bytes_from_cloudcore_per_device_update", sent / 20, "bytes", 20),
    ]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        figures: list[Any] = [*latencies(Path(folder) / "system")]
        figures += asyncio.run(sizes(Path(folder)))
    for figure in figures:
        print(figure.line(), flush=True)


if __name__ == "__main__":
    main()
