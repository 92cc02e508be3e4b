"""The figures of the Kubernetes backend, one JSON line each: real API server and etcd, boards of the tests.

python tests/kubernetes/measure.py
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cloud_bridge import metrics
from cloud_bridge.backends.kubernetes import access
from cloud_bridge.backends.kubernetes.api import MERGE, Api
from cloud_bridge.backends.kubernetes.informer import Informer, Name
from motelet.tools.bench.figures import Figure, quantiles
from motelet.tools.kubernetes.cluster import Cluster

# Only now: a folder of the tests has the name cloud_bridge too.
sys.path += [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from board_client import BoardClient
from kubernetes_world import Bridge, BridgeProcess, Objects, install, prop

from motelet.tools.load.board import SimulatedBoard

PATCHES = 200
DEVICES = 50
ROUNDS = 4
REPORTS, REPORT_SECONDS = 1000, 2.0
STEP = 20  # values between two looks at the link
BOARDS_IDLE, IDLE_SECONDS, PING_SECONDS = 10, 60.0, 15.0
NODE = "board-bench"
WINDOW = 8


class Statuses:
    """Follows every DeviceStatus: when the value of each was seen first, and how often it was written."""

    def __init__(self, api: Api, objects: Objects) -> None:
        path = objects.path("devicestatuses").replace("/namespaces/default", "")
        self.informer = Informer(api, path, self._changed)
        self.seen: dict[tuple[str, str], float] = {}
        self.writes: dict[str, int] = {}
        self.news = asyncio.Event()

    def _changed(self, names: frozenset[Name]) -> None:
        for _, name in names:
            self.writes[name] = self.writes.get(name, 0) + 1
            for twin in self.informer.objects[("default", name)]["status"].get("twins") or ():
                self.seen.setdefault((name, twin["reported"]["value"]), time.perf_counter())
        self.news.set()

    async def until(self, name: str, value: str) -> float:
        """When the status of the device had the value."""
        async with asyncio.timeout(30):
            while (name, value) not in self.seen:
                self.news.clear()
                await self.news.wait()
        return self.seen[name, value]


async def patches(objects: Objects, api: Api, client: BoardClient) -> list[float]:
    """Milliseconds from a PATCH of a desired value to the board holding it."""
    samples = []
    board, path = client.board, objects.path("devices", "bench-0")
    for number in range(PATCHES):
        wanted = f"{number + 1000}"
        body = {"spec": {"properties": [{"name": "level", "desired": {"value": wanted}}]}}
        began = time.perf_counter()
        task = asyncio.create_task(api.request("PATCH", path, body, MERGE))
        await client.until(lambda wanted=wanted: wanted.encode() in board.flash["default/device/bench-0"][1])
        samples.append((time.perf_counter() - began) * 1000)
        await task
    return samples


async def reports(client: BoardClient, statuses: Statuses) -> list[float]:
    """Milliseconds from a report to the event that a watch of DeviceStatus gives."""
    samples = []
    for number in range(ROUNDS):
        for index in range(DEVICES):
            value = 100 + number
            began = time.perf_counter()
            client.board.report(f"default/device/bench-{index}", "level", value, round(time.time() * 1000))
            await client.flush()
            samples.append((await statuses.until(f"bench-{index}", str(value)) - began) * 1000)
        await client.until(lambda: client.board.acked == client.board.tx_seq)
        await asyncio.sleep(1.2)
    return samples


async def flood(client: BoardClient, statuses: Statuses) -> int:
    """Writes for REPORTS values of one device; like a board, the newest is sent once the window has room."""
    board, before = client.board, statuses.writes.get("bench-0", 0)
    end = time.perf_counter()
    for number in range(STEP - 1, REPORTS, STEP):
        if board.tx_seq - board.acked < WINDOW or number == REPORTS - 1:
            board.report("default/device/bench-0", "level", 10_000 + number, round(time.time() * 1000))
        end += REPORT_SECONDS * STEP / REPORTS
        await client.until(lambda end=end: time.perf_counter() >= end)
    await statuses.until("bench-0", str(10_000 + REPORTS - 1))
    return statuses.writes["bench-0"] - before


def written() -> float:
    """Requests of bridges in this process that write."""
    samples = [each for family in metrics.api_requests.collect() for each in family.samples]
    return sum(
        each.value
        for each in samples
        if each.name.endswith("_total") and each.labels["verb"] in ("post", "put", "patch", "delete")
    )


async def idle(cluster: Cluster) -> float:
    """Writes a minute for each board that is connected and only pings."""
    async with Bridge(cluster, "bench-idle") as bridge:
        clients = [bridge.board(f"idle-{i}") for i in range(BOARDS_IDLE)]
        for client in clients:
            await client.__aenter__()
            await client.until(lambda client=client: client.board.synced)
        await asyncio.sleep(3)
        before, end = written(), time.monotonic() + IDLE_SECONDS
        while time.monotonic() < end:
            for client in clients:
                await client.socket.ping()
            await asyncio.sleep(min(PING_SECONDS, max(0.0, end - time.monotonic())))
        count = written() - before
        for client in clients:
            await client.__aexit__()
    return count / BOARDS_IDLE * 60 / IDLE_SECONDS


async def measure(cluster: Cluster, folder: Path) -> list[Figure]:
    objects = Objects(cluster)
    objects.model("bench", [prop("level")])
    for index in range(DEVICES):
        objects.device(f"bench-{index}", NODE, "bench", level="1")
    api = Api(access.find(cluster.kubeconfig()))
    statuses = Statuses(api, objects)
    await statuses.informer.list()
    following = asyncio.create_task(statuses.informer.run())
    figures: list[Figure] = []
    with BridgeProcess(cluster, "bench", folder) as bridge:
        async with bridge.board(NODE, SimulatedBoard()) as client:
            await client.until(lambda: client.board.synced and len(client.board.flash) == DEVICES)
            figures += quantiles("k8s.patch_to_edge_ms", await patches(objects, api, client), "ms")
            figures += quantiles("k8s.report_to_status_ms", await reports(client, statuses), "ms")
            figures.append(Figure("k8s.api_writes_per_1000_reports", await flood(client, statuses), ""))
    figures.append(Figure("k8s.idle_writes_per_node_minute", await idle(cluster), "1/min", BOARDS_IDLE))
    following.cancel()
    await asyncio.wait([following])
    await api.close()
    return figures


def main() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="motelet-k8s-") as name:
        folder = Path(name)
        with Cluster(folder) as cluster:
            install(cluster)
            yield from asyncio.run(measure(cluster, folder))


if __name__ == "__main__":
    for figure in main():
        print(figure.line(), flush=True)
    sys.exit(0)
