"""Many seeds in one world: it is started once, and each seed goes on in a process that is a copy of it."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import NoReturn

from motelet.tools.simulate.simulation import WORLD, Outcome, Scale, Simulation


def by_world(seeds: Iterable[int]) -> list[list[int]]:
    """`seeds`, which are in order, in lists of those that begin in the same world."""
    return [list(group) for _, group in groupby(seeds, lambda seed: seed // WORLD)]


def run_world(seeds: list[int], scale: Scale) -> list[Outcome]:
    """Run `seeds`, which are of one world -> their outcomes. For a process without threads: it forks."""
    world = Simulation(seeds[0], scale)
    with world.started() as failure:
        if failure is not None:
            return [Outcome(seed, failure, 0) for seed in seeds]
        return [_in_a_copy(world.go_on, seed) for seed in seeds]


def _in_a_copy(go_on: Callable[[int], Outcome], seed: int) -> Outcome:
    """What `go_on(seed)` returns in a copy of this process. RuntimeError when the copy ends without it."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        _tell(go_on, seed, writing)
    os.close(writing)
    with open(reading, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError(f"seed {seed}: its process ended with {os.waitstatus_to_exitcode(status)}")
    outcome: Outcome = pickle.loads(told)
    return outcome


def _tell(go_on: Callable[[int], Outcome], seed: int, writing: int) -> NoReturn:
    """In the copy: run, tell, and end without clearing away what is the other's as well."""
    status = 1
    try:
        told = pickle.dumps(go_on(seed))
        with open(writing, "wb") as pipe:
            pipe.write(told)
        status = 0
    finally:
        if status:
            traceback.print_exc()
        os._exit(status)
