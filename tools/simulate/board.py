"""One board: the real gateway on a port whose clock, chance, streams and flash are simulated.

Its loop is stepped when something of it is due. What takes time on a board, flash above all, moves the
board's own clock on, and it is not stepped again before the schedule has caught up.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Protocol

from motelet.gateway import ConfigError, Gateway
from motelet.kvrecord import StoreError, StoreFull
from motelet.tools.cutflash import CutFlash, PowerCutError
from motelet.tools.simulate.applications import Applications
from motelet.tools.simulate.field import Endpoint, FieldStream
from motelet.tools.simulate.ledger import Ledger
from motelet.tools.simulate.network import BoardStream, Door, Path
from motelet.tools.simulate.schedule import MS, SECOND, Schedule
from motelet.uploads import Uploads

EPOCH_MS = 1_800_000_000_000
"""Milliseconds since 1970 at the start."""
FLASH_BLOCKS = 24
STEP = 200
"""Microseconds that a turn of the loop takes."""
PROG, ERASE = 300, 40 * MS
SLOW_PROG, SLOW_ERASE = 5 * MS, 400 * MS
_PERIOD = 1 << 30
_HALF = _PERIOD >> 1
_MASK = _PERIOD - 1
_BUILT_MS = 1_790_000_000_000
_YEAR_2000_MS = 946_684_800_000
_FILL = ".fill/"
_MPY = 6
"""`sys.implementation._mpy` of an interpreter that loads no machine code."""
_POD_MEMORY = 100_000


class Cloud(Protocol):
    """What a board's promises are compared with.

    deleted_at   resource to when it was deleted last, microseconds of the schedule
    """

    deleted_at: dict[str, int]

    def pod(self, resource: str) -> Mapping[str, Any] | None:
        """The Pod that the backend holds."""

    def status(self, name: str) -> Mapping[str, Any] | None:
        """The DeviceStatus that the backend holds, None when there is no such Device."""


class Flash(CutFlash):
    """A NOR chip that takes its time, at the expense of `board`."""

    def __init__(self, board: Board) -> None:
        super().__init__(FLASH_BLOCKS, 32)
        self._board = board

    def prog(self, offset: int, buf: bytes | bytearray | memoryview) -> None:
        self._board.busy(SLOW_PROG if self._board.slow_until > self._board.schedule.now else PROG)
        super().prog(offset, buf)

    def erase(self, block: int) -> None:
        self._board.busy(SLOW_ERASE if self._board.slow_until > self._board.schedule.now else ERASE)
        super().erase(block)


class Poller:
    """A poller of ports/README.md that never waits: the board is stepped when it is time."""

    def __init__(self) -> None:
        self._streams: dict[Any, int] = {}

    def register(self, stream: Any, events: int) -> None:
        self._streams[stream] = events

    def modify(self, stream: Any, events: int) -> None:
        self._streams[stream] = events

    def unregister(self, stream: Any) -> None:
        del self._streams[stream]

    def ipoll(self, _timeout_ms: int = -1) -> Iterator[tuple[Any, int]]:
        found = []
        for each, events in self._streams.items():
            if each.events & events:
                found.append((each, each.events & events))
        return iter(found)

    def ready(self) -> bool:
        return any([each.events & events for each, events in self._streams.items()])


def _ticks_diff(later: int, earlier: int) -> int:
    return (later - earlier + _HALF & _MASK) - _HALF


class SimulatedPort:
    """The port of ports/README.md, and its clock."""

    name = "simulated"

    def __init__(self, board: Board) -> None:
        self.clock = self
        self._board = board
        self._schedule = board.schedule
        self.built_ms = 0 if board.keeps_time else _BUILT_MS
        self.streams = Poller()
        self._time_ms = 0 if board.keeps_time else _YEAR_2000_MS - EPOCH_MS - board.schedule.now // MS
        # Half of all calls that a run makes: where ticks do not overflow meanwhile, one of C.
        self.ticks_diff = operator.sub if board.ticks_base < _HALF else _ticks_diff

    def poller(self) -> Poller:
        return self.streams

    def ticks_ms(self) -> int:
        board = self._board
        now, until = self._schedule.now, board.busy_until
        return ((now if now > until else until) // MS + board.ticks_base) & _MASK

    def ticks_add(self, ticks: int, ms: int) -> int:
        if not -_HALF < ms < _HALF:
            raise OverflowError("ticks interval overflow")
        return (ticks + ms) % _PERIOD

    def epoch_ms(self) -> int:
        return EPOCH_MS + self._board.clock() // MS + self._time_ms

    def status(self) -> dict[str, Any]:
        return {"heap_free": 50_000 - self._board.boots}

    def pods(self, _settings: dict[str, Any]) -> dict[str, Any]:
        return {"process": True, "mpy": _MPY}

    def pod_processes(self, edged: Any, services: Any, _settings: dict[str, Any]) -> Applications:
        return self._board.applications(edged, services)

    def set_time(self, epoch_ms: int) -> None:
        self._time_ms += epoch_ms - self.epoch_ms()

    def jump(self, ms: int) -> None:
        """Somebody, or something, has set the clock."""
        self._time_ms += ms

    def random(self, n: int) -> bytes:
        return self._board.rng.randbytes(n)

    def tcp(self, host: str, _port: int, _context: Any = None, _name: Any = None) -> Any:
        return self._board.connect(host)

    def flash(self, _path: str, _size: int) -> Flash:
        return self._board.flash

    def log_sink(self, line: str) -> None:
        self._board.said(line)


class Board:
    """A gateway with its flash, its devices' `endpoints` by host, and its `path` to the bridge."""

    def __init__(
        self,
        number: int,
        schedule: Schedule,
        ledger: Ledger,
        cloud: Cloud,
        door: Door,
        rng: random.Random,
        say: Callable[[str, str], None],
        look: Callable[[Board], None],
        log_level: str,
    ) -> None:
        self.number = number
        self.log_level = log_level
        self.name = f"board-{number}"
        self.schedule = schedule
        self.rng = rng
        self.keeps_time = number % 2 == 0
        # Ticks overflow soon on one board, on others not before the end (and subtracting them is quicker).
        self.ticks_base = rng.randrange(_HALF) if number % 8 != 3 else _PERIOD - rng.randrange(1200_000)
        self.path = Path(schedule, number, rng, partial(look, self))
        self.endpoints: dict[str, Endpoint] = {}
        self.flash = Flash(self)
        self.slow_until = 0
        self.full = False
        self.boots = 0
        self.acked: dict[str, tuple[str, int]] = {}
        """Resource to version: what the bridge was told that this board holds, and when."""
        self.gateway: Any = None
        self.port: Any = None
        self.app = number % 4 == 0  # it runs applications
        self.busy_users = False  # applications end by themselves
        self._ledger = ledger
        self._cloud = cloud
        self._door = door
        self._say = say
        self.busy_until = 0
        self._next = -1  # when it is stepped
        self._streams: list[Any] = []
        self._published = 0

    # -- time --------------------------------------------------------------------------------

    def clock(self) -> int:
        """Microseconds of the schedule at which the board believes to be."""
        now = self.schedule.now
        return now if now > self.busy_until else self.busy_until

    def busy(self, duration: int) -> None:
        """What the board does now takes so many microseconds."""
        self.busy_until = self.clock() + duration

    def wake(self) -> None:
        """Something has come."""
        now = self.schedule.now
        time = now if now > self.busy_until else self.busy_until
        if time < self._next or self._next < 0:
            self._step_at(time)

    def _step_at(self, time: int) -> None:
        if self.gateway is not None and (self._next < 0 or time < self._next):
            self._next = time
            self.schedule.at(time, self.number, self._step, time)

    def _step(self, time: int) -> None:
        if time != self._next:
            return
        self._next = -1
        loop, streams = self.gateway.loop, self.port.streams
        try:
            loop.step(0)
        except PowerCutError:
            self.power_off("at a flash operation")
            return
        now = self.clock()
        due = loop.due()
        if due == 0 or streams.ready():
            self._step_at(now + STEP)
        elif due > 0:
            self._step_at((now // MS + due) * MS)

    # -- power -------------------------------------------------------------------------------

    def power_on(self) -> None:
        """Start from flash."""
        if self.gateway is not None:
            return
        self.busy_until = self.schedule.now
        self.flash.reseed(f"{self.name} {self.boots}")
        self.boots += 1
        self.port = SimulatedPort(self)
        config: dict[str, Any] = {
            "node": self.name,
            "bridge": {"host": "bridge", "port": 10000, "path": f"/motelet/v1/{self.name}"},
            "store": {"path": "flash", "size": FLASH_BLOCKS * 4096},
            "sntp": [],
            "log_level": self.log_level,
            "edged": {"memory": _POD_MEMORY} if self.app else False,
        }
        try:
            self.gateway = Gateway(self.port, config)
            if self.app:
                self._attach_uploads()
            if not self.full:
                self._empty()
        except PowerCutError:
            self.power_off("while it started")
            return
        except (OSError, MemoryError, StoreError, ConfigError) as error:
            # Whatever started the gateway starts it again.
            if not self._ledger.failing_tasks:
                self._ledger.fail(f"{self.name} does not start: {error!r}")
            self.power_off(f"because it does not start: {error!r}")
            return
        self._watch_twin()
        self.check_held()
        self._step_at(self.clock())

    def power_off(self, how: str) -> None:
        """The power is gone, and all that is in RAM; it comes back after a while."""
        self._say(self.name, f"power lost {how}")
        self.flash.count()
        for stream in self._streams:
            stream.dead = stream.closed = True
        self._streams.clear()
        self.gateway = self.port = None
        self._next = -1
        after = self.rng.randrange(SECOND // 10, 20 * SECOND)
        self.schedule.at(self.schedule.now + after, self.number, self.power_on)

    def connect(self, host: str) -> Any:
        """A stream of the port."""
        stream: Any
        if host == "bridge":
            stream = BoardStream(self.wake, self.clock)
            self._door.dial(self.path, stream, self.clock())
        else:
            stream = FieldStream(self.endpoints[host], self.wake, self.clock)
        self._streams = [each for each in self._streams if not each.closed]
        self._streams.append(stream)
        return stream

    # -- faults of flash ---------------------------------------------------------------------

    def fill(self) -> None:
        """Fill the store with something else until it is full."""
        self.full = True
        if self.gateway is None:
            return
        store = self.gateway.store
        number = 0
        try:
            while True:
                store.put(f"{_FILL}{self.boots}/{number}", bytes(500))
                number += 1
        except StoreFull:
            return
        except PowerCutError:
            self.power_off("while its flash filled")

    def empty(self) -> None:
        """Take out again what `fill` put there."""
        self.full = False
        if self.gateway is None:
            return
        try:
            self._empty()
        except PowerCutError:
            self.power_off("while its flash was emptied")

    def _empty(self) -> None:
        store = self.gateway.store
        for key in list(store.keys(_FILL)):
            store.delete(key)

    # -- what applications do ----------------------------------------------------------------

    def publish(self) -> None:
        """An application sends something to the cloud."""
        if self.gateway is None or self.gateway.edgehub.uploads is None:
            return
        self._published += 1
        topic = f"{self.name}/{self._published}"
        try:
            self.gateway.edgehub.uploads.put(topic, b"something happened")
        except PowerCutError:
            self.power_off("while an application published")
            return
        except MemoryError:
            return  # the application was told, and nothing promised
        self._ledger.events.add(topic)

    def _attach_uploads(self) -> None:
        hub = self.gateway.edgehub
        uploads: Any = Uploads(self.gateway.store, self.gateway.log, self.port.epoch_ms)
        sent, acked = uploads.sent, uploads.acked
        topics: dict[int, str] = {}  # of what is under way

        def on_sent(number: int) -> None:
            topics[number] = uploads.read(number)[0]
            sent(number)

        def on_acked(number: int) -> None:
            self._ledger.acked_event(topics.pop(number))
            acked(number)

        hub.uploads = uploads
        uploads.hub = self.gateway.twin.hub
        uploads.sent, uploads.acked = on_sent, on_acked
        drop = uploads._drop

        def dropped(reason: str, topic: str) -> None:
            self._ledger.dropped.add(topic)
            drop(reason, topic)

        uploads._drop = dropped

    def applications(self, edged: Any, services: Any) -> Applications:
        """What runs the applications of pods."""
        acked, refused = edged.acked, edged.refused

        def on_acked(pod: Any) -> None:
            acked(pod)
            if not pod.dirty and not pod.leaving:
                self._ledger.acked_pod(pod, self._cloud.pod(pod.resource))

        def on_refused(pod: Any, code: int, reason: str) -> None:
            edged.acked = acked
            refused(pod, code, reason)
            edged.acked = on_acked

        edged.acked, edged.refused = on_acked, on_refused
        return Applications(self, self._ledger, edged, services)

    # -- promises ----------------------------------------------------------------------------

    def said(self, line: str) -> None:
        """A line of the gateway's log."""
        self._say(self.name, line)
        if line.startswith("error") and " failed " in line and not self._ledger.failing_tasks:
            self._ledger.fail(f"{self.name}: {line}")
        if " state not kept " in line:
            self._ledger.unkept.add(line.split(" pod=")[1].split(maxsplit=1)[0])

    def held(self, resource: str) -> str | None:
        """The version that flash holds, None without one."""
        value = self.gateway.store.get(resource)
        if value is None:
            return None
        size = value[0] & 31  # a text of less than 24 bytes
        return bytes(value[1 : 1 + size]).decode()

    def check_held(self) -> None:
        """What was acknowledged is in flash."""
        for resource, (version, at) in self.acked.items():
            held = self.held(resource)
            if held is None and "/configmap/" in resource:
                continue  # it goes with the last pod that needs it
            if self._cloud.deleted_at.get(resource, -1) < at:  # else it may have been told to forget it
                self._ledger.acked_down(resource, version, held)

    def _watch_twin(self) -> None:
        """See what the twin sends, and what is acknowledged to it."""
        twin = self.gateway.twin
        sent, acked, refused = twin.sent, twin.acked, twin.refused
        pending: dict[Any, Any] = {}

        def on_sent(item: Any) -> None:
            is_device = item.device is item
            pending[item] = (item.state, item.reason) if is_device else (item.value, item.observed)
            sent(item)

        def on_acked(item: Any) -> None:
            what = pending.pop(item, None)
            acked(item)
            device = item.device
            if what is not None and twin.devices.get(device.id) is device:
                name = device.resource
                prop = None if device is item else item.name
                self._ledger.acked_up(name, self._cloud.status(name), prop, what)

        def on_refused(item: Any, code: int, reason: str) -> None:
            pending.pop(item, None)
            refused(item, code, reason)

        twin.sent, twin.acked, twin.refused = on_sent, on_acked, on_refused
