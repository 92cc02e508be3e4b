"""The queue of uploads: bounded, in order, in flash."""

from busy_store import Busy
from nor import Nor

import motelet.uploads
from motelet.kvlog import Store
from motelet.log import Log
from motelet.uploads import UPLOAD_SIZE_MAX, Uploads
from tests_util import Clock


class World:
    def __init__(self, flash=None):
        self.flash = flash or Nor(20, block_size=1024)
        self.store = Store(self.flash)
        self.store.mount()
        self.lines = []
        self.clock = Clock()
        self.queue = Uploads(self.store, Log(self.lines.append, "debug"), self.clock.epoch_ms)

    def send(self):
        """-> all that is sent while nothing is acknowledged: [number]."""
        numbers = []
        number = self.queue.next()
        while number:
            self.queue.sent(number)
            numbers.append(number)
            number = self.queue.next()
        return numbers


def test_messages_leave_in_order_when_the_cloud_has_them():
    world = World()
    queue = world.queue
    then = world.clock.epoch_ms()
    queue.put("a/user/x", b"1\n\x00\xff")
    world.clock.advance(1000)
    queue.put("SYS/dis/upload_records", b"")
    assert world.send() == [1, 2]
    assert queue.read(1) == ("a/user/x", then, b"1\n\x00\xff")
    assert queue.read(2) == ("SYS/dis/upload_records", then + 1000, b"")
    queue.acked(1)
    queue.link_lost()
    assert world.send() == [2]
    queue.acked(2)
    queue.acked(2)
    assert len(queue) == 0 and list(world.store.keys(".hub/")) == []


def test_while_the_store_makes_room_nothing_is_taken_and_nothing_lost():
    world = World()
    busy = Busy(world.store, 1)
    assert world.queue.put("t", b"1") is False and not world.queue.dropped and not len(world.queue)
    assert world.queue.put("t", b"1") is True and busy.left < 0
    assert world.queue.read(1)[2] == b"1"


def test_what_waits_outlives_the_power():
    world = World()
    for i in range(12):
        world.queue.put("t", b"%d" % i)
    world.queue.acked(1)
    again = World(world.flash)
    assert again.send() == list(range(2, 13)) and again.queue.read(12)[2] == b"11"
    again.queue.put("t", b"new")
    assert again.send() == [13]


def test_the_oldest_make_room_and_are_counted():
    bound = motelet.uploads.UPLOADS_MAX
    world = World()
    for i in range(bound + 3):
        world.queue.put("t/%d" % i, b"")
        while world.store.step():
            pass
    assert len(world.queue) == bound and world.queue.dropped == 3
    assert world.queue.read(world.queue.next())[0] == "t/3"
    assert "topic=t/2" in world.lines[-1] and "sum=3" in world.lines[-1]


def test_what_cannot_be_kept_is_counted():
    world = World()
    world.queue.put("t", bytes(UPLOAD_SIZE_MAX + 1))
    world.flash.dead = True
    world.queue.put("t", b"1")
    assert world.queue.dropped == 2 and len(world.queue) == 0 and world.queue.next() == 0


def test_what_the_cloud_refuses_does_not_come_again():
    world = World()
    world.queue.put("t", b"1")
    world.send()
    world.queue.refused(1, 5, "no rule")
    world.queue.refused(1, 5, "no rule")
    world.queue.link_lost()
    assert world.send() == [] and world.queue.dropped == 1


def test_news_wake_the_hub():
    world = World()
    woken = []
    world.queue.hub = Waker(woken)
    world.queue.put("t", b"1")
    assert woken == [1]


class Waker:
    def __init__(self, woken):
        self.woken = woken

    def wake(self, events=0):
        self.woken.append(1)
