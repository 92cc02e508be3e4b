"""Cut the power of `motelet.kvlog` at every operation of many workloads, in every way, and look what is left.

    python -m motelet.tools.torture            at least 30,000 cuts, a few minutes on two cores
    python -m motelet.tools.torture --replay ID

Each step of a workload is run once to count its flash operations, then once more for each operation and
each way of cutting it, from a copy of the machine as it was before the step; nothing is sampled away. From
every cut the store is mounted, and that mount is cut at each of its own operations too (and some of those
mounts again). After each: what is there must be what was acknowledged, with or without the one operation
that was under way, as a whole; mounting again must show the same; and the store must take a new value.

The id of a failure spells out all of this: `workload/flash/seed:step:operation.mode+operation.mode...`.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from motelet.kvlog import Store, StoreError, StoreFull
from motelet.ports.unix.cpython import Aes
from motelet.tools.bench.figures import Figure, append
from motelet.tools.cutflash import CutFlash, FlashRuleError, PowerCutError

BLOCKS = 8
RECOVERY_DEPTH_MAX = 3
CUTS_WANTED = 30_000
PARTS = 4
FLASHES = {"nor32": (32, False), "nor256": (256, False), "file32": (32, True)}
PROBE_KEY = "probe/after/the/cut"
REFUSALS = ("full", "busy")  # codes of errors that have changed nothing


class Vault:
    """What secrets are encrypted with: the same nonce each time, so that a failure can be replayed."""

    aes = Aes

    def secret_key(self) -> bytes:
        return b"k" * 32

    def random(self, n: int) -> bytes:
        return b"n" * n


VAULT = Vault()

Step = tuple[Any, ...]  # (what, arguments...): see Machine.do


class TortureError(Exception):
    """What the store promises was not kept. `ident` replays it."""

    def __init__(self, ident: str, reason: str) -> None:
        super().__init__(f"{ident}: {reason}")
        self.ident = ident
        self.reason = reason


@dataclass
class Model:
    """What must be there: what was acknowledged, and perhaps, as a whole, the change that was under way."""

    state: dict[str, bytes] = field(default_factory=dict)
    pending: dict[str, bytes | None] | None = None

    def clone(self) -> Model:
        return Model(dict(self.state), self.pending)

    def begin(self, changes: dict[str, bytes | None]) -> None:
        self.pending = changes

    def commit(self) -> None:
        self.state = self.outcomes()[-1]
        self.pending = None

    def outcomes(self) -> list[dict[str, bytes]]:
        """The states that a mount may find."""
        if self.pending is None:
            return [self.state]
        changed: dict[str, bytes | None] = {**self.state, **self.pending}
        return [self.state, {key: value for key, value in changed.items() if value is not None}]


class Idle:
    """A task that is woken and never runs: the workload says when there is time for a step."""

    def wake(self) -> None:
        """Nothing has to be done for it."""


class Machine:
    """A flash, the store that runs on it, and what it must hold."""

    def __init__(self, flash: CutFlash, store_class: type[Any]) -> None:
        self.flash = flash
        self.store_class = store_class
        self.model = Model()
        self.store: Any = None

    def clone(self) -> Machine:
        """The machine in the same state, RAM and all."""
        other = Machine(self.flash.clone(), self.store_class)
        other.model = self.model.clone()
        if self.store is not None:
            other.store = clone_store(self.store, other.flash)
        return other

    def boot(self) -> None:
        self.store = self.store_class(self.flash)
        self.store.vault = VAULT
        self.store.mount()

    def do(self, step: Step) -> None:
        """Run one step; each change is told to the model before it begins and after it returned."""
        getattr(self, f"_{step[0]}")(*step[1:])

    def _change(self, changes: dict[str, bytes | None], action: Callable[[], object]) -> None:
        self.model.begin(changes)
        try:
            action()
        except StoreError as error:
            if error.code not in REFUSALS:
                raise
            self.model.pending = None
        else:
            self.model.commit()

    def _put(self, key: str, value: bytes) -> None:
        self._change({key: value}, lambda: self.store.put(key, value))

    def _delete(self, key: str) -> None:
        self._change({key: None}, lambda: self.store.delete(key))

    def _batch(self, items: list[tuple[str, bytes | None]]) -> None:
        self._change(dict(items), lambda: self.store.batch(items))

    def _stream(self, key: str, value: bytes, between: list[tuple[str, bytes]], keep: bool) -> None:
        """A streamed put with other puts between its pieces; given up at the end unless `keep`."""
        try:
            writer = self.store.writer(key, len(value))
            size = -(-len(value) // (len(between) + 1)) or 1
            for index in range(len(between) + 1):
                writer.write(value[index * size : (index + 1) * size])
                if index < len(between):
                    self._put(*between[index])
        except StoreError as error:
            if error.code not in REFUSALS:
                raise
            return
        if keep:
            self._change({key: value}, writer.commit)
        else:
            writer.abort()

    def _step(self) -> None:
        self.store.step()

    def _remount(self) -> None:
        self.boot()

    def _pace(self) -> None:
        """From here to the next mount the store has a task: a put that would erase twice is refused."""
        self.store.task = Idle()

    def _stick(self, block: int) -> None:
        self.flash.stuck.add(block)

    def found(self) -> dict[str, bytes | None]:
        return {key: self.store.get(key) for key in list(self.store.keys())}

    def verify(self, ident: str) -> None:
        """Raise TortureError unless a mount finds what it must, another the same, and writing works."""
        try:
            self._verify(ident)
        except (TortureError, PowerCutError):
            raise
        except (Exception, FlashRuleError) as error:
            raise TortureError(ident, f"{type(error).__name__}: {error}") from error

    def _verify(self, ident: str) -> None:
        self.flash.count()
        self.flash.reseed(ident)
        self.boot()
        found = self.found()
        outcomes: list[dict[str, bytes]] = self.model.outcomes()
        if found not in outcomes:
            raise TortureError(ident, "found " + difference(found, outcomes[0]))
        if self.store.damaged and not self.flash.as_file:
            raise TortureError(ident, f"{self.store.damaged} records called damaged")
        found = self._write_probe(ident, found)
        self.flash.reseed(f"{ident} again")
        self.boot()
        again = self.found()
        if again.pop(PROBE_KEY, None) != ident.encode():
            raise TortureError(ident, "what was written after the mount is not there")
        if again != found:
            raise TortureError(ident, "mounted again: " + difference(again, found))

    def _write_probe(self, ident: str, found: dict[str, bytes | None]) -> dict[str, bytes | None]:
        """Write a new value; while the store is full, delete for it. What must be there besides it."""
        left = dict(found)
        while True:
            try:
                self.store.put(PROBE_KEY, ident.encode())
                return left
            except StoreFull:
                if not left:
                    raise
            victim = min(left)
            self.store.delete(victim)
            del left[victim]


def clone_store(store: Any, flash: CutFlash) -> Any:
    """A copy of the store's RAM on another flash. Buffers hold nothing between two calls."""
    other = type(store)(flash)
    other.vault = store.vault
    fixed = ("flash", "on_damage", "vault", "_buf", "_view", "_start", "_pattern")
    for name, value in vars(store).items():
        if name not in fixed:
            setattr(other, name, copy.deepcopy(value))
    return other


def difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """What differs, short."""
    parts = [f"{key} missing" for key in wanted if key not in found]
    parts += [f"{key} extra" for key in found if key not in wanted]
    parts += [f"{key} = {found[key]!r:.40}" for key in found if key in wanted and found[key] != wanted[key]]
    return "; ".join(parts) or "no difference"


# Workloads: (steps that only prepare, steps that are cut)


def _name(rng: random.Random, index: int) -> str:
    return f"default/device/thermometer-{index:02d}-" + "x" * rng.randrange(1, 20)


def _value(rng: random.Random, low: int = 0, high: int = 300) -> bytes:
    # Mostly small, and every value tells its origin: one that is mixed from two is seen.
    return rng.randbytes(min(rng.randrange(low, high + 1), rng.randrange(low, high + 1)))


def _names(rng: random.Random, count: int) -> list[str]:
    return [_name(rng, index) for index in range(count)]


def workload_put(rng: random.Random) -> tuple[list[Step], list[Step]]:
    return [], [("put", name, _value(rng, 0, 564)) for name in _names(rng, 12)]


def workload_overwrite(rng: random.Random) -> tuple[list[Step], list[Step]]:
    names = _names(rng, 5)
    puts: list[Step] = [("put", rng.choice(names), _value(rng, 90, 110)) for _ in range(222)]
    return puts[:-10], puts[-10:]


