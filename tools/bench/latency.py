"""How long a desired value takes from the YAML to the register, and from there to the status."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator

from motelet.tools.bench.figures import Figure, quantiles
from motelet.tools.bench.interpreters import ROOT
from motelet.tools.cli import UserError
from motelet.tools.demo.system import System

ROUNDS = 100
LOOK_S = 0.002  # how often a condition is looked at: the resolution of the samples
ROUND_TIMEOUT_S = 30
PROGRESS_ROUNDS = 25
SETPOINTS = (24.5, 18.5)


def measure() -> Iterator[Figure]:
    """`e2e.desired_to_register_ms` and `e2e.register_to_status_ms`, over the system that the demo shows.

    TLS, real MicroPython, a Modbus TCP server; the second span starts when the first one ends.
    """
    system = System(ROOT / "latency")
    system.prepare()
    there, back = [], []
    try:
        system.start()
        _wait("the device is online", lambda: _reported(system, None))
        for number in range(ROUNDS):
            setpoint = SETPOINTS[number % len(SETPOINTS)]
            system.desire(setpoint)
            there.append(_wait("the register holds it", lambda: system.registers.read().setpoint == setpoint))  # noqa: B023
            back.append(_wait("the status reports it", lambda: _reported(system, setpoint)))  # noqa: B023
            if number % PROGRESS_ROUNDS == PROGRESS_ROUNDS - 1:
                print(f"... {number + 1} of {ROUNDS} rounds", file=sys.stderr, flush=True)
    finally:
        system.stop()
    yield from quantiles("e2e.desired_to_register_ms", there, "ms")
    yield from quantiles("e2e.register_to_status_ms", back, "ms")


def _reported(system: System, setpoint: float | None) -> bool:
    """Whether the device is online and the status holds `setpoint`, or any value for None."""
    twin = system.twin("setpoint")
    if twin is None or twin.state != "online" or twin.reported is None:
        return False
    return setpoint is None or float(twin.reported) == setpoint


def _wait(what: str, seen: Callable[[], bool]) -> float:
    """Wait until `seen()`; returns the milliseconds it took."""
    began = time.perf_counter()
    while not seen():
        if time.perf_counter() - began > ROUND_TIMEOUT_S:
            raise UserError(f"not within {ROUND_TIMEOUT_S} s: {what}")
        time.sleep(LOOK_S)
    return (time.perf_counter() - began) * 1000
