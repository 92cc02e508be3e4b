"""Devices of a real cluster reach a board, and what it reports reaches DeviceStatus."""

import asyncio

import pytest
from kubernetes_world import Bridge, Objects, content, prop, seen

from cloud_bridge.backends.kubernetes import statuswriter
from motelet.tools.kubernetes.cluster import Cluster
from motelet.tools.load.board import SimulatedBoard

NOW = 1_790_000_000_000
PROPERTIES = [prop("setpoint", minimum="0", maximum="100"), prop("power", "BOOLEAN"), prop("label", "STRING")]


def desired(board: SimulatedBoard, resource: str) -> dict[str, str]:
    body = content(board, resource) or {}
    return {each["name"]: each["desired"]["value"] for each in body["properties"] if "desired" in each}


def test_down_and_up(cluster: Cluster) -> None:
    objects = Objects(cluster)
    resource = "default/device/lamp-du"
    objects.model("lamp-du", PROPERTIES)

    async def run() -> None:
        async with Bridge(cluster) as bridge, bridge.board("board-du") as client:
            board = client.board
            await client.until(lambda: board.synced)
            assert not board.flash  # a model alone is nothing to the edge
            objects.device("lamp-du", "board-du", "lamp-du", setpoint="40")
            await client.until(lambda: resource in board.flash)
            assert desired(board, resource) == {"setpoint": "40"}
            objects.desire("lamp-du", setpoint="41", power="true")
            await client.until(lambda: desired(board, resource) == {"setpoint": "41", "power": "true"})
            seq = board.report(resource, "setpoint", 41, NOW, "41")
            await client.until(lambda: board.acked == seq)
            assert objects.twins("lamp-du") == {"setpoint": "41"}
            seq = board.state(resource, "online", NOW)
            await client.until(lambda: board.acked == seq)
            status = objects.get("devicestatuses", "lamp-du")
            assert status["status"]["state"] == "online"
            assert status["status"]["lastOnlineTime"] == "2026-09-21T14:13:20Z"
            assert status["status"]["twins"][0]["observedDesired"]["value"] == "41"
            assert status["metadata"]["ownerReferences"][0]["name"] == "lamp-du"
            assert objects.get("devices", "lamp-du")["status"]["state"] == "online"
            # A cluster keeps no messages of applications: the board is told so, and counts them.
            seq = client.board.event("alarm", b"x")
            await client.until(lambda: seq in client.board.nacks)
            row = cluster.kubectl("get", "devices", "lamp-du", "--no-headers").split()
            assert row[:5] == ["lamp-du", "board-du", "lamp-du", "modbus", "online"]
            objects.delete("devices", "lamp-du")
            await client.until(lambda: not board.flash)

    asyncio.run(run())


def test_a_device_that_moves_is_never_on_both_boards(cluster: Cluster) -> None:
    objects = Objects(cluster)
    resource = "default/device/lamp-mv"
    objects.model("lamp-mv", PROPERTIES)
    objects.device("lamp-mv", "board-mv1", "lamp-mv", setpoint="1")

    async def run() -> None:
        async with (
            Bridge(cluster) as bridge,
            bridge.board("board-mv1") as one,
            bridge.board("board-mv2") as two,
        ):
            await one.until(lambda: resource in one.board.flash)
            await two.until(lambda: two.board.synced)
            objects.patch("devices", "lamp-mv", {"spec": {"nodeName": "board-mv2"}})
            await one.until(lambda: not one.board.flash)
            await two.until(lambda: resource in two.board.flash)
            seq = one.board.report(resource, "setpoint", 1, NOW)
            await one.until(lambda: seq in one.board.nacks)
            await seen(lambda: any("board-mv1" in each for each in objects.events("lamp-mv")))

    asyncio.run(run())


def test_five_properties_a_restart_and_one_report(cluster: Cluster) -> None:
    objects = Objects(cluster)
    resource = "default/device/five"
    objects.model("five", [prop(f"p{i}") for i in range(5)])
    objects.device("five", "board-five", "five")
    board = SimulatedBoard()

    async def report(values: dict[str, int]) -> None:
        async with Bridge(cluster) as bridge, bridge.board("board-five", board) as client:
            await client.until(lambda: board.synced)
            for name, value in values.items():
                seq = board.report(resource, name, value, NOW)
            await client.until(lambda: board.acked == seq)

    asyncio.run(report({f"p{i}": i for i in range(5)}))
    asyncio.run(report({"p2": 22}))
    assert objects.twins("five") == {"p0": "0", "p1": "1", "p2": "22", "p3": "3", "p4": "4"}


def test_two_writers_lose_nothing_of_each_other(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statuswriter, "INTERVAL_SECONDS", 0.1)
    objects = Objects(cluster)
    resource = "default/device/twow"
    objects.model("twow", PROPERTIES)
    objects.device("twow", "board-twow", "twow")

    async def run() -> None:
        async with Bridge(cluster) as bridge, bridge.board("board-twow") as client:
            await client.until(lambda: client.board.synced)
            for value in range(3):
                seq = client.board.report(resource, "setpoint", value, NOW)
                await client.until(lambda seq=seq: client.board.acked == seq)
                # Somebody else adds a twin, as a second writer of KubeEdge's would.
                stored = objects.get("devicestatuses", "twow")["status"]["twins"]
                stored.append({"propertyName": "label", "reported": {"value": f"by hand {value}"}})
                objects.patch("devicestatuses", "twow", {"status": {"twins": stored}})
            seq = client.board.report(resource, "setpoint", 9, NOW)
            await client.until(lambda: client.board.acked == seq)
            assert objects.twins("twow") == {"setpoint": "9", "label": "by hand 2"}

    asyncio.run(run())
