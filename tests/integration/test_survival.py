"""Gateway and bridge killed (SIGKILL) at any moment, and started again: nothing is lost, nothing sent twice.

Everything is real: the bridge and its folder, the gateway on MicroPython with its flash image, Modbus.
"""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from motelet.tools.demo.system import System

DEADLINE_S = 90.0
pytestmark = pytest.mark.slow


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    """The three processes of the demo, in step."""
    running = System(tmp_path / "system")
    running.prepare()
    try:
        running.start()
        wait_for("the setpoint is reported", lambda: reported(running, 21.0))
        yield running
    finally:
        running.stop()


def wait_for(what: str, happened: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not happened():
        assert time.monotonic() < end, f"{what}: did not happen"
        time.sleep(0.01)


def reported(system: System, degrees: float) -> bool:
    twin = system.twin("setpoint")
    return twin is not None and twin.reported == f"{degrees:g}" and twin.state == "online"


def register(system: System) -> float:
    return system.registers.read().setpoint


def log(path: Path, *words: str) -> list[str]:
    text = path.read_text() if path.exists() else ""
    return [line for line in text.splitlines() if all(word in line for word in words)]


def test_a_killed_gateway_works_from_its_store_before_any_link_is_up(system: System) -> None:
    system.gateway.kill()
    system.bridge.kill()
    system.registers.write_setpoint(10.0)
    system.gateway.start()
    wait_for("the desired value is in the device again", lambda: register(system) == 21.0)
    assert not log(system.gateway.log, "connected")
    system.bridge.start()
    wait_for("the link is up", lambda: bool(log(system.gateway.log, "connected")))


def test_a_killed_gateway_catches_up_with_what_changed_meanwhile(system: System) -> None:
    system.gateway.kill()
    system.desire(24.5)
    time.sleep(1)
    system.gateway.start()
    wait_for("the new value is in the device", lambda: register(system) == 24.5)
    wait_for("and reported", lambda: reported(system, 24.5))


def test_a_killed_bridge_sends_nothing_twice_and_everything_that_was_missed(system: System) -> None:
    system.bridge.kill()
    system.bridge.start()
    wait_for("the board is back", lambda: bool(log(system.bridge.log, "board said hello")))
    # In step again without an object sent: whatever the bridge had to send, it would have sent before this.
    wait_for("in step", lambda: len(log(system.gateway.log, "synced")) == 2)
    assert not log(system.bridge.log, "board holds")
    system.bridge.kill()
    system.desire(19.5)
    system.bridge.start()
    wait_for("what was missed arrives", lambda: register(system) == 19.5 and reported(system, 19.5))
    assert len(log(system.bridge.log, "board holds")) == 1


def test_reports_made_while_the_bridge_was_away_arrive(system: System) -> None:
    system.bridge.kill()
    system.registers.write_setpoint(12.5)
    time.sleep(1.5)
    system.bridge.start()
    wait_for("the newest value is in the status file", lambda: reported(system, 12.5))


def test_kills_at_random_moments_end_in_step(system: System) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for number in range(6):
        victim = chance.choice([system.gateway, system.bridge])
        system.desire(15 + number / 2)
        time.sleep(chance.random() * 0.4)
        victim.kill()
        victim.start()
    wait_for("the last desired value is in the device", lambda: register(system) == 17.5)
    wait_for("and reported", lambda: reported(system, 17.5))
