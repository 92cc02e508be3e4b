"""What is wrong with an object is told by an event on it and in its status; it harms nothing else."""

import asyncio

import pytest
from kubernetes_world import Bridge, Objects, prop, seen

from cloud_bridge.backends.base import DEVICE_MODEL, Key
from motelet.tools.kubernetes.cluster import Cluster

NOW = 1_790_000_000_000


def invalid(objects: Objects, name: str) -> str:
    body = objects.get("devicestatuses", name) or {}
    return str(body.get("status", {}).get("extensions", {}).get("invalid", ""))


def test_each_fault_is_told_where_kubectl_shows_it(cluster: Cluster) -> None:
    objects = Objects(cluster)
    objects.model("refused", [prop("level", minimum="0", maximum="9"), {**prop("bare"), "visitors": {}}])
    longest = "d" * 253
    objects.device("no-model", "board-rf", "nowhere", level="1")
    objects.device("too-much", "board-rf", "refused", level="10")
    objects.device("bare", "board-rf", "refused", bare="1")
    objects.device(longest, "board-rf", "refused", level="11")
    objects.device("good-rf", "board-rf", "refused", level="1")
    expected = {
        "no-model": "there is no DeviceModel default/nowhere",
        "too-much": "10 is more than the maximum, 9",
        "bare": "spec.properties[0].visitors: is missing",
        longest: "11 is more than the maximum, 9",
    }

    async def run() -> None:
        async with Bridge(cluster) as bridge, bridge.board("board-rf") as client:
            await client.until(lambda: "default/device/good-rf" in client.board.flash)
            for name, text in expected.items():
                await seen(lambda name=name, text=text: any(text in each for each in objects.events(name)))
                await seen(lambda name=name, text=text: text in invalid(objects, name))
            assert list(client.board.flash) == ["default/device/good-rf"]
            objects.desire("too-much", level="9")
            await client.until(lambda: "default/device/too-much" in client.board.flash)
            await seen(lambda: not invalid(objects, "too-much"))
            # The model changes under its devices: one is good no more, and stays what it was.
            bodies = objects.get("devicemodels", "refused")["spec"]["properties"]
            bodies[0]["maximum"] = "5"
            objects.patch("devicemodels", "refused", {"spec": {"properties": bodies}})
            await seen(lambda: "9 is more than the maximum, 5" in invalid(objects, "too-much"))
            assert "default/device/too-much" in client.board.flash

    asyncio.run(run())


def test_the_same_is_not_told_twice_by_a_bridge_that_is_started_again(cluster: Cluster) -> None:
    objects = Objects(cluster)
    objects.device("twice", "board-tw", "nowhere")

    async def run() -> None:
        async with Bridge(cluster):
            await seen(lambda: len(objects.events("twice")) == 1)

    asyncio.run(run())
    asyncio.run(run())


def test_a_model_that_is_not_valid(cluster: Cluster) -> None:
    objects = Objects(cluster)
    objects.model("odd-model", [prop("level", minimum="9", maximum="0")])

    async def run() -> None:
        async with Bridge(cluster) as bridge:
            assert bridge.backend.get(Key(DEVICE_MODEL, "default", "odd-model"))
            await seen(lambda: any("more than the maximum" in each for each in objects.events("odd-model")))

    asyncio.run(run())


def test_an_object_of_a_megabyte_is_refused_and_stops_nothing(cluster: Cluster) -> None:
    objects = Objects(cluster)
    objects.model("big", [prop("level")])
    objects.device("big", "board-big", "big")
    objects.device("small-big", "board-big", "big")

    async def run() -> None:
        async with Bridge(cluster) as bridge, bridge.board("board-big") as client:
            await client.until(lambda: len(client.board.flash) == 2)
            data = {f"key{i}": "x" * 500 for i in range(2000)}
            objects.patch("devices", "big", {"spec": {"protocol": {"configData": data}}})
            await seen(lambda: any("encoded for a board" in each for each in objects.events("big")))
            objects.desire("small-big", level="7")
            await client.until(lambda: b"7" in client.board.flash["default/device/small-big"][1])

    asyncio.run(run())


@pytest.mark.parametrize("schema", ["pattern", "type"])
def test_the_definitions_refuse_what_kubeedges_refuse(cluster: Cluster, schema: str) -> None:
    objects = Objects(cluster)
    if schema == "pattern":
        with pytest.raises(Exception, match="422"):
            objects.model("odd-type", [prop("level", "NUMBER")])
    else:
        with pytest.raises(Exception, match="422"):
            objects.device("odd", "board", "any", level=5)  # type: ignore[arg-type]
