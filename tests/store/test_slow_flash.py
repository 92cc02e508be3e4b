"""The loop on a flash whose every erase takes 400 ms, as chips do when they are cold or old."""

import pytest
from link_world import World
from nor import SLOW_MS, SlowNor

from motelet import protocol
from motelet.kvlog import Store

_TICK_MS = 20


class Watched(World):
    """A gateway with a store of `blocks` that is full but for `room` pages.

    `put_ms` is the longest put, `late_ms` how late a task ever came, `erases` the most that one task made
    at a turn.
    """

    def __init__(self, blocks=12, room=60):
        flash = SlowNor(blocks)
        store = Store(flash)
        store.mount()
        while store.used + room < store._limit:
            store.put(f".fill/{store.used}", b"f" * 300)
        super().__init__(store)
        flash.clock = self.clock
        self.put_ms = self.late_ms = self.ticks = self.erases = 0
        self._real_resume = self.loop._resume
        self.loop._resume = self.counted
        self.loop.spawn("metamanager", self.meta.run)
        self.loop.spawn("tick", self.tick)
        self._real_put = store.put
        store.put = self.timed_put

    def counted(self, task, now):
        before = self.store.flash.erases
        self._real_resume(task, now)
        self.erases = max(self.erases, self.store.flash.erases - before)

    def timed_put(self, key, value):
        before = self.clock.now_ms
        self._real_put(key, value)
        self.put_ms = max(self.put_ms, self.clock.now_ms - before)

    def tick(self, task):
        while True:
            due = self.clock.now_ms + _TICK_MS
            task.sleep(_TICK_MS)
            yield
            self.late_ms = max(self.late_ms, self.clock.now_ms - due)
            self.ticks += 1


def burst(world, cloud, first, count, size=280):
    """So many objects at once, without a wait for an answer; returns when they are acknowledged."""
    for seq in range(first, first + count):
        resource, content = f"default/configmap/c{seq % 3}", f"{seq:04}".encode() * (size // 4)
        cloud.say([protocol.PUT, seq, resource, f"v{seq}", content])
        cloud.read()
    heard = cloud.heard()
    while [protocol.ACK, first + count - 1] not in heard:
        world.run(_TICK_MS)
        heard += cloud.heard()


def test_no_put_waits_for_more_than_one_erase_and_no_task_for_more_than_two():
    world = Watched()
    cloud = world.connect()
    erases = world.store.flash.erases
    seq = 1
    for _ in range(30):
        burst(world, cloud, seq, 4)
        seq += 4
        world.run(30)  # no time for more than a piece of the housekeeping
    assert world.store.flash.erases - erases > 20 and world.ticks > 100
    assert 0 < world.put_ms <= SLOW_MS, world.put_ms
    # A put's erase and one of the housekeeping may come one behind the other.
    assert world.late_ms <= 2 * SLOW_MS + _TICK_MS, world.late_ms
    assert world.erases == 1 and not world.errors


@pytest.mark.parametrize("blocks", [12, 24])
def test_objects_of_several_chunks_without_a_pause_wait_for_one_erase_each(blocks):
    """Into a store near its limit, where making room costs more erases than objects do."""
    world = Watched(blocks, room=170)
    cloud = world.connect()
    erases = world.store.flash.erases
    for seq in range(1, 241, 2):
        burst(world, cloud, seq, 2, size=1100)
    assert world.store.flash.erases - erases > 120
    assert 0 < world.put_ms <= SLOW_MS, world.put_ms
    assert world.late_ms <= 2 * SLOW_MS + _TICK_MS, world.late_ms
    assert world.erases == 1 and not world.errors


def test_with_idle_moments_no_put_waits_at_all():
    world = Watched()
    cloud = world.connect()
    seq = 1
    for _ in range(20):
        burst(world, cloud, seq, 1)
        seq += 1
        world.run(8000)  # the housekeeping is done
    world.put_ms = 0
    for _ in range(60):
        burst(world, cloud, seq, 1)
        seq += 1
        world.run(8000)
    assert world.put_ms == 0
