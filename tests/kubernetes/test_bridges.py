"""What an operator does to bridges and to the API server: nothing is lost, and nothing older lands later."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from board_client import BoardClient
from kubernetes_world import Bridge, BridgeProcess, Objects, get, prop, seen, session
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from cloud_bridge.backends.base import DEVICE
from cloud_bridge.backends.kubernetes import access
from cloud_bridge.backends.kubernetes import informer as informer_module
from cloud_bridge.backends.kubernetes import nodes as nodes_module
from cloud_bridge.backends.kubernetes.api import Api
from cloud_bridge.backends.kubernetes.budget import Budget
from cloud_bridge.backends.kubernetes.informer import Informer, Name
from cloud_bridge.cloudhub.server import CLOSE_NOT_SERVED
from motelet.tools.kubernetes.cluster import Cluster
from motelet.tools.load.board import SimulatedBoard

APF = "/apis/flowcontrol.apiserver.k8s.io/v1"


class Counter:
    """A board with one device that reports 1, 2, 3, ..; a value that was not acknowledged it says again."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.name = name
        self.resource = f"default/device/{name}"
        self.objects = Objects(cluster)
        self.objects.model(name, [prop("count")])
        self.objects.device(name, name, name)
        self.board = SimulatedBoard()
        self.value = 0

    async def count(self, client: BoardClient, times: int = 1) -> None:
        """Report the next values, each durable before the next."""
        for _ in range(times):
            self.value += 1
            seq = self.board.report(self.resource, "count", self.value, self.value)
            await client.until(lambda seq=seq: self.board.acked >= seq)

    async def connect(self, bridge: Any) -> BoardClient:
        """Connect, again and again until the bridge lets it; -> the connection, with the board in step."""
        async with asyncio.timeout(30):
            while True:
                client: BoardClient = bridge.board(self.name, self.board)
                try:
                    await client.__aenter__()
                    await client.until(lambda: self.board.synced)
                    return client
                except (OSError, ConnectionClosed, InvalidHandshake):
                    await asyncio.sleep(0.05)

    @asynccontextmanager
    async def history(self, cluster: Cluster) -> AsyncIterator[list[int]]:
        """Every value that DeviceStatus has had, as a watch shows them."""
        values: list[int] = []
        api = Api(access.find(cluster.kubeconfig()))

        def changed(names: frozenset[Name]) -> None:
            for name in names & {("default", self.name)}:
                for twin in informer.objects.get(name, {}).get("status", {}).get("twins") or ():
                    values.append(int(twin["reported"]["value"]))

        informer = Informer(
            api, self.objects.path("devicestatuses").replace("/namespaces/default", ""), changed
        )
        await informer.list()
        task = asyncio.create_task(informer.run())
        try:
            yield values
        finally:
            task.cancel()
            await asyncio.wait([task])
            await api.close()

    async def check(self, values: list[int]) -> None:
        """The last value is there, and never was one followed by an older one."""
        await seen(lambda: self.objects.twins(self.name) == {"count": str(self.value)})
        async with asyncio.timeout(10):
            while not values or values[-1] != self.value:
                await asyncio.sleep(0.02)
        assert values == sorted(values)