def workload_delete(rng: random.Random) -> tuple[list[Step], list[Step]]:
    names = _names(rng, 8)
    steps: list[Step] = []
    for _ in range(230):
        name = rng.choice(names)
        steps.append(("put", name, _value(rng)) if rng.random() < 0.5 else ("delete", name))
    return steps[:-12], steps[-12:]


def workload_batch(rng: random.Random) -> tuple[list[Step], list[Step]]:
    names = _names(rng, 14)
    steps: list[Step] = []
    for _ in range(40):
        chosen = rng.sample(names, rng.randrange(2, 8))
        steps.append(
            ("batch", [(name, None if rng.random() < 0.2 else _value(rng, 0, 700)) for name in chosen])
        )
    return steps[:-4], steps[-4:]


def workload_stream(rng: random.Random) -> tuple[list[Step], list[Step]]:
    names = _names(rng, 4)
    steps: list[Step] = []
    for _ in range(14):
        between = [(rng.choice(names[:2]), _value(rng)) for _ in range(rng.randrange(4))]
        value = rng.randbytes(rng.choice([0, 564, 565, 1128, rng.randrange(600, 3000)]))
        steps.append(("stream", rng.choice(names), value, between, rng.random() < 0.8))
        if rng.random() < 0.3:
            steps.append(("delete", rng.choice(names)))
    return steps[:-3], steps[-3:]


def workload_secret(rng: random.Random) -> tuple[list[Step], list[Step]]:
    """Values that are encrypted: each a stream, the new in the place of the old or beside it."""
    names = [f"default/secret/wifi-{index}" for index in range(3)]
    steps: list[Step] = []
    for _ in range(16):
        draw = rng.random()
        if draw < 0.6:
            steps.append(("put", rng.choice(names), _value(rng, 1, 1500)))
        elif draw < 0.75:
            steps.append(("delete", rng.choice(names)))
        else:
            steps.append(("batch", [(names[0], _value(rng)), (names[1], None), ("plain", _value(rng))]))
    return steps[:-4], steps[-4:]


def workload_compaction(rng: random.Random) -> tuple[list[Step], list[Step]]:
    """As full as it gets, so that nearly every put copies others."""
    names = [f"node/{index}" for index in range(6)]
    steps: list[Step] = [("put", name, rng.randbytes(110)) for name in names]
    steps += [("put", name, _value(rng, 200, 564)) for name in _names(rng, 60)]
    for _ in range(200):
        steps.append(("put", rng.choice(names), _value(rng, 50, 110)))
        if rng.random() < 0.3:
            steps.append(("step",))
    return steps[:-8], steps[-8:]


def workload_mount(rng: random.Random) -> tuple[list[Step], list[Step]]:
    """Many starts, few writes: a start must not use the store up."""
    names = _names(rng, 6)
    steps: list[Step] = [("put", name, _value(rng, 100, 500)) for name in names]
    for _ in range(60):
        steps += [("remount",)] * rng.randrange(1, 5)
        if rng.random() < 0.4:
            steps.append(("put", rng.choice(names), _value(rng, 100, 500)))
        if rng.random() < 0.1:
            steps.append(("delete", rng.choice(names)))
    return steps[:-4], steps[-4:]


def workload_stuck(rng: random.Random) -> tuple[list[Step], list[Step]]:
    """Blocks wear out while it runs."""
    names = _names(rng, 5)
    steps: list[Step] = [("put", rng.choice(names), _value(rng, 50, 200)) for _ in range(130)]
    for at in (115, 60):
        steps.insert(at, ("stick", rng.randrange(BLOCKS)))
    return steps[:105], steps[105:]


