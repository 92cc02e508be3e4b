"""One simulation: everything put together, run with faults, left alone, and looked at.

It begins when every board has all of its devices and everything is right. Getting there takes a third of the
time of a whole run and meets no fault, so `WORLD` seeds, one after the other, share a *world*: what is drawn
until then is drawn from the world's number, and what is drawn afterwards from the seed. A world is started
once and then forked (`motelet.tools.simulate.worlds`); a seed that is run by itself starts its world and goes
on in it, and does the same. What boards meet with an empty flash they meet with a full one again at each
power cut, and what a bridge meets that sees everything for the first time at each of its restarts.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TextIO

from cloud_bridge.backends.base import DEVICE, Key
from motelet.edgehub import WINDOW
from motelet.protocol import WINDOW_MAX
from motelet.tools.cutflash import FlashRuleError
from motelet.tools.simulate.board import Board
from motelet.tools.simulate.bridge import Bridge
from motelet.tools.simulate.cloud import Cloud
from motelet.tools.simulate.eventloop import VirtualLoop
from motelet.tools.simulate.faults import Faults
from motelet.tools.simulate.field import SETPOINT
from motelet.tools.simulate.ledger import InvariantError, Ledger
from motelet.tools.simulate.network import Door
from motelet.tools.simulate.schedule import MINUTE, SECOND, Schedule
from motelet.tools.simulate.workload import BUSY, CALM, Workload
from motelet.uploads import UPLOADS_MAX

SETTLE_MAX = 10
"""Minutes within which everything has to be right again when the faults have stopped."""
LOOK_EVERY = 10 * SECOND
WORLD = 10
"""Seeds that begin in the same world."""
BUSY_EVERY = 20
"""One world in so many is busy, the others are calm."""
GROWTH = 1500
GROWTH_PER_GATEWAY = 75
GROWTH_PER_MINUTE = 60
"""Blocks of memory: what is loaded by need, what the ledger remembers (each version, event and value that was
asked for), and what devices report late. Some third of what there is room for is the most that was seen."""


@dataclass(frozen=True)
class Scale:
    """How much is simulated: `minutes` with a fault every `fault_every` seconds on average (0: none).

    `gateways` boards have `devices` each.
    """

    minutes: float = 30
    gateways: int = 20
    devices: int = 10
    fault_every: float = 60


@dataclass
class Outcome:
    """How a simulation ended: `failure` is None when every promise was kept."""

    seed: int
    failure: str | None
    virtual_seconds: float
    settled_seconds: float = 0
    faults: int = 0
    device_writes: int = 0
    acknowledged: int = 0


class _Bridges(logging.Handler):
    """Takes what bridges log."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__()
        self._simulation = simulation

    def emit(self, record: logging.LogRecord) -> None:
        self._simulation.bridge_said(record)


