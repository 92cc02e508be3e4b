"""`motelet demo --once`: there and back without a screen, each step with a name and a deadline."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from pymodbus.exceptions import ModbusException

from motelet.tools.demo.processes import Process
from motelet.tools.demo.system import System

PERIOD_SECONDS = 0.005
"""How often a condition is looked at: the resolution of the times printed."""
PROGRESS_SECONDS = 2.0
TAIL_LINES = 15
SETPOINTS = (24.5, 18.5)
"""The desired value is changed to the first of these that it is not yet."""


class StepError(Exception):
    """A step that did not happen. `processes` are those whose logs may tell why, the likeliest first."""

    def __init__(self, text: str, processes: Sequence[Process]) -> None:
        super().__init__(text)
        self.processes = processes


@dataclass(frozen=True)
class Step:
    """One thing that has to happen.

    `seen` looks once and returns None when it has happened, else what is seen instead. `needs` are the
    processes without which it cannot happen, the likeliest culprit first. `act`, if any, sets it going.
    """

    name: str
    seconds: float
    needs: Sequence[Process]
    seen: Callable[[], str | None]
    act: Callable[[], None] = field(default=lambda: None)


def run_step(step: Step, output: TextIO) -> float:
    """Wait until the step has happened. Returns the seconds it took; raises StepError."""
    started = time.monotonic()
    told = started
    step.act()
    while (instead := step.seen()) is not None:
        now = time.monotonic()
        for process in step.needs:
            state = process.state()
            if not state.running:
                raise StepError(f"{process.name} {state.text} ({instead})", [process])
        if now - started > step.seconds:
            raise StepError(f"not within {step.seconds:g} s: {instead}", step.needs)
        if now - told > PROGRESS_SECONDS:
            told = now
            print(f"      ... {instead}", file=output, flush=True)
        time.sleep(PERIOD_SECONDS)
    return time.monotonic() - started


def steps(system: System) -> list[Step]:
    """The way there and back. `system` is prepared."""
    twin = system.twin("setpoint")
    setpoint = next(each for each in SETPOINTS if twin is None or twin.desired != str(each))
    return [
        Step(
            "thermostat, bridge and gateway are up",
            20,
            system.processes,
            lambda: _not_up(system),
            system.start,
        ),
        Step(
            "the device is online and in sync",
            30,
            (system.gateway, system.bridge, system.thermostat),
            lambda: _not_online(system),
        ),
        Step(
            f"the register holds the desired setpoint {setpoint}",
            15,
            (system.thermostat, system.gateway, system.bridge),
            lambda: _not_in_register(system, setpoint),
            lambda: system.desire(setpoint),
        ),
        Step(
            "the status file reports it",
            15,
            (system.bridge, system.gateway, system.thermostat),
            lambda: _not_reported(system),
        ),
    ]


def run_once(system: System, output: TextIO) -> int:
    """Run all steps. Returns the exit status: 0, or 1 after the step that did not happen."""
    todo = steps(system)
    times = []
    for number, step in enumerate(todo, 1):
        print(f"[{number}/{len(todo)}] {step.name}", file=output, flush=True)
        try:
            times.append(run_step(step, output))
        except StepError as failure:
            _explain(step, failure, output)
            return 1
        print(f"      done in {times[-1] * 1000:.0f} ms", file=output, flush=True)
    there, back = times[-2] * 1000, times[-1] * 1000
    print(f"desired value in YAML -> Modbus register  {there:7.0f} ms", file=output)
    print(f"Modbus register -> status in YAML         {back:7.0f} ms", file=output)
    print(f"there and back                            {there + back:7.0f} ms", file=output)
    return 0


def _explain(step: Step, failure: StepError, output: TextIO) -> None:
    print(f"FAILED: {step.name}: {failure}", file=output)
    for process in failure.processes:
        print(f"--- end of {process.log} ---", file=output)
        print(*(process.tail(TAIL_LINES) or ["(empty)"]), sep="\n", file=output)


def _not_up(system: System) -> str | None:
    try:
        system.registers.read()
    except ModbusException as error:
        return f"thermostat: {error}"
    if not system.bridge_listens():
        return f"the bridge does not listen on port {system.bridge_port} yet"
    return None


def _not_online(system: System) -> str | None:
    twin = system.twin("setpoint")
    if twin is None or twin.state != "online":
        return f"state of the device: {twin.state if twin and twin.state else 'none reported yet'}"
    if twin.age is None or twin.age > time.time() - system.started:
        return "nothing reported since the start"
    return None if twin.synchronised else f"setpoint: desired {twin.desired}, reported {twin.reported}"


def _not_in_register(system: System, setpoint: float) -> str | None:
    try:
        held = system.registers.read().setpoint
    except ModbusException as error:
        return f"thermostat: {error}"
    return None if held == setpoint else f"the register holds {held}"


def _not_reported(system: System) -> str | None:
    twin = system.twin("setpoint")
    if twin is not None and twin.synchronised:
        return None
    return f"reported: {twin.reported if twin else 'nothing'}"
