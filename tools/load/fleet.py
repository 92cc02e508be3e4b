"""Many boards at a time: they connect, hold what they are sent, report, and are timed while they do.

Like a board, each has one report of a property under way at a time, keeps to the bridge's window, and tries
again with a growing, jittered pause when a connection fails. A bridge that breaks the protocol, or refuses a
board for good, ends the load.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import cbor2
from websockets.exceptions import InvalidStatus, WebSocketException

from motelet.tools.cli import UserError
from motelet.tools.load.board import BridgeError, SimulatedBoard
from motelet.tools.load.client import BoardClient

OPENING_MAX = 32
"""Connections being opened at a time."""
BACK_OFF_SECONDS = (0.5, 8.0)
"""Before a connection is tried again: doubling from the one to the other, half of it by chance."""
PING_SECONDS = 15.0
SAMPLES_MAX = 200_000
"""Latencies that are kept; of more, a random choice."""
MESSAGE_MAX = 4096
"""Bytes that a board says it takes: what motelet's gateways say."""
SHOWN_MAX = 3
"""Names in an error."""

Connect = Callable[[SimulatedBoard], BoardClient]


@dataclass
class Tally:
    """What all boards have counted."""

    retries: int = 0
    error: str = ""
    acked: int = 0
    refused: int = 0
    refusal: str = ""
    held_back: int = 0
    latencies: list[float] = field(default_factory=list)
    """Seconds from a report to its acknowledgement."""

    def take(self, seconds: float) -> None:
        """Count a report that is acknowledged."""
        self.acked += 1
        if len(self.latencies) < SAMPLES_MAX:
            self.latencies.append(seconds)
        elif (place := random.randrange(self.acked)) < SAMPLES_MAX:
            self.latencies[place] = seconds