def test_a_bridge_that_is_killed_at_any_point_goes_on_where_it_was(cluster: Cluster, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    counter = Counter(cluster, "killed")

    async def run() -> None:
        async with counter.history(cluster) as values:
            with BridgeProcess(cluster, "bridge-k", tmp_path) as bridge:
                for _ in range(3):
                    client = await counter.connect(bridge)
                    await counter.count(client)
                    counter.value += 1  # one under way when it happens
                    counter.board.report(counter.resource, "count", counter.value, counter.value)
                    await client.flush()
                    await asyncio.sleep(rng.random() * 0.02)
                    bridge.kill()
                    bridge.start()
                client = await counter.connect(bridge)
                await counter.count(client)
                await counter.check(values)
                await client.__aexit__()

    asyncio.run(run())


def test_a_bridge_that_was_stopped_writes_nothing_more(cluster: Cluster, tmp_path: Path) -> None:
    counter = Counter(cluster, "stopped")

    async def run() -> None:
        with (
            BridgeProcess(cluster, "bridge-s1", tmp_path) as one,
            BridgeProcess(cluster, "bridge-s2", tmp_path) as two,
        ):
            async with counter.history(cluster) as values:
                first = await counter.connect(one)
                await counter.count(first, 2)
                # The next is on its way through the bridge, or in its coalescing, when it stops.
                counter.value += 1
                counter.board.report(counter.resource, "count", counter.value, counter.value)
                await first.flush()
                one.process.send_signal(signal.SIGSTOP)
                second = await counter.connect(two)
                await counter.count(second, 2)
                one.process.send_signal(signal.SIGCONT)
                await asyncio.sleep(1.5)  # for whatever it may still want to write
                assert session(cluster, counter.name).startswith("bridge-s2/")
                await counter.check(values)
                await seen(lambda: "served by bridge-s2 now" in one.log)
                await second.__aexit__()

    asyncio.run(run())


class Cut:
    """A way to the API server that can be cut: connections hang, and new ones are taken and hang too."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._open = asyncio.Event()
        self._open.set()

    async def __aenter__(self) -> "Cut":
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.url = f"https://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._open.set()
        self._server.close()

    def cut(self) -> None:
        self._open.clear()

    def mend(self) -> None:
        self._open.set()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self._to)
        pumps = self._pump(reader, other_writer), self._pump(other_reader, writer)
        await asyncio.gather(*pumps, return_exceptions=True)  # either end may be gone

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._open.wait()
            writer.write(data)
            await writer.drain()
        writer.close()


def test_a_bridge_that_is_cut_off_writes_nothing_old_later(cluster: Cluster, tmp_path: Path) -> None:
    counter = Counter(cluster, "cutoff")

    async def run() -> None:
        async with Cut(cluster.port) as way, counter.history(cluster) as values:
            one = BridgeProcess(cluster, "bridge-c1", tmp_path, way.url)
            await asyncio.to_thread(one.start)
            with BridgeProcess(cluster, "bridge-c2", tmp_path) as two:
                try:
                    first = await counter.connect(one)
                    await counter.count(first, 2)
                    way.cut()
                    counter.value += 1
                    counter.board.report(counter.resource, "count", counter.value, counter.value)
                    await first.flush()
                    await asyncio.sleep(1.5)  # its second of rest is over, the write has begun
                    second = await counter.connect(two)
                    await counter.count(second, 2)
                    way.mend()
                    await seen(lambda: "served by bridge-c2 now" in one.log)
                    await counter.count(second)
                    await counter.check(values)
                    await second.__aexit__()
                finally:
                    one.kill()

    asyncio.run(run())


def test_an_api_server_that_goes_and_comes(cluster: Cluster) -> None:
    counter = Counter(cluster, "apidown")

    async def run() -> None:
        async with Bridge(cluster) as bridge, bridge.board(counter.name, counter.board) as client:
            await client.until(lambda: len(counter.board.flash) == 1)
            await counter.count(client)
            await asyncio.to_thread(cluster.stop_component, "kube-apiserver", signal.SIGKILL)
            counter.value += 1
            seq = counter.board.report(counter.resource, "count", counter.value, counter.value)
            await client.flush()
            assert bridge.backend.synced() and len(counter.board.flash) == 1
            await asyncio.to_thread(cluster.start_apiserver)
            await client.until(lambda: counter.board.acked == seq)
            assert counter.objects.twins(counter.name) == {"count": "2"}
            counter.objects.desire(counter.name, count="7")
            await client.until(lambda: b"7" in counter.board.flash[counter.resource][1])

    asyncio.run(run())


def test_boards_are_let_go_when_the_api_server_is_away_for_long(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another bridge may reach it; this one has its board again as soon as it can."""
    monkeypatch.setattr(nodes_module, "RENEW_SECONDS", 0.2)
    monkeypatch.setattr(nodes_module, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(nodes_module, "LOST_SECONDS", 0.5)
    counter = Counter(cluster, "letgo")

    async def run() -> None:
        async with Bridge(cluster) as bridge:
            client = await counter.connect(bridge)
            await asyncio.to_thread(cluster.stop_component, "kube-apiserver", signal.SIGKILL)
            while client.socket.close_code is None:
                with suppress(ConnectionClosed):
                    await client.socket.ping()
                await asyncio.sleep(0.05)
            assert client.socket.close_code == CLOSE_NOT_SERVED
            await asyncio.to_thread(cluster.start_apiserver)
            client = await counter.connect(bridge)
            await counter.count(client)

    asyncio.run(run())


def test_a_board_let_go_whose_connection_takes_long_to_end_harms_nobody(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter(cluster, "slowend")

    async def run() -> None:
        async with Bridge(cluster) as bridge:
            nodes = bridge.backend.nodes
            disconnect, ends = nodes.disconnect, asyncio.Event()

            async def later(node: str) -> None:
                await ends.wait()
                await disconnect(node)

            monkeypatch.setattr(nodes, "disconnect", later)
            await counter.connect(bridge)
            nodes._let_go()
            nodes._look_at(counter.name)
            await asyncio.sleep(0.5)
            ends.set()
            client = await counter.connect(bridge)
            await counter.count(client)

    asyncio.run(run())


def test_a_list_of_many_pages(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(informer_module, "PAGE", 2)
    objects = Objects(cluster)
    objects.model("pages", [prop("count")])
    names = [f"pages-{i}" for i in range(5)]
    for name in names:
        objects.device(name, "board-pages", "pages")

    async def run() -> None:
        async with Bridge(cluster) as bridge:
            found = {key.name for key in bridge.backend.keys(DEVICE)}
            assert found >= set(names)

    asyncio.run(run())


def test_a_budget_is_kept_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        slept: list[float] = []
        now = asyncio.get_running_loop().time()
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now + sum(slept))

        async def sleep(seconds: float) -> None:
            slept.append(seconds)

        monkeypatch.setattr("cloud_bridge.backends.kubernetes.budget.asyncio.sleep", sleep)
        budget = Budget(10.0)
        for _ in range(31):
            await budget.take()
        # One second of the budget at once, and the other twenty one after the other.
        assert len(slept) in (20, 21) and abs(sum(slept) - 2.1) < 0.11
        slept.clear()
        for _ in range(1000):
            await Budget(0.0).take()
        assert not slept

    asyncio.run(run())


def test_a_version_that_is_too_old_is_listed_anew(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """What went while nothing was heard is found missing from the new list."""
    caplog.set_level("INFO", "cloud_bridge")
    objects = Objects(cluster)
    objects.model("gone", [prop("count")])
    for name in ("gone-1", "gone-2"):
        objects.device(name, "board-gone", "gone")

    async def run() -> None:
        async with Bridge(cluster) as bridge, bridge.board("board-gone") as client:
            await client.until(lambda: len(client.board.flash) == 2)
            informer = bridge.backend._informers["Device"]
            informer._apply = lambda events: None  # type: ignore[method-assign]
            objects.delete("devices", "gone-1")
            await asyncio.sleep(0.3)
            assert len(client.board.flash) == 2
            del informer._apply
            informer._version = "1"
            await asyncio.to_thread(cluster.stop_component, "kube-apiserver", signal.SIGKILL)
            await asyncio.to_thread(cluster.start_apiserver)
            await client.until(lambda: list(client.board.flash) == ["default/device/gone-2"])
            assert any("the version is too old" in each.getMessage() for each in caplog.records)

    asyncio.run(run())


def test_a_server_that_is_busy_is_waited_for(cluster: Cluster) -> None:
    """Real 429s: a priority level without a seat for the bridge's user."""
    counter = Counter(cluster, "busy")
    level = {
        "metadata": {"name": "no-seats"},
        "spec": {
            "type": "Limited",
            "limited": {"nominalConcurrencyShares": 0, "limitResponse": {"type": "Reject"}},
        },
    }
    schema = {
        "metadata": {"name": "no-seats"},
        "spec": {
            "priorityLevelConfiguration": {"name": "no-seats"},
            "matchingPrecedence": 2,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [
                {
                    "subjects": [{"kind": "User", "user": {"name": "motelet-bridge"}}],
                    "resourceRules": [
                        {
                            "verbs": ["patch", "create"],
                            "apiGroups": ["devices.kubeedge.io"],
                            "resources": ["*"],
                            "namespaces": ["*"],
                        }
                    ],
                }
            ],
        },
    }

    async def run() -> None:
        async with Bridge(cluster) as bridge, bridge.board(counter.name, counter.board) as client:
            await client.until(lambda: len(counter.board.flash) == 1)
            await counter.count(client)
            cluster.request("POST", f"{APF}/prioritylevelconfigurations", level)
            cluster.request("POST", f"{APF}/flowschemas", schema)
            try:
                await seen(lambda: refused(cluster))
                for _ in range(5):
                    counter.value += 1
                    seq = counter.board.report(counter.resource, "count", counter.value, counter.value)
                await client.flush()
                await asyncio.sleep(2)
                assert counter.board.acked < seq
            finally:
                cluster.request("DELETE", f"{APF}/flowschemas/no-seats")
                cluster.request("DELETE", f"{APF}/prioritylevelconfigurations/no-seats")
            await client.until(lambda: counter.board.acked == seq)
            assert counter.objects.twins(counter.name) == {"count": str(counter.value)}

    asyncio.run(run())


def refused(cluster: Cluster) -> bool:
    """Whether the API server has taken in the priority level: it says so in the schema's status."""
    schema = get(cluster, f"{APF}/flowschemas/no-seats")
    conditions = schema.get("status", {}).get("conditions") or ()
    return any(each["type"] == "Dangling" and each["status"] == "False" for each in conditions)


def test_few_writes_for_many_reports(cluster: Cluster) -> None:
    counter = Counter(cluster, "many")

    async def run() -> None:
        async with counter.history(cluster) as values:
            async with Bridge(cluster) as bridge, bridge.board(counter.name, counter.board) as client:
                await client.until(lambda: len(counter.board.flash) == 1)
                for _ in range(100):
                    counter.value += 1
                    seq = counter.board.report(counter.resource, "count", counter.value, counter.value)
                    await client.until(lambda seq=seq: seq - counter.board.acked < 32)
                await client.until(lambda seq=seq: counter.board.acked == seq)
            await counter.check(values)
            assert len(values) < 10, values  # 31 reports or more in each

    asyncio.run(run())