class Simulation:
    """One run from `seed`; `trace`, if there is one, gets a line for whatever happens."""

    def __init__(self, seed: int, scale: Scale, trace: TextIO | None = None) -> None:
        self.seed = seed
        self.scale = scale
        self._trace = trace
        self._drawn: dict[str, random.Random] = {}
        self._drawn_from = f"world {seed // WORLD}"
        self.schedule = Schedule()
        self.ledger = Ledger(self.schedule)
        self.cloud = Cloud(self.schedule, self.ledger, self._rng("cloud"))
        self.door = Door()
        self.bridge = Bridge(self.cloud, self.door, self._rng("bridge"), self.say)
        self.boards = [
            Board(
                number,
                self.schedule,
                self.ledger,
                self.cloud,
                self.door,
                self._rng(f"board {number}"),
                self.say,
                self._look,
                "error" if trace is None else "info",  # making lines that nobody reads takes time
            )
            for number in range(scale.gateways)
        ]
        self._by_name = {board.name: board for board in self.boards}
        pace = CALM if seed // WORLD % BUSY_EVERY else BUSY
        self.workload = Workload(
            self.schedule, self.ledger, self.cloud, self.boards, scale.devices, self._rng("users"), pace
        )
        self.faults: Faults | None = None
        self.growth = 0
        """Blocks of memory that are in use at the end and were not when all was right for the first time."""
        self._blocks = 0
        self._wrong_last: tuple[str, ...] = ()
        """The device that was not right at the last look, and is looked at first at the next."""
        self._loop = VirtualLoop(self.schedule)
        self._loop.set_exception_handler(self._unhandled)
        self._running = True

    def run(self) -> Outcome:
        """Start the world and go on in it; never raises for a broken promise."""
        with self.started() as failure:
            return Outcome(self.seed, failure, 0) if failure else self.go_on(self.seed)

    @contextlib.contextmanager
    def started(self) -> Iterator[str | None]:
        """Have the world as it is when everything is right -> the promise that was broken on the way."""
        failure = None
        with self._heard(), _uncollected():
            try:
                self._loop.run_until_complete(self._start())
            except (InvariantError, FlashRuleError) as error:
                failure = str(error)
            try:
                yield failure
            finally:
                self._running = False
                self.ledger.over = True
                self.schedule.failure = None
                self._loop.run_until_complete(self._end())
                self._loop.close()

    def go_on(self, seed: int) -> Outcome:
        """Run `seed`, one of the world's, in the world that was started. Once."""
        self.seed = seed
        self._drawn_from = f"{seed}"
        for what, rng in self._drawn.items():
            rng.seed(f"{seed} {what}")
        outcome = Outcome(seed, None, 0)
        try:
            outcome.settled_seconds = self._loop.run_until_complete(self._main()) / SECOND
        except (InvariantError, FlashRuleError) as error:
            outcome.failure = str(error)
        outcome.virtual_seconds = self.schedule.now / SECOND
        outcome.faults = self.faults.count if self.faults else 0
        outcome.device_writes = self.ledger.device_writes
        outcome.acknowledged = self.ledger.acknowledged
        return outcome

    @contextlib.contextmanager
    def _heard(self) -> Iterator[None]:
        """Hear what bridges log, and nobody else."""
        handler = _Bridges(self)
        loggers = [logging.getLogger(name) for name in ("cloud_bridge", "websockets", "asyncio")]
        before = [(each.level, each.propagate) for each in loggers]
        for logger in loggers:
            logger.addHandler(handler)
            logger.propagate = False
            logger.setLevel(logging.INFO if logger.name == "cloud_bridge" else logging.ERROR)
        source, logging._srcfile = logging._srcfile, None  # nobody reads from which line a record is
        try:
            yield
        finally:
            logging._srcfile = source
            for logger, (level, propagate) in zip(loggers, before, strict=True):
                logger.removeHandler(handler)
                logger.setLevel(level)
                logger.propagate = propagate

    async def _start(self) -> None:
        """Return when everything is right for the first time."""
        await self.bridge.start()
        for board in self.boards:
            board.power_on()
        await self._settled()
        self._blocks = _blocks()

    async def _main(self) -> int:
        """-> how long it took to settle, in microseconds."""
        self.workload.start()
        if self.scale.fault_every:
            every = round(self.scale.fault_every * SECOND)
            self.faults = Faults(
                self.schedule, self.boards, self.bridge, self.cloud, self._rng("faults"), self.say, every
            )
        await asyncio.sleep(self.scale.minutes * 60)
        if self.faults:
            self.faults.stop()
        self.workload.stop()
        self.say("simulation", "no more faults")
        took = await self._settled()
        for board in self.boards:
            board.check_held()
        self.growth = _blocks() - self._blocks
        limit = GROWTH + GROWTH_PER_GATEWAY * self.scale.gateways + GROWTH_PER_MINUTE * self.scale.minutes
        if self.growth > limit and not self.ledger.failing_tasks:
            self.ledger.fail(f"{self.growth} more blocks of memory than at the start, at most {limit:.0f}")
        await asyncio.sleep(0.001)
        return took

    async def _settled(self) -> int:
        """Return when everything is right -> how long that took, in microseconds."""
        began = self.schedule.now
        while (wrong := next(self._wrong(), None)) is not None:
            if self.schedule.now - began > SETTLE_MAX * MINUTE:
                self.ledger.fail(f"{SETTLE_MAX} minutes after the last fault: {wrong}")
            await asyncio.sleep(LOOK_EVERY / SECOND)
        return self.schedule.now - began

    async def _end(self) -> None:
        """Leave nothing behind that is under way."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        self.bridge.end()
        await asyncio.wait(tasks)

    def _unhandled(self, _loop: Any, context: dict[str, Any]) -> None:
        """asyncio has an exception, or a task, that nobody took."""
        if self._running:
            self.ledger.fail(f"asyncio: {context['message']} {context.get('exception')!r}")

    # -- what is said ------------------------------------------------------------------------

    def say(self, who: str, text: str) -> None:
        """A line of the trace, which ends when the simulation does: tasks are cleared away in no order."""
        if self._trace is not None and self._running:
            self._trace.write(f"{self.schedule.now / SECOND:.6f} {who} {text}\n")

    def bridge_said(self, record: logging.LogRecord) -> None:
        """A line of the bridge's log."""
        pairs: dict[str, Any] = getattr(record, "pairs", {})
        if self._trace is not None:
            shown = "".join(f" {key}={value}" for key, value in pairs.items())
            self.say("bridge", f"{record.levelname.lower()} {record.getMessage()}{shown}")
        if record.msg == "device" and "version" in pairs:
            key = pairs["key"]
            self.ledger.version(f"{key.namespace}/device/{key.name}", pairs["version"])
        elif record.msg == "board holds":
            self._delivered(self._by_name[pairs["node"]], pairs["resource"], pairs["version"])
        elif record.name.startswith(("websockets", "asyncio")) or record.msg == "session failed":
            error = record.exc_info[1] if record.exc_info else pairs.get("error", "")
            self.ledger.fail(f"the bridge: {record.getMessage()} {error!r}")

    def _delivered(self, board: Board, resource: str, version: str) -> None:
        """The bridge was told what a board holds."""
        self.ledger.acknowledged += 1
        if version == "none":
            board.acked.pop(resource, None)
            if resource not in self.cloud.deleted_at and "/configmap/" not in resource:
                self.ledger.fail(f"{board.name} was made to forget {resource}, which is there")
            return
        board.acked[resource] = version, self.schedule.now
        if resource not in self.ledger.things and self.ledger.versions[resource][-1:] != [version]:
            self.ledger.version(resource, version)
        if board.gateway is not None:
            self.ledger.acked_down(resource, version, board.held(resource))

    # -- what has to be true -----------------------------------------------------------------

    def _look(self, board: Board) -> None:
        """Look whether everything about a board is within its bounds."""
        bridge, gateway = self.bridge.hub, board.gateway
        link = bridge._links.get(board.name) if bridge is not None else None
        if link is not None:
            session = link.session
            if len(session._delivery._sent) > WINDOW:
                self._unbounded(board, "messages under way to it", len(session._delivery._sent), WINDOW)
            if len(session._intake._open) > WINDOW_MAX:
                self._unbounded(board, "open messages of it", len(session._intake._open), WINDOW_MAX)
        if gateway is not None and gateway.edgehub.connected:
            hub = gateway.edgehub
            if hub._tx_seq - hub._tx_acked > WINDOW:
                self._unbounded(board, "messages under way from it", hub._tx_seq - hub._tx_acked, WINDOW)
            if hub.uploads is not None and len(hub.uploads) > UPLOADS_MAX:
                self._unbounded(board, "messages in its flash", len(hub.uploads), UPLOADS_MAX)

    def _unbounded(self, board: Board, what: str, count: int, limit: int) -> None:
        self.ledger.fail(f"{board.name}: {count} {what}, at most {limit}")

    def _wrong(self) -> Iterator[str]:
        """What is not as it should be when all is quiet."""
        for board in self.boards:
            if board.gateway is None or not board.gateway.edgehub.synced:
                yield f"{board.name} is not in step with the bridge"
        hub = self.bridge.hub
        if hub is None or hub.nodes != sorted(self._by_name):
            yield "not every board has a session"
            return
        bodies = self.workload.bodies
        for name in (*self._wrong_last, *bodies):
            for wrong in self._wrong_device(name, bodies[name], name in self.workload.spoiled):
                self._wrong_last = (name,)
                yield wrong
        yield from self.workload.pods.wrong()
        for board in self.boards:
            if board.gateway.edgehub.uploads is not None and len(board.gateway.edgehub.uploads):
                yield f"{board.name}: events wait"
        missing = self.ledger.missing_events()
        if missing:
            yield f"events are lost: {', '.join(missing[:5])}"

    def _wrong_device(self, name: str, body: dict[str, Any], spoiled: bool) -> Iterator[str]:
        thing = self.ledger.things[name]
        board = self._by_name[body["spec"]["nodeName"]]
        device = board.gateway.twin.devices.get(name.replace("/device/", "/"))
        there = Key(DEVICE, body["metadata"]["namespace"], body["metadata"]["name"]) in self.cloud.objects
        held = board.held(name)
        newest = self.ledger.versions[name][-1]
        if held != (newest if there else None) or (device is None) == there:
            yield f"{name}: {board.name} holds {held}, the newest is {newest}"
        status = self.cloud.status(name)
        if status is None or device is None:
            return
        state = status.get("state"), status.get("extensions", {}).get("stateReason", "")
        if spoiled:
            if not state[1]:
                yield f"{name}: it cannot be used and its state is {state}"
            return
        if state != ("online", ""):
            yield f"{name}: its state is {state}"
        twins = {each["propertyName"]: each for each in status.get("twins", ())}
        for prop, value in (("setpoint", thing.unit.holding[SETPOINT]), ("level", thing.unit.inputs[0])):
            if twins.get(prop, {}).get("reported", {}).get("value") != str(value):
                yield f"{name}: {prop} is {value}, its twin {twins.get(prop)}"
        wanted = body["spec"]["properties"][0].get("desired", {}).get("value")
        if wanted is not None and wanted != str(thing.unit.holding[SETPOINT]):
            yield f"{name}: setpoint is {thing.unit.holding[SETPOINT]}, {wanted} is desired"
        if wanted is not None and twins["setpoint"].get("observedDesired", {}).get("value") != wanted:
            yield f"{name}: setpoint {wanted} is desired, its twin {twins['setpoint']}"

    def _rng(self, what: str) -> random.Random:
        """The chance of one part; what is there when a run begins is seeded anew."""
        rng = self._drawn[what] = random.Random(f"{self._drawn_from} {what}")
        return rng


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Have memory looked through only when it is asked for, and what is there already not at all."""
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.enable()


def _blocks() -> int:
    """Blocks of memory in use."""
    gc.collect()
    return sys.getallocatedblocks()
