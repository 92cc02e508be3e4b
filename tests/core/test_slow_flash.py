"""The loop while everybody writes into a store near full, on a flash whose every erase takes 400 ms.

tests/store/test_slow_flash.py does the same to a whole link, for which a board's heap has
no room beside this flash.
"""

import gc

from nor import SLOW_MS, SlowNor

from motelet.bus import Bus
from motelet.edged import values
from motelet.kvlog import Store, StoreError
from motelet.log import Log
from motelet.loop import Loop
from motelet.metamanager import MetaManager
from motelet.uploads import Uploads
from tests_util import IS_MICROPYTHON, Clock, MemoryPoller

_TICK_MS = 20


class World:
    """A loop with MetaManager on a store that is full but for `room` pages.

    `erases` is the most that one task made at a turn, `late_ms` how late a task that does nothing came.
    """

    def __init__(self, blocks, room):
        gc.collect()
        self.store = Store(SlowNor(blocks))
        self.store.mount()
        while self.store.used + room < self.store._limit:
            self.store.put(".fill/%d" % self.store.used, b"f" * 300)
        while self.store.step():
            pass
        self.errors = []
        self.lines = []
        self.clock = self.store.flash.clock = Clock()
        self.loop = Loop(self.clock, MemoryPoller(self.clock), lambda task, error: self.errors.append(error))
        bus = Bus()
        bus.mailbox("devicetwin", 4)
        self.meta = MetaManager(self.store, bus)
        self.erases = self.late_ms = self.ticks = 0
        self._real_resume = self.loop._resume
        self.loop._resume = self.counted
        self.loop.spawn("metamanager", self.meta.run)
        self.loop.spawn("tick", self.tick)

    def counted(self, task, now):
        before = self.store.flash.erases
        self._real_resume(task, now)
        self.erases = max(self.erases, self.store.flash.erases - before)

    def tick(self, task):
        while True:
            due = self.clock.now_ms + _TICK_MS
            task.sleep(_TICK_MS)
            yield
            self.late_ms = max(self.late_ms, self.clock.now_ms - due)
            self.ticks += 1

    def epoch_ms(self):
        return self.clock.now_ms

    def run(self, steps):
        for _ in range(steps):
            if not self.loop.step(0):
                self.clock.advance(max(1, self.loop.due()))


class Others:
    """What else writes, all at once and at every turn of the loop: `kept` counts what the store took."""

    def __init__(self, world):
        self.world = world
        self.kept = {"link": 0, "twin": 0, "uploads": 0, "application": 0}
        self.refused = self.waited = 0
        self.uploads = Uploads(world.store, Log(world.lines.append, "debug"), world.epoch_ms)
        self.running = True
        world.loop.spawn("edgehub", self.link)
        world.loop.spawn("twin", self.twin)
        world.loop.spawn("eventbus", self.messages)
        world.loop.spawn("application", self.application)

    def turn(self, task, name):
        """Until the next turn, which is at once while this runs."""
        self.kept[name] += 1
        if self.running:
            task.sleep(_TICK_MS)

    def link(self, task):
        """Objects, each when MetaManager has room for it."""
        while self.running:
            if self.world.meta.room(task):
                value = b"%05d" % self.kept["link"] * 150
                self.world.meta.put("default/configmap/c", value, 0, len(value))
                self.turn(task, "link")
            else:
                self.waited += 1
            yield

    def twin(self, task):
        """A record of a property: it answers with an error when the store does not take it."""
        while self.running:
            try:
                self.world.store.put(".twin/default/lamp/=%d" % (self.kept["twin"] % 5), b"%05d" % 7 * 30)
            except StoreError as error:
                self.refused += error.code == "busy"
            self.turn(task, "twin")
            yield

    def messages(self, task):
        """For the cloud, which takes each at once: held up where the store has to make room first."""
        while self.running:
            number = self.kept["uploads"]
            if self.uploads.next():
                self.uploads.acked(self.uploads.next())
                task.sleep(_TICK_MS)
            elif self.uploads.put("SYS/dis/upload_records", b"%05d" % number * 80):
                self.turn(task, "uploads")
            else:
                self.waited += 1
                task.sleep(_TICK_MS)
            yield

    def application(self, task):
        while self.running:
            number = self.kept["application"]
            if values.put(
                self.world.store, ".pod/default/p/=/", ".pod/default/p/=/a", b"%05d" % number * 200
            ):
                self.turn(task, "application")
            else:
                self.waited += 1
                task.sleep(_TICK_MS)
            yield


def test_everybody_writes_at_once_near_full():
    world = World(10 if IS_MICROPYTHON else 24, 260)
    others = Others(world)
    erases = world.store.flash.erases
    while world.store.flash.erases - erases < 150:
        world.run(10)
        assert not world.errors, world.errors
    others.running = False
    world.run(100)
    assert world.erases == 1 and not world.errors and not others.uploads.dropped, world.lines
    for name in others.kept:
        assert others.kept[name] > 10, others.kept
    assert others.waited and others.refused * 10 < others.kept["twin"], (others.refused, others.kept)
    # Each of five writes, and the housekeeping may erase once, before all had their turn.
    assert world.ticks > 20 and world.late_ms <= 5 * SLOW_MS + _TICK_MS, world.late_ms
    assert world.store.get(".pod/default/p/=/a") == b"%05d" % (others.kept["application"] - 1) * 200
    assert world.store.get("default/configmap/c") == b"%05d" % (others.kept["link"] - 1) * 150
    again = Store(world.store.flash)
    again.mount()
    assert set(again.keys()) == set(world.store.keys()) and not again.damaged
