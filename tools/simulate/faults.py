"""What goes wrong, how often, and for how long."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

from motelet.tools.cutflash import NOR_MODES
from motelet.tools.simulate.board import Board
from motelet.tools.simulate.bridge import Bridge
from motelet.tools.simulate.cloud import Cloud
from motelet.tools.simulate.schedule import MINUTE, MS, SECOND, SHARED, Schedule


class Faults:
    """Draws faults until `stop`; `count` of them were made."""

    def __init__(
        self,
        schedule: Schedule,
        boards: list[Board],
        bridge: Bridge,
        cloud: Cloud,
        rng: random.Random,
        say: Callable[[str, str], None],
        every: int,
    ) -> None:
        """`every`: microseconds between two of them, on average."""
        self.count = 0
        self._running = True
        self._schedule = schedule
        self._boards = boards
        self._bridge = bridge
        self._cloud = cloud
        self._rng = rng
        self._say = say
        self._every = every
        self._kinds = (
            self._lose_connections,
            self._half_open,
            self._partition,
            self._latency,
            self._cut_power,
            self._cut_power,
            self._jump,
            self._slow_flash,
            self._full_flash,
            self._device,
            self._device,
            self._restart_bridge,
            self._backend,
        )
        self._next()

    def stop(self) -> None:
        """No more of them begin, and those that wait for something do not."""
        self._running = False
        for board in self._boards:
            board.flash.count()

    def _next(self) -> None:
        self._schedule.at(
            self._schedule.now + round(self._rng.expovariate(1) * self._every), SHARED, self._make
        )

    def _make(self) -> None:
        if self._running:
            self.count += 1
            self._rng.choice(self._kinds)()
            self._next()

    def _later(self, after: int, act: Callable[[], None]) -> None:
        self._schedule.at(self._schedule.now + after, SHARED, act)

    def _some(self) -> list[Board]:
        """One board, or now and then many."""
        count = len(self._boards) if self._rng.random() < 0.1 else 1 + self._rng.randrange(3) // 2
        return self._rng.sample(self._boards, min(count, len(self._boards)))

    def _tell(self, boards: list[Board], text: str) -> None:
        self._say("fault", f"{text}: {' '.join(board.name for board in boards)}")

    # -- the network -------------------------------------------------------------------------

    def _lose_connections(self) -> None:
        boards = self._some()
        self._tell(boards, "connections lost")
        for board in boards:
            for connection in list(board.path.connections):
                connection.reset()

    def _half_open(self) -> None:
        boards = self._some()
        up, down = self._rng.choice(((True, True), (True, False), (False, True)))
        self._tell(boards, f"half-open, up {up}, down {down}")
        for board in boards:
            for connection in list(board.path.connections):
                connection.half_open(up, down)

    def _partition(self) -> None:
        boards = self._some()
        seconds = self._rng.choice((2, 20, 50, 100))
        self._tell(boards, f"partition of {seconds} s")
        for board in boards:
            board.path.cut_until = self._schedule.now + seconds * SECOND

    def _latency(self) -> None:
        boards = self._some()
        latency = self._rng.randrange(500 * MS, 12 * SECOND)
        self._tell(boards, f"latency of {latency // MS} ms")
        for board in boards:
            normal, board.path.latency = min(board.path.latency, 60 * MS), latency
            self._later(self._rng.randrange(MINUTE), partial(setattr, board.path, "latency", normal))

    # -- boards ------------------------------------------------------------------------------

    def _cut_power(self) -> None:
        for board in self._some():
            if self._rng.random() < 0.3:
                if board.gateway is not None:
                    board.power_off("at some moment")
            else:
                operation = self._rng.choice((0, 0, 1, 2, 3, 5, 9))
                mode = self._rng.choice(NOR_MODES)
                self._tell([board], f"power to be lost at flash operation {operation}, {mode}")
                board.flash.arm(operation, mode, f"{self._rng.random()}")

    def _jump(self) -> None:
        ms = self._rng.choice((-86_400_000, -3_600_000, -5_000, 5_000, 3_600_000, 400_000_000))
        if self._rng.random() < 0.3:
            self._tell([], f"the bridge's clock jumps by {ms} ms")
            self._bridge.time_ms += ms
            return
        boards = self._some()
        self._tell(boards, f"clocks jump by {ms} ms")
        for board in boards:
            if board.port is not None:
                board.port.jump(ms)

    def _slow_flash(self) -> None:
        boards = self._some()
        self._tell(boards, "slow flash")
        for board in boards:
            board.slow_until = self._schedule.now + self._rng.randrange(2 * MINUTE)

    def _full_flash(self) -> None:
        board = self._rng.choice(self._boards)
        self._tell([board], "full flash")
        board.fill()
        self._later(self._rng.randrange(2 * MINUTE), board.empty)

    def _device(self) -> None:
        board = self._rng.choice(self._boards)
        host = self._rng.choice(list(board.endpoints))
        endpoint = board.endpoints[host]
        until = self._schedule.now + self._rng.randrange(2 * MINUTE)
        what = self._rng.choice(
            ("silent", "closed", "busy", "failing", "garbled", "restarts", "loses connections")
        )
        self._tell([board], f"{host} {what}")
        if what == "restarts":
            for unit in endpoint.units.values():
                unit.restart()
        if what in ("closed", "restarts", "loses connections"):
            endpoint.reset()
        if what == "restarts":
            # Longer than any collectCycle: boards have to see that it is away, or cannot know that it forgot.
            endpoint.closed_until = self._schedule.now + 5 * MINUTE
        elif what != "loses connections":
            setattr(endpoint, f"{what}_until", until)

    # -- the bridge --------------------------------------------------------------------------

    def _restart_bridge(self) -> None:
        how = self._rng.choice(("gracefully", "killed", "unplugged"))
        self._bridge.restart(how, self._rng.random() < 0.3)

    def _backend(self) -> None:
        until = self._schedule.now + self._rng.randrange(MINUTE)
        if self._rng.random() < 0.5:
            self._tell([], "the backend fails")
            self._cloud.failing_until = until
        else:
            self._tell([], "the backend is slow")
            self._cloud.slow_until = until
