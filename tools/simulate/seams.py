"""An error at one call of what a board is built on: its flash, its streams, and its memory.

Memory runs out on a board where much of it is asked for at once, and that is where code is loaded: `borrow`
is the seam of allocation. Everything else that allocates is smaller than what a borrowed module needs.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import motelet
from motelet.tools.simulate.board import Board
from motelet.tools.simulate.ledger import Ledger
from motelet.tools.simulate.simulation import Outcome, Scale, Simulation

SCALE = Scale(minutes=0.5, gateways=1, devices=2, fault_every=0)
ERRORS = (OSError(errno.EIO, "injected"), MemoryError("injected"))
FLASH = ("read", "prog", "erase", "sync")
STREAM = ("readinto", "write")


class Seams:
    """Counts calls, and raises `error` at the one of index `at` (-1: at none)."""

    def __init__(self, at: int, error: Exception) -> None:
        self.calls = 0
        self.where = ""
        """What was called when the error was raised."""
        self.paused = False
        self._at = at
        self._error = error

    def wrap(self, owner: Any, *names: str) -> None:
        """Have the methods of `owner` counted."""
        for name in names:
            setattr(owner, name, self.counted(name, getattr(owner, name)))

    def counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, but for one call of all that are counted."""

        def call(*args: Any) -> Any:
            if self.paused:
                return function(*args)
            self.calls += 1
            if self.calls - 1 == self._at:
                self.where = f"{name} {args[0] if name == 'borrow' else ''}"
                raise self._error
            return function(*args)

        return call


@contextmanager
def injected(board: Board, ledger: Ledger, seams: Seams) -> Iterator[None]:
    """Have the seams of `board`, which is the only one, counted; what fails then is no broken promise."""
    seams.wrap(board.flash, *FLASH)
    connect = seams.counted("tcp", board.connect)

    def connected(host: str) -> Any:
        stream = connect(host)
        seams.wrap(stream, *STREAM)
        return stream

    board.connect = connected  # type: ignore[method-assign]
    held = board.held

    def look(resource: str) -> str | None:
        seams.paused = True  # it is the simulation that looks
        try:
            return held(resource)
        finally:
            seams.paused = False

    board.held = look  # type: ignore[method-assign]
    ledger.failing_tasks = True
    borrow = motelet.borrow
    users = [
        module for name, module in sys.modules.items() if name.startswith("motelet") and "tools" not in name
    ]
    users = [module for module in users if getattr(module, "borrow", None) is borrow]
    counted = seams.counted("borrow", borrow)
    for module in users:
        module.borrow = counted  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module in users:
            module.borrow = borrow  # type: ignore[attr-defined]


def run(at: int, error: Exception) -> tuple[Outcome, Seams]:
    """Simulate one board, with `error` at the call of index `at`, or at none if that is negative."""
    simulation = Simulation(0, SCALE)
    seams = Seams(at, error)
    with injected(simulation.boards[0], simulation.ledger, seams):
        return simulation.run(), seams


def everywhere(step: int = 1, start: int = 0) -> Iterator[str | None]:
    """Raise each error at every `step`-th call; for each run what went wrong, None if nothing did."""
    run(-1, ERRORS[0])  # so that all is loaded that the following runs count the loading of
    _, calls = run(-1, ERRORS[0])
    for at in range(start, calls.calls, step):
        for error in ERRORS:
            outcome, seams = run(at, error)
            yield outcome.failure and f"{error!r} at call {at}, {seams.where}: {outcome.failure}"
