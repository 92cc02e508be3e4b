"""`motelet simulate`: run seeds, say which failed and how to see it again, and write the figures down."""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from motelet.tools.bench.figures import Figure, append
from motelet.tools.simulate.seams import everywhere
from motelet.tools.simulate.simulation import Outcome, Scale, Simulation
from motelet.tools.simulate.worlds import by_world, run_world

DEFAULT = Scale()
SHOWN_MAX = 600
"""Characters of a failure on the terminal; the trace has all of it."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `motelet simulate`."""
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the first seed (default 0)")
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="how many seeds, one after the other (1)"
    )
    parser.add_argument(
        "--minutes", type=float, default=DEFAULT.minutes, metavar="M", help="virtual minutes with faults (30)"
    )
    parser.add_argument("--gateways", type=int, default=DEFAULT.gateways, metavar="N", help="gateways (20)")
    parser.add_argument(
        "--devices", type=int, default=DEFAULT.devices, metavar="N", help="devices of each (10)"
    )
    parser.add_argument(
        "--fault-every",
        type=float,
        default=DEFAULT.fault_every,
        metavar="S",
        help="seconds between two faults, on average; 0 for none (60)",
    )
    parser.add_argument(
        "--trace", type=Path, metavar="FILE", help="write what happens, a line each; with one seed"
    )
    parser.add_argument(
        "--seams",
        action="store_true",
        help="instead: one board, with an error at each call of its flash, its streams and its memory",
    )
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="worker processes (2)")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="append the figures sim.seeds and sim.speedup"
    )
    parser.epilog = """\
Everything is drawn from the seed: the same seed does the same, byte for byte of its trace. Exit status 1
when a promise was broken; what is printed then replays it.
"""


def run(args: argparse.Namespace) -> int:
    """Run the seeds; -> exit status."""
    if args.seams:
        return _seams()
    scale = Scale(args.minutes, args.gateways, args.devices, args.fault_every)
    seeds = range(args.seed, args.seed + args.seeds)
    if args.trace is not None:
        if len(seeds) != 1:
            print("motelet simulate: --trace is for one seed", file=sys.stderr)
            return 2
        with args.trace.open("w", encoding="utf-8") as trace:
            return report([Simulation(args.seed, scale, trace).run()], scale, 0, None)
    started = time.monotonic()
    with outcomes(seeds, scale, args.processes) as found:
        return report(found, scale, started, args.output)


@contextlib.contextmanager
def outcomes(seeds: Iterable[int], scale: Scale, processes: int) -> Iterator[Iterable[Outcome]]:
    """The outcome of each seed, as they come."""
    simulate = partial(run_world, scale=scale)
    worlds = by_world(seeds)
    if len(worlds) == 1 and len(worlds[0]) == 1:
        yield [Simulation(worlds[0][0], scale).run()]
        return
    # Processes of their own even if it is one: what forks itself has no threads.
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield chain.from_iterable(pool.imap_unordered(simulate, worlds))


def report(found: Iterable[Outcome], scale: Scale, started: float, output: Path | None) -> int:
    """Print what comes of the seeds, and the sum; -> exit status. `started`: 0 for no sum."""
    done = [_told(each, scale) for each in found]
    if started:
        seconds = time.monotonic() - started
        virtual = sum(each.virtual_seconds for each in done)
        failures = sum(each.failure is not None for each in done)
        speed = f"{virtual / seconds:.0f} times as fast as time"
        print(f"{len(done)} seeds, {failures} failures, {seconds:.0f} s, {speed}")
        if output is not None:
            seeds = Figure("sim.seeds", len(done), "count")
            append(output, (seeds, Figure("sim.speedup", round(virtual / seconds, 1), "x", len(done))))
    return 1 if any(each.failure for each in done) else 0


def _seams() -> int:
    found = list(everywhere())
    failures = [each for each in found if each is not None]
    for each in failures:
        print(each[:SHOWN_MAX])
    print(f"{len(found)} errors, {len(failures)} failures")
    return 1 if failures else 0


def _told(outcome: Outcome, scale: Scale) -> Outcome:
    head = f"seed {outcome.seed}"
    if outcome.failure is None:
        print(
            f"{head}: right again {outcome.settled_seconds:.0f} s after the last of {outcome.faults} faults; "
            f"{outcome.device_writes} writes to devices, {outcome.acknowledged} acknowledgements",
            flush=True,
        )
        return outcome
    print(f"{head}: FAILED {outcome.failure[:SHOWN_MAX]}", flush=True)
    print(
        f"  again: {replay(outcome.seed, scale)} --trace {os.path.join('build', f'{outcome.seed}.trace')}",
        flush=True,
    )
    return outcome


def replay(seed: int, scale: Scale) -> str:
    """The command that does it again."""
    changed = [
        f" --{name.replace('_', '-')} {getattr(scale, name):g}"
        for name in ("minutes", "gateways", "devices", "fault_every")
        if getattr(scale, name) != getattr(DEFAULT, name)
    ]
    return f"motelet simulate --seed {seed}{''.join(changed)}"
