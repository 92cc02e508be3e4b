"""Interrupts where they are hardest to bear, one a scenario; prints what came of each. Runs on MicroPython.

The program plays the overseer: the alarm is called by who is to hear it, and the KeyboardInterrupt raised in
the place where the interpreter's next jump may be.
"""

import asyncio
import json
import select
import sys
import time
from asyncio import core

import vfs
from edged_world import container, held, pod
from link_world import DictStore

from motelet.aiohost import Host
from motelet.edged import TERMINATED, Edged
from motelet.edged.apps import Apps
from motelet.edged.services import Services
from motelet.log import Log
from motelet.loop import Loop

LIMIT_MS = 20000


class Module:
    """What an application's command names."""

    def __init__(self, main):
        self.main = main


class Store(DictStore):
    """`within`, if any, is called once in the middle of a put."""

    within = task = None

    def put(self, key, value):
        within, self.within = self.within, None
        if within is not None:
            within()
        super().put(key, value)


class World:
    """A gateway with a good application, a task of its own, and one application that is interrupted."""

    def __init__(self, main):
        self.store = Store()
        self.turns = self.steps = self.due = 0
        self.errors = []
        self.loop = Loop(time, select.poll(), lambda task, error: self.errors.append(repr(error)))
        config = {"memory": 100000, "hung": ""}
        self.edged = Edged(self.loop, self.store, Log(print, "error"), lambda: time.time() * 1000, config)
        self.host = Host(self.loop)
        services = Services(self.edged, None, lambda: None)
        self.apps = self.edged.runner = Apps(self.edged, services, self.host, self)
        self.host.next = self.next
        for name, each in (("good", self.good), ("bad", main)):
            sys.modules[name] = Module(each)
            spec = pod(container(command=[name]), uid=name, restartPolicy="Never", memory=10)
            self.store.put("default/pod/" + name, held(spec))
            self.edged.changed("default/pod/" + name)
        self.loop.spawn("gateway", self.work)

    # -- the overseer -------------------------------------------------------------------------

    def mark(self, name):
        pass

    def alarm(self, tick):
        self.tick = tick

    def interrupt(self):
        self.due += 1

    def twice(self):
        """Two alarms with nothing between; -> how many interrupts that made."""
        before = self.due
        self.tick(None)
        self.tick(None)
        return self.due - before

    def next(self, task):
        if self.due and self.late:
            self.due = 0
            raise KeyboardInterrupt  # at the first jump of wait_io_event
        self.apps.next(task)

    # -- who is there -------------------------------------------------------------------------

    late = False

    async def good(self, context):
        while True:
            self.turns += 1
            await asyncio.sleep_ms(1)

    def work(self, task):
        began = time.ticks_ms()
        while True:
            self.steps += 1
            bad = self.edged.pods.get("default/pod/bad")
            if bad is not None and bad.containers and bad.containers[0].state == TERMINATED:
                break
            assert time.ticks_diff(time.ticks_ms(), began) < LIMIT_MS
            task.sleep(1)
            yield
        turns = self.turns
        while self.turns < turns + 3:
            assert time.ticks_diff(time.ticks_ms(), began) < LIMIT_MS
            task.sleep(1)
            yield
        self.loop.stop()

    def run(self, name):
        """-> once the application has ended, and the others have gone on."""
        self.host.run()
        bad = self.edged.pods["default/pod/bad"].containers[0]
        print(json.dumps({"name": name, "code": bad.code, "message": bad.message, "errors": self.errors}))
        self.apps.kill(self.edged.pods["default/pod/good"].containers[0])
        vfs.umount("/pods")


def scenario(function):
    """Run it as the application: it gets the world and its context."""

    async def main(context):
        await function(world, context)

    world = World(main)
    world.run(function.__name__)


async def when_it_has_just_yielded(world, context):
    world.late = True
    assert world.twice() == 1
    await asyncio.sleep_ms(1)
    print("it went on")


async def when_it_has_just_ended(world, context):
    world.late = True
    assert world.twice() == 1


async def between_sleep_and_await(world, context):
    assert world.twice() == 1
    asyncio.sleep_ms(1)  # asyncio has one for all
    raise KeyboardInterrupt


async def that_is_held(world, context):
    assert world.twice() == 1
    await asyncio.sleep_ms(1)
    await context.put("key", b"value")


async def in_the_store(world, context):
    def alarm():
        assert world.twice() == 0

    world.store.within = alarm
    await context.put("key", b"value")
    assert await context.get("key") == b"value"


async def in_a_service_that_waits(world, context):
    await context.subscribe("t")
    await context.publish("t", b"1")
    assert await context.receive() == ("t", b"1")
    world.apps.services.readers[world.edged.pods["default/pod/bad"].containers[0].run][0].set()
    task = asyncio.create_task(context.receive())
    await asyncio.sleep_ms(1)
    task.cancel()  # goes through to what waits
    cancelled = False
    try:
        await task
    except asyncio.CancelledError:
        cancelled = True
    assert cancelled


async def when_a_stream_is_queued(world, context):
    def watch(stream, events, task):
        assert core.cur_task is None and world.twice() == 0
        watched.append(stream)

    watched = []
    kept, world.loop.watch = world.loop.watch, watch
    core._io_queue.queue_read(sys.stdin)
    world.loop.watch = kept
    assert watched == [sys.stdin]
    assert core.cur_task.data is core._io_queue
    core._io_queue.map.pop(sys.stdin)
    core.cur_task.data = None
    assert world.twice()
    raise KeyboardInterrupt


async def when_a_turn_is_short(world, context):
    world.tick(None)
    await asyncio.sleep_ms(1)
    world.tick(None)
    await asyncio.sleep_ms(1)
    world.tick(None)
    assert world.due == 0


for each in (
    when_it_has_just_yielded,
    when_it_has_just_ended,
    between_sleep_and_await,
    that_is_held,
    in_the_store,
    in_a_service_that_waits,
    when_a_stream_is_queued,
    when_a_turn_is_short,
):
    scenario(each)


def in_the_gateway(task):
    """Here is none: a KeyboardInterrupt is a Ctrl-C, which ends the gateway whoever runs beside it."""
    while not world.turns:
        task.sleep(1)
        yield
    assert world.twice() == 0
    raise KeyboardInterrupt


async def forever(context):
    while True:
        await asyncio.sleep(1)


world = World(forever)
world.loop.spawn("repl", in_the_gateway)
try:
    world.host.run()
except KeyboardInterrupt:
    print(json.dumps({"name": "in_the_gateway", "turns": world.turns > 0, "errors": world.errors}))
