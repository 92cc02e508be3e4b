"""The stand-in for CloudCore, a bridge, the real MicroPython gateway and a Modbus device: there and back.

Bridge and gateway are processes, over TLS between them; they are killed, and so is the link to CloudCore.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from build_folder import build_folder
from peer_thread import PeerThread

from motelet.tools.demo.system import MARKER, NODE, System

DEADLINE_S = 120.0
pytestmark = pytest.mark.slow


class World:
    def __init__(self, folder: Path) -> None:
        self.cloud = PeerThread(scale=0.2)
        options = ["--cloudcore", f"ws://127.0.0.1:{self.cloud.port}"]
        self.system = System(folder, backend=options)
        # What the gateway runs is compiled once for all tests of it, and the folder is still the demo's.
        build = build_folder("micropython-boards")
        build.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
        (folder / MARKER).touch()
        (folder / "mpy").symlink_to(build)

    def start(self) -> None:
        self.system.prepare()
        self.cloud.thermostat(self.system.thermostat_port)
        self.system.start()
        wait_for("the board is a node", lambda: NODE in self.cloud.peer.sessions)
        self.cloud.call(lambda peer: peer.resend())

    def stop(self) -> None:
        self.system.stop()
        self.cloud.stop()

    def register(self) -> float:
        return self.system.registers.read().setpoint

    def desire(self, degrees: float) -> None:
        self.cloud.call(lambda peer: peer.desire("thermostat", "setpoint", f"{degrees:g}"))

    def reported(self, degrees: float) -> bool:
        status = self.cloud.call(lambda peer: peer.status("thermostat"))
        return status.get("setpoint", ("",))[0] == f"{degrees:g}" and status["state"] == "online"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    running = World(tmp_path / "system")
    try:
        running.start()
        yield running
    finally:
        running.stop()


def wait_for(what: str, happened: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not happened():
        assert time.monotonic() < end, f"{what}: did not happen"
        time.sleep(0.01)


def test_a_desired_value_reaches_the_register_and_a_report_the_cluster(world: World) -> None:
    wait_for("the first setpoint is in the device", lambda: world.register() == 21.0)
    wait_for("and reported", lambda: world.reported(21.0))
    world.desire(24.5)
    wait_for("a desired value is in the device", lambda: world.register() == 24.5)
    wait_for("and reported", lambda: world.reported(24.5))

    world.system.bridge.kill()
    world.desire(18.5)
    world.system.bridge.start()
    wait_for("what changed while the bridge was away", lambda: world.register() == 18.5)
    wait_for("and reported", lambda: world.reported(18.5))

    world.cloud.restart()
    wait_for("the node is back", lambda: NODE in world.cloud.peer.sessions)
    world.desire(19.5)
    wait_for("a value after CloudCore was away", lambda: world.register() == 19.5)
    wait_for("and reported", lambda: world.reported(19.5))
    assert world.cloud.call(lambda peer: peer.status("thermostat"))["setpoint"] == ("19.5", "19.5")
    assert world.cloud.peer.faults == []