def workload_full(rng: random.Random) -> tuple[list[Step], list[Step]]:
    """Full, paced, of worn blocks, and values of many chunks come all the same."""
    names = _names(rng, 4)
    steps: list[Step] = [("put", name, rng.randbytes(110)) for name in names]
    steps += [("put", f"static/{index}", _value(rng, 200, 564)) for index in range(8)]
    steps.append(("pace",))
    for _ in range(160):
        draw = rng.random()
        if draw < 0.35:
            steps.append(("put", rng.choice(names), _value(rng, 50, 900)))
        elif draw < 0.55:
            between = [(rng.choice(names), _value(rng)) for _ in range(rng.randrange(3))]
            value = rng.randbytes(rng.randrange(600, 2500))
            steps.append(("stream", rng.choice(names), value, between, rng.random() < 0.8))
        elif draw < 0.65:
            steps.append(
                ("batch", [(name, None if rng.random() < 0.3 else _value(rng)) for name in names[1:]])
            )
        elif draw < 0.75:
            steps.append(("delete", rng.choice([*names, f"static/{rng.randrange(8)}"])))
        elif draw < 0.97:
            steps.append(("step",))
        else:
            steps += [("remount",), ("pace",)]
    steps.insert(rng.choice((120, -5)), ("stick", rng.randrange(BLOCKS)))
    return steps[:-8], steps[-8:]


def workload_mixed(rng: random.Random) -> tuple[list[Step], list[Step]]:
    names = _names(rng, 10)
    steps: list[Step] = []
    for _ in range(200):
        draw = rng.random()
        if draw < 0.45:
            steps.append(("put", rng.choice(names), _value(rng, 0, 900)))
        elif draw < 0.6:
            steps.append(("delete", rng.choice(names)))
        elif draw < 0.75:
            chosen = rng.sample(names, 3)
            steps.append(("batch", [(name, None if rng.random() < 0.3 else _value(rng)) for name in chosen]))
        elif draw < 0.85:
            steps.append(("stream", rng.choice(names), rng.randbytes(1500), [(names[0], _value(rng))], True))
        elif draw < 0.95:
            steps.append(("step",))
        else:
            steps.append(("remount",))
    return steps[:-8], steps[-8:]


WORKLOADS: dict[str, Callable[[random.Random], tuple[list[Step], list[Step]]]] = {
    name.removeprefix("workload_"): function
    for name, function in list(globals().items())
    if name.startswith("workload_")
}


@dataclass
class Run:
    """One workload on one kind of flash with one seed.

    `part` of `parts`: which of its steps are cut; `cuts_max`: when to stop (0: never).
    """

    workload: str
    flash: str
    seed: int
    part: int = 0
    parts: int = 1
    store_class: type[Any] = Store
    cuts_max: int = 0

    @property
    def ident(self) -> str:
        return f"{self.workload}/{self.flash}/{self.seed}"

    def machine(self) -> Machine:
        prog_size, as_file = FLASHES[self.flash]
        machine = Machine(CutFlash(BLOCKS, prog_size, as_file=as_file), self.store_class)
        machine.boot()
        return machine

    def steps(self) -> tuple[list[Step], list[Step]]:
        return WORKLOADS[self.workload](random.Random(f"{self.workload}/{self.seed}"))

    def machines(self) -> Iterator[tuple[str, Machine, Step]]:
        """The machine before each step that is to be cut."""
        machine = self.machine()
        prepare, steps = self.steps()
        for step in prepare:
            machine.do(step)
        for index, step in enumerate(steps):
            if index % self.parts == self.part:
                yield f"{self.ident}:{index}", machine, step
            machine.do(step)

    def cuts(self) -> Iterator[str]:
        """Make every cut; yields the id of each after it was survived. Raises TortureError."""
        return itertools.islice(self._cuts(), self.cuts_max or None)

    def _cuts(self) -> Iterator[str]:
        for ident, machine, step in self.machines():
            probe = machine.clone()
            probe.flash.count()
            probe.do(step)
            for operation in range(probe.flash.operations):
                for mode in machine.flash.modes():
                    yield from self._cut(machine, step, f"{ident}:{operation}.{mode}", operation, mode)

    def _cut(self, machine: Machine, step: Step, ident: str, operation: int, mode: str) -> Iterator[str]:
        victim = machine.clone()
        cut(victim, ident, operation, mode, lambda: victim.do(step))
        victim.store = None  # RAM is gone
        victim.clone().verify(ident)
        yield ident
        yield from self._cut_recovery(victim, ident, 1)

    def _cut_recovery(self, machine: Machine, ident: str, depth: int) -> Iterator[str]:
        """Cut the mount after a cut at each of its operations, the mount after that at one."""
        rng = random.Random(ident)
        probe = machine.clone()
        probe.flash.count()
        probe.flash.reseed(ident)
        probe.boot()
        chosen = list(range(probe.flash.operations))
        if depth > 1 and chosen:
            chosen = [rng.choice(chosen)]
        for operation in chosen:
            mode = rng.choice(machine.flash.modes())
            deeper = f"{ident}+{operation}.{mode}"
            victim = machine.clone()
            cut(victim, deeper, operation, mode, victim.boot)
            victim.store = None
            victim.clone().verify(deeper)
            yield deeper
            if depth < RECOVERY_DEPTH_MAX and rng.random() < 0.2:
                yield from self._cut_recovery(victim, deeper, depth + 1)


