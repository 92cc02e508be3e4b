"""Many boards on one bridge process whose links flap, to the boards and to CloudCore: does its memory stay?

    python tests/cloudcore/flapping.py --boards 500 --seconds 600

Boards and the stand-in for CloudCore are in this process, the bridge is another. Every board comes, reports,
stays a while and goes, politely or not; now and then CloudHub loses a session. At the end all boards are
there, every newest value is in the cluster, and the bridge's memory is that of after the beginning.
"""

import argparse
import asyncio
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from motelet.tools.freeport import free_port

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the tests have a folder cloud_bridge too
sys.path += [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from board_client import BoardClient
from cloudhub_peer import CloudHubPeer
from memory_backend import device, model
from websockets.exceptions import WebSocketException

from motelet import protocol
from motelet.tools.load.board import SimulatedBoard

GROWTH_MAX = 1.10
"""What the bridge's memory at the end may be of what it was once all boards had been there."""
WARM_UP = 0.3
"""The part of the time that this takes."""
STAY_SECONDS = (2.0, 20.0)
AWAY_SECONDS = (0.0, 2.0)
CUT_SECONDS = 0.2
"""Mean time between two sessions that CloudHub loses."""
SAMPLE_SECONDS = 0.5


class Boards:
    """`count` boards on the bridge at `port`, until `stop` is set."""

    def __init__(self, count: int, port: int, seed: int) -> None:
        self.port = port
        self.random = random.Random(seed)
        self.boards = {f"board-{number}": SimulatedBoard() for number in range(count)}
        self.values = dict.fromkeys(self.boards, 0)
        self.connections = 0
        self.stop = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for node in self.boards:
                tasks.create_task(self._flap(node))

    async def _flap(self, node: str) -> None:
        await asyncio.sleep(self.random.uniform(0, len(self.boards) / 50))
        while not self.stop.is_set():
            try:
                await self._visit(node, self.random.uniform(*STAY_SECONDS))
            except (OSError, WebSocketException, TimeoutError):
                pass  # that is what flapping is
            await asyncio.sleep(self.random.uniform(*AWAY_SECONDS))

    async def _visit(self, node: str, seconds: float) -> None:
        board = self.boards[node]
        async with BoardClient(board, self.port, path=f"{protocol.PATH}/{node}", ping_interval=10) as client:
            self.connections += 1
            until = time.monotonic() + seconds
            lamp = f"default/device/lamp-{node}"
            await client.until(lambda: lamp in board.flash or time.monotonic() > until or self.stop.is_set())
            if lamp in board.flash:
                seq = board.report(lamp, "level", self.values[node] % 100, 1_700_000_000_000)
                await client.until(lambda: board.acked >= seq)
                self.values[node] += 1
            await client.until(lambda: time.monotonic() > until or self.stop.is_set())
            if self.random.random() < 0.5:
                client.socket.transport.abort()


async def flap(boards: int, seconds: float, seed: int, folder: Path) -> list[float]:
    """Do it; -> samples of the bridge's memory in MiB. Raises AssertionError for what is not right."""
    peer = CloudHubPeer()
    cloud = await peer.start()
    peer.apply(model())
    port = free_port()
    command = [sys.executable, "-m", "motelet.tools.cli", "bridge", "--cloudcore", f"ws://127.0.0.1:{cloud}"]
    command += ["--cloudcore-state", str(folder), "--plain", "--listen", f"127.0.0.1:{port}"]
    with open(folder / "bridge.log", "wb") as log:
        bridge = subprocess.Popen([*command, "--log-level", "warning"], stderr=log)
    flock = Boards(boards, port, seed)
    for node in flock.boards:
        peer.apply(device(f"lamp-{node}", nodeName=node))
    running = asyncio.create_task(flock.run())
    try:
        samples = await _disturb(peer, flock, bridge, seconds)
        flock.stop.set()
        await running
        await _check(peer, flock)
    finally:
        running.cancel()
        os.kill(bridge.pid, signal.SIGTERM)
        status = await asyncio.to_thread(bridge.wait, 60)  # while connections here are closed, too
        await peer.stop()
    assert status == 0, f"the bridge ended with {status}"
    assert peer.faults == [], peer.faults[:5]
    return samples


async def _disturb(
    peer: CloudHubPeer, flock: Boards, bridge: subprocess.Popen[Any], seconds: float
) -> list[float]:
    """Lose sessions for so long; -> samples of the bridge's memory."""
    samples: list[float] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        await asyncio.sleep(min(SAMPLE_SECONDS, flock.random.expovariate(1 / CUT_SECONDS)))
        assert bridge.poll() is None, f"the bridge ended with {bridge.returncode}"
        if peer.sessions:
            peer.cut(flock.random.choice(list(peer.sessions)))
        samples.append(_memory(bridge.pid))
        for (kind, _, _), body in peer.objects.items():
            if kind == "Device" and body["spec"]["nodeName"] in peer.sessions:
                if (body["spec"]["nodeName"], body["metadata"]["uid"]) not in peer.sync:
                    peer.push(body["spec"]["nodeName"], "DeviceModel", "insert", _model(peer))
                    peer.push(body["spec"]["nodeName"], "Device", "insert", body)
    return samples


async def _check(peer: CloudHubPeer, flock: Boards) -> None:
    """Once all boards are here for good, the cluster has the newest value of each."""
    flock.stop.clear()
    clients = []
    for node, board in flock.boards.items():
        client = BoardClient(board, flock.port, path=f"{protocol.PATH}/{node}", ping_interval=10)
        clients.append(await client.__aenter__())
        await client.flush()
        await asyncio.sleep(0.015)  # the bridge lets in a hundred a second

    def missing() -> list[str]:
        return [
            node
            for node, count in flock.values.items()
            if count and peer.status(f"lamp-{node}").get("level", ("",))[0] != str((count - 1) % 100)
        ]

    end = time.monotonic() + 90
    while missing() and time.monotonic() < end:
        await asyncio.sleep(0.2)
    assert not missing(), f"not in the cluster: {missing()[:5]}"
    for client in clients:
        client.socket.transport.abort()


def _model(peer: CloudHubPeer) -> dict[str, Any]:
    return peer.objects[("DeviceModel", "default", "lamp-model")]


def _memory(pid: int) -> float:
    """MiB of RAM that the process has."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


def growth(samples: list[float]) -> float:
    """The memory of the last tenth of the time by that of a tenth after the warm-up."""
    tenth = max(1, len(samples) // 10)
    begin = int(len(samples) * WARM_UP)
    return statistics.median(samples[-tenth:]) / statistics.median(samples[begin : begin + tenth])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boards", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    args = parser.parse_args()
    print(f"{args.boards} boards for {args.seconds:.0f} s, seed {args.seed}", flush=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 16384)), hard))
    with tempfile.TemporaryDirectory() as folder:
        samples = asyncio.run(flap(args.boards, args.seconds, args.seed, Path(folder)))
    begin = samples[len(samples) // 3]
    print(f"memory {begin:.1f} MiB, at the end {samples[-1]:.1f} MiB, {growth(samples):.3f}")
    return 0 if growth(samples) <= GROWTH_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