class Goal:
    """Things that are all to happen; `wait` tells when the last one did."""

    def __init__(self, what: str, names: Collection[str]) -> None:
        self._what = what
        self._left = set(names)
        self._count = len(self._left)
        self._done = asyncio.Event()
        self._at = time.perf_counter()
        if not self._left:
            self._done.set()

    def reach(self, name: str) -> None:
        """One of them has happened, perhaps again."""
        self._left.discard(name)
        if not self._left and not self._done.is_set():
            self._at = time.perf_counter()
            self._done.set()

    async def wait(self, seconds: float, hint: Callable[[], str] = str) -> float:
        """When the last happened, by `time.perf_counter`. Raises UserError after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._done.wait()
        except TimeoutError as error:
            some = ", ".join(sorted(self._left)[:SHOWN_MAX])
            text = f"{len(self._left)} of {self._count} {self._what} within {seconds:.0f} s, such as {some}"
            raise UserError(f"{text}{hint()}") from error
        return self._at


class Board(SimulatedBoard):
    """One board of the fleet: what it reports, and when that was acknowledged."""

    def __init__(self, name: str, fleet: Fleet) -> None:
        super().__init__(max_message=MESSAGE_MAX)
        self.name = name
        self.keeps_log = False
        self.to_report = 0.0
        """How many reports are to go out as fast as the window allows."""
        self.properties: list[tuple[str, str, str]] = []
        self._fleet = fleet
        self._under_way: dict[int, tuple[float, int]] = {}
        self._free: list[int] = []
        self._value = 0

    def power_cut(self) -> None:
        """See `SimulatedBoard`; what was under way is reported again."""
        super().power_cut()
        self._under_way = {}
        self._free = list(range(len(getattr(self, "properties", ()))))

    def prepare(self) -> None:
        """Find out from the devices that it holds what there is to report."""
        self.properties = []
        for resource, (_, content) in self.flash.items():
            if "/device/" in resource:
                for each in cbor2.loads(content)["properties"]:
                    self.properties.append((resource, each["name"], each.get("type", "STRING")))
        self._free = list(range(len(self.properties)))

    def report_next(self) -> bool:
        """Report the property that was free longest, if there is one and the window has room for it."""
        if not self._free or len(self._under_way) >= self.bridge_window:
            return False
        index = self._free.pop(0)
        resource, name, kind = self.properties[index]
        self._value += 1
        seq = self.report(resource, name, _value(kind, self._value), round(time.time() * 1000))
        self._under_way[seq] = time.perf_counter(), index
        return True

    def _store(self, seq: int, resource: str, version: str, content: bytes) -> bool:
        stored = super()._store(seq, resource, version, content)
        self._fleet.stored(resource, content)
        return stored

    def _synced(self) -> None:
        super()._synced()
        self._fleet.synced.reach(self.name)

    def _nack(self, seq: int, code: int, reason: str) -> None:
        super()._nack(seq, code, reason)
        if seq in self._under_way:
            _, index = self._under_way.pop(seq)
            self._free.append(index)
            self._fleet.tally.refused += 1
            self._fleet.tally.refusal = f"{self.name}: {reason}"

    def _ack(self, seq: int) -> None:
        super()._ack(seq)
        now = time.perf_counter()
        for each in [each for each in self._under_way if each <= seq]:
            began, index = self._under_way.pop(each)
            self._free.append(index)
            self._fleet.tally.take(now - began)
            resource, name, _ = self.properties[index]
            self._fleet.acked(f"{resource} {name}")
        self.go_on()

    def go_on(self) -> None:
        """Report as much as is to go out and may."""
        while self.to_report > 0 and self.report_next():
            self.to_report -= 1


class Fleet:
    """The boards of these nodes; `connect` makes the connection of a board, not opened yet."""

    def __init__(self, nodes: Sequence[str], connect: Callable[[str, SimulatedBoard], BoardClient]) -> None:
        self.tally = Tally()
        self.synced = Goal("boards are not in step", nodes)
        self.boards = [Board(node, self) for node in nodes]
        self._connect = connect
        self._opening = asyncio.Semaphore(OPENING_MAX)
        self._clients: dict[str, BoardClient] = {}
        self._stored: tuple[Goal, str] | None = None
        self._acked: Goal | None = None

    async def run(self) -> None:
        """Keep all boards connected until cancelled. Raises UserError."""
        async with asyncio.TaskGroup() as tasks:
            for board in self.boards:
                tasks.create_task(self._stay(board))

    # -- what boards tell ---------------------------------------------------------------------

    def stored(self, resource: str, content: bytes) -> None:
        """A board holds a resource in a new version."""
        if self._stored is not None:
            goal, wanted = self._stored
            if not wanted or _desires(content, wanted):
                goal.reach(resource)

    def acked(self, name: str) -> None:
        """A report of a property (``<resource> <property>``) is acknowledged."""
        if self._acked is not None:
            self._acked.reach(name)

    # -- what is waited for -------------------------------------------------------------------

    def failures(self) -> str:
        """What went wrong last, to be added to an error."""
        return "".join(f"; {each}" for each in (self.tally.error, self.tally.refusal) if each)

    def holding(self, resources: Collection[str], wanted: str = "") -> Goal:
        """All of these are held, with `wanted` as a desired value."""
        goal = Goal("devices have not reached their boards", resources)
        self._stored = goal, wanted
        for board in self.boards:
            for resource, (_, content) in board.flash.items():
                self.stored(resource, content)
        return goal

    async def report_once(self, seconds: float) -> float:
        """Have every property reported and acknowledged once; -> seconds it took. Raises UserError."""
        names = []
        for board in self.boards:
            board.prepare()
            names += [f"{resource} {name}" for resource, name, _ in board.properties]
        if not names:
            raise UserError("no board holds a device: give --manifests or --kubernetes, or apply some")
        self._acked = Goal("properties were not acknowledged", names)
        began = time.perf_counter()
        await self._start(lambda board: len(board.properties))
        return await self._acked.wait(seconds, self.failures) - began

    async def report(self, rate: float, seconds: float) -> float:
        """Report for so long, `rate` a second and board (0: as fast as goes); -> acknowledged a second."""
        self.tally.latencies.clear()
        self.tally.acked = self.tally.refused = 0
        began = time.perf_counter()
        if rate:
            await asyncio.gather(*(self._at_rate(board, rate, began + seconds) for board in self.boards))
        else:
            await self._start(lambda _: float("inf"))
            await asyncio.sleep(seconds)
        took, acked = time.perf_counter() - began, self.tally.acked
        await self._start(lambda _: 0)
        return acked / took

    # -- one board ----------------------------------------------------------------------------

    async def _start(self, count: Callable[[Board], float]) -> None:
        """Have each board report so many times, as fast as its window allows."""
        for board in self.boards:
            board.to_report = count(board)
            board.go_on()
        await asyncio.gather(*(self._flush(board) for board in self.boards))

    async def _at_rate(self, board: Board, rate: float, end: float) -> None:
        due = time.perf_counter() + random.random() / rate
        while due < end:
            await asyncio.sleep(due - time.perf_counter())
            if board.report_next():
                await self._flush(board)
            else:
                self.tally.held_back += 1
            due += 1 / rate
        await asyncio.sleep(end - time.perf_counter())

    async def _flush(self, board: Board) -> None:
        client = self._clients.get(board.name)
        if client is not None:
            try:
                await client.flush()
            except WebSocketException as error:
                self.tally.error = _text(board, error)  # `_stay` connects again

    async def _stay(self, board: Board) -> None:
        pause = BACK_OFF_SECONDS[0]
        while True:
            try:
                await self._visit(board)
            except InvalidStatus as error:
                body = (error.response.body or b"").decode(errors="replace").strip()
                raise UserError(f"the bridge refuses {board.name}: {error}: {body}") from error
            except BridgeError as error:
                raise UserError(f"{board.name}: {error}") from error
            except (OSError, WebSocketException, TimeoutError) as error:
                self.tally.error = _text(board, error)
            if board.synced:
                pause = BACK_OFF_SECONDS[0]
            self.tally.retries += 1
            await asyncio.sleep(random.uniform(pause / 2, pause))
            pause = min(pause * 2, BACK_OFF_SECONDS[1])

    async def _visit(self, board: Board) -> None:
        """One connection, from its first byte to its last."""
        client = self._connect(board.name, board)
        try:
            async with self._opening:
                await client.__aenter__()
                await client.flush()
                while not board.synced:
                    client.receive(await client.socket.recv())
                    await client.flush()
            self._clients[board.name] = client
            await client.carry()
        finally:
            self._clients.pop(board.name, None)
            if hasattr(client, "socket"):
                client.socket.transport.abort()


def _value(kind: str, number: int) -> Any:
    """A value of the type that follows from `number`."""
    match kind:
        case "BOOLEAN":
            return number % 2 == 0
        case "STRING":
            return str(number)
        case "BYTES":
            return number.to_bytes(8, "big")
        case "FLOAT" | "DOUBLE":
            return number / 2
    return number


def _desires(content: bytes, wanted: str) -> bool:
    properties = cbor2.loads(content)["properties"]
    return any(each.get("desired", {}).get("value") == wanted for each in properties)


def _text(board: Board, error: Exception) -> str:
    return f"{board.name}: {str(error) or type(error).__name__}"