def cut(machine: Machine, ident: str, operation: int, mode: str, action: Callable[[], object]) -> None:
    """Run `action` with the power cut at `operation`. Where weak bits took it another way there is no cut."""
    machine.flash.arm(operation, mode, ident)
    try:
        action()
    except PowerCutError:
        pass
    except (Exception, FlashRuleError) as error:
        raise TortureError(ident, f"before the cut, {type(error).__name__}: {error}") from error


def replay(ident: str, store_class: type[Any] = Store) -> None:
    """Do again what the id says. Raises TortureError if it still fails, ValueError if it is no id."""
    head, index, path = ident.split(":")
    workload, flash, seed = head.split("/")
    run = Run(workload, flash, int(seed), store_class=store_class)
    where, machine, step = next(item for item in run.machines() if item[0] == f"{head}:{index}")
    print(f"{where}: {step!r:.200}")
    so_far = f"{where}:"
    machine = machine.clone()
    for number, part in enumerate(path.split("+")):
        so_far += ("+" if number else "") + part
        operation, mode = part.split(".")
        cut(machine, so_far, int(operation), mode, machine.boot if number else lambda: machine.do(step))
        machine.store = None
        print(f"  cut at operation {operation}, {mode}")
    machine.verify(so_far)
    print("  survived")


def plan(seeds: int) -> list[Run]:
    """Every step of every workload on every flash, the long ones first and in pieces."""
    runs = [
        Run(workload, flash, seed, part, PARTS)
        for workload in WORKLOADS
        for seed in range(seeds)
        for flash in FLASHES
        for part in range(PARTS)
    ]
    return sorted(runs, key=lambda run: run.workload not in ("mount", "compaction"))


def work(run: Run) -> tuple[int, str | None]:
    """All cuts of one run: how many, and the first failure."""
    count = 0
    try:
        for _ in run.cuts():
            count += 1
    except TortureError as error:
        return count + 1, str(error)
    return count, None


def torture(runs: list[Run], processes: int) -> tuple[int, list[str]]:
    """Make all cuts of `runs`; how many there were, and what failed."""
    total = 0
    failures = []
    with multiprocessing.Pool(processes) as pool:
        for count, failure in pool.imap_unordered(work, runs):
            total += count
            if failure is not None:
                failures.append(failure)
                print(failure, flush=True)
    return total, failures


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--replay", metavar="ID", help="do one failure again")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each workload on each flash (2)")
    parser.add_argument("--processes", type=int, default=2, help="worker processes (2)")
    parser.add_argument("--output", type=Path, default=Path("build/torture.jsonl"), help="where figures go")


def run(args: argparse.Namespace) -> int:
    """Exit status 1 when anything was lost, or when there were too few cuts to say so."""
    if args.replay:
        try:
            replay(args.replay)
        except TortureError as error:
            print(f"  FAILED: {error.reason}")
            return 1
        return 0
    started = time.monotonic()
    total, failures = torture(plan(args.seeds), args.processes)
    spent = os.times().children_user + os.times().children_system
    seconds = f"{time.monotonic() - started:.0f} s, {spent:.0f} s of processor time"
    print(f"{total} power cuts, {len(failures)} failures, {seconds}")
    append(args.output, (Figure("kv.power_cuts", total, "count"), Figure("kv.lost", len(failures), "count")))
    return 1 if failures or total < CUTS_WANTED else 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="torture", description="Cut the power of the store, again and again."
    )
    configure(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
