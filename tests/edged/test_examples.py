"""The examples of boards/examples as they are there, run: on a board, and in a process of a Linux gateway."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pod_world import NODE, PodWorld, config_map, wait_for

from cloud_bridge.backends.kubernetes.profiles import FILE, profile
from motelet.tools.demo.thermostat import Thermostat

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "boards" / "examples"
SPEED = 20.0  # of the room before the thermostat


@pytest.fixture(scope="module", params=[False, True], ids=["board", "gateway"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PodWorld]:
    """A board, and a Linux gateway."""
    world = PodWorld(tmp_path_factory.mktemp("examples"), process=request.param)
    try:
        world.start()
        yield world
    finally:
        world.stop()
        print(world.bridge_log.read_text()[-3000:], world.gateway_log.read_text()[-3000:], sep="\n")


@pytest.fixture
def world(running: PodWorld) -> Iterator[PodWorld]:
    """The one or the other, emptied afterwards."""
    yield running
    running.clear()


class Served:
    """An asyncio server in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def do(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    yield served
    served.close()


def example(name: str, **env: str) -> list[dict[str, Any]]:
    """The objects of an example for our node; `env` in the place of what its container has."""
    text = (EXAMPLES / f"{name}.yaml").read_text().replace("kitchen", NODE)
    objects = list(yaml.safe_load_all(text))
    for each in objects:
        if each["kind"] == "Pod":
            each["spec"]["terminationGracePeriodSeconds"] = 5
            for variable in each["spec"]["containers"][0]["env"]:
                variable["value"] = env.pop(variable["name"], variable["value"])
    assert not env
    return objects


def twin(world: PodWorld, device: str, name: str) -> tuple[str | None, str | None]:
    """(reported value, observed desired value) of a property in the cloud."""
    try:
        text = (world.manifests / "status" / "default" / f"{device}.yaml").read_text()
    except FileNotFoundError:
        return None, None
    for each in yaml.safe_load(text)["status"].get("twins", ()):
        if each["propertyName"] == name:
            reported = each.get("reported", {}).get("value")
            return reported, (each.get("observedDesired") or {}).get("value")
    return None, None


def test_blink(world: PodWorld) -> None:
    """Its pin is a line in the log: MicroPython on Linux has no pins."""
    objects = example("blink", PERIOD_MS="40")
    objects[0]["data"]["machine.py"] = (
        "class Pin:\n    OUT = 'out'\n    def __init__(self, number, mode):\n"
        "        print('pin', number, mode)\n"
        "    def value(self, value):\n        print(value)\n"
    )
    world.apply(*objects)
    log = world.logged("blink", "1\n0\n1\n0\n")
    assert "pin 2 out" in log or len(log) > 500
    world.remove("Pod", "blink")
    wait_for("it is gone", lambda: "pod gone pod=default/pod/blink" in world.gateway_log.read_text())


def test_pid_on_the_thermostat(world: PodWorld, served: Served) -> None:
    thermostat = Thermostat(clock=lambda: served.loop.time() * SPEED)
    served.do(thermostat.start())
    try:
        manifests = ROOT / "tools" / "demo" / "manifests"
        device = yaml.safe_load((manifests / "thermostat.yaml").read_text())
        device["spec"]["nodeName"] = NODE
        device["spec"]["protocol"]["configData"]["port"] = thermostat.port
        world.apply(yaml.safe_load((manifests / "thermostat-model.yaml").read_text()), device)
        objects = example("pid", PERIOD_MS="100")
        objects[0]["data"]["target"] = "24.0"
        world.apply(*objects)
        wait_for("it is warm", lambda: abs(thermostat.room.temperature - 24.0) < 0.4)
        objects[0]["data"]["target"] = "20.0"
        world.apply(objects[0])
        wait_for("it is cool again", lambda: abs(thermostat.room.temperature - 20.0) < 0.4)
        assert world.container("pid")["restartCount"] == 0
    finally:
        served.do(thermostat.stop())


def at(world: PodWorld, value: float, observed: str) -> bool:
    """Whether the valve is said to be at `value`, which is what was desired."""
    reported, desired = twin(world, "tank", "valve")
    return reported is not None and float(reported) == value and desired == observed


class Tank:
    """A device of the example's protocol."""

    def __init__(self) -> None:
        self.values = {"tank": "7.25", "valve": "0.0"}
        self.writers: list[asyncio.StreamWriter] = []

    async def start(self) -> int:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        return int(self.server.sockets[0].getsockname()[1])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        while line := await reader.readline():
            words = line.decode().split()
            if words[0] == "set":
                self.values[words[1]] = words[2]
            writer.write((self.values[words[1]] if words[0] == "get" else "ok").encode() + b"\n")

    async def stop(self) -> None:
        self.server.close()
        for writer in self.writers:
            writer.close()
        await asyncio.sleep(0.05)


def test_a_mapper_of_ones_own(world: PodWorld, served: Served) -> None:
    """It takes its devices from the ConfigMap that a cluster's bridge keeps, made here by the same code."""
    tank = Tank()
    port = served.do(tank.start())
    try:
        objects = example("mapper", PERIOD_MS="50")
        device = objects[-1]
        device["spec"]["protocol"]["configData"] = {"host": "127.0.0.1", "port": port}
        empty = config_map(f"device-profile-config-{NODE}", **{FILE: profile([])})
        world.apply(empty, *objects)
        world.running("line-mapper")
        full = config_map(f"device-profile-config-{NODE}", **{FILE: profile([device])})
        assert json.loads(full["data"][FILE])["deviceInstances"][0]["name"] == "tank"
        world.apply(full)
        wait_for("the level is reported", lambda: twin(world, "tank", "level")[0] == "7.25")
        wait_for("the valve was opened", lambda: at(world, 1.0, "1"))
        assert float(tank.values["valve"]) == 1.0
        device["spec"]["properties"][1]["desired"]["value"] = "0.5"
        world.apply(device)
        wait_for("and moved", lambda: at(world, 0.5, "0.5"))
        assert world.container("line-mapper")["restartCount"] == 0
    finally:
        served.do(tank.stop())
