"""asyncio beside the loop: both sides run, wait and wake each other, whoever hosts whom."""

import asyncio
import errno
import os

from motelet.loop import READ, Loop
from motelet.ports.unix import Port
from tests_util import IS_MICROPYTHON, allocates_nothing

HOST = "127.0.0.1"
ROUNDS = 1000
WAIT_S = 30  # for what happens at once: a bound for a test that would hang


class World:
    """A loop of the unix port hosted by asyncio; `run` runs a coroutine function and ends with it."""

    def __init__(self):
        self.port = Port()
        self.errors = []
        self.loop = Loop(self.port.clock, self.port.poller(), lambda task, exc: self.errors.append(exc))
        self.host = self.port.asyncio_host(self.loop)

    def run(self, function):
        results = []

        async def main():
            try:
                results.append(await asyncio.wait_for(function(), WAIT_S))
            finally:
                self.loop.stop()

        def starter(task):
            self.task = asyncio.create_task(main())
            yield

        self.loop.spawn("starter", starter)
        self.host.run()
        assert not self.errors
        return results[0]


async def serve(callback):
    """A server of asyncio on a free port; returns (server, port)."""
    while True:
        seed = os.urandom(2)
        number = 20000 + (seed[0] << 8 | seed[1]) % 12000
        try:
            return await asyncio.start_server(callback, HOST, number), number
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise


async def echo(reader, writer):
    while True:
        data = await reader.read(64)
        if not data:
            break
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


def test_tasks_of_both_sides_run_beside_each_other():
    world = World()
    ticks = []
    turns = []

    def ticker(task):
        while True:
            ticks.append(None)
            task.sleep(2)
            yield

    async def main():
        world.loop.spawn("ticker", ticker)
        while len(ticks) < 5 or len(turns) < 5:
            await asyncio.sleep(0.001)
            turns.append(None)
        return "result"

    assert world.run(main) == "result"


def test_stop_ends_run():
    world = World()

    def stopper(task):
        task.sleep(1)
        yield
        world.loop.stop()

    for _ in range(2):  # it can be run again
        world.loop.spawn("stopper", stopper)
        world.host.run()
        assert not world.loop.running


def test_each_side_wakes_the_other():
    world = World()
    rounds = []

    async def main():
        there = asyncio.Event()

        def motelet_side(task):
            while True:
                rounds.append(None)
                there.set()
                yield

        task = world.loop.spawn("motelet", motelet_side)
        for _ in range(50):
            task.wake()  # nothing else is armed: if this is missed, both wait for ever
            await there.wait()
            there.clear()
        return len(rounds)

    assert world.run(main) >= 50


def test_asyncios_streams_work_beside_the_loops():
    world = World()
    buf = bytearray(64)

    async def main():
        server, number = await serve(echo)
        done = asyncio.Event()
        got = []

        def motelet_side(task):
            stream = world.port.tcp(HOST, number)
            world.loop.watch(stream, READ, task)
            for _ in range(20):
                while stream.write(b"0123456789", 0, 10) is None:
                    task.sleep(1)
                    yield
                while not stream.readinto(buf):
                    yield
                got.append(bytes(buf[:10]))
            world.loop.unwatch(stream)
            stream.close()
            done.set()

        world.loop.spawn("motelet", motelet_side)
        reader, writer = await asyncio.open_connection(HOST, number)
        for _ in range(20):
            writer.write(b"message")
            await writer.drain()
            assert await reader.read(64) == b"message"
        await done.wait()
        writer.close()
        await writer.wait_closed()
        server.close()
        return got

    assert world.run(main) == [b"0123456789"] * 20
    if IS_MICROPYTHON:
        assert list(world.host.map) == [world.host]


def test_waiting_for_a_stream_can_be_cancelled():
    world = World()

    async def silent(reader, writer):
        await reader.read(1)
        writer.close()
        await writer.wait_closed()

    async def main():
        server, number = await serve(silent)
        reader, writer = await asyncio.open_connection(HOST, number)
        timeouts = 0
        for _ in range(3):
            try:
                await asyncio.wait_for(reader.read(1), 0.005)
            except asyncio.TimeoutError:
                timeouts += 1
        writer.write(b"x")
        await writer.drain()
        assert await reader.read(1) == b""  # the stream is none the worse for it
        writer.close()
        server.close()
        return timeouts

    assert world.run(main) == 3


def test_a_failing_task_of_the_loop_does_not_disturb_asyncio():
    world = World()

    def broken(task):
        raise ValueError("broken")
        yield

    async def main():
        world.loop.spawn("broken", broken)
        while not world.errors:
            await asyncio.sleep(0)
        return world.errors.pop()

    assert isinstance(world.run(main), ValueError)


def test_the_host_is_idle_without_allocating():
    if not IS_MICROPYTHON:
        return
    world = World()
    world.host.attach()

    def idle(rounds):
        for _ in range(rounds):
            world.host.wait_io_event(0)

    try:
        world.loop.running = True
        idle(1)
        assert allocates_nothing(idle, ROUNDS)
    finally:
        world.host.detach()


def test_the_names_of_asyncio_that_the_host_relies_on():
    """Fails when a new MicroPython changes them: then core/motelet/aiohost.py is to be looked at."""
    if not IS_MICROPYTHON:
        return
    core = asyncio.core
    queue = core._io_queue
    assert isinstance(queue, core.IOQueue)
    called = ["map", "queue_read", "queue_write", "remove", "wait_io_event"]
    inner = ["_dequeue", "_enqueue", "poller"]
    assert sorted(name for name in dir(queue) if not name.startswith("__")) == sorted(called + inner)
    assert queue.map == {} and core.cur_task is None
    assert core.new_event_loop is asyncio.new_event_loop and core.get_event_loop() is core.Loop
    task_queue = core._task_queue
    core.new_event_loop()
    assert core._io_queue is not queue and core._task_queue is not task_queue
    assert core._task_queue.peek() is None
    world = World()
    for name in called:
        assert hasattr(world.host, name)


def test_asyncio_gets_its_queue_back():
    if not IS_MICROPYTHON:
        return
    core = asyncio.core
    before = (core._io_queue, core.IOQueue, core.new_event_loop, asyncio.new_event_loop)
    world = World()

    async def main():
        assert core._io_queue is world.host
        return 1

    world.run(main)
    assert (core._io_queue, core.IOQueue, core.new_event_loop, asyncio.new_event_loop) == before


def test_new_event_loop_does_not_drop_the_host():
    if not IS_MICROPYTHON:
        return
    original = asyncio.new_event_loop
    world = World()
    ticks = []

    def ticker(task):
        while True:
            ticks.append(None)
            task.sleep(1)
            yield

    async def other():
        await asyncio.sleep(0.01)
        return "other"

    async def main():
        task = asyncio.create_task(other())
        assert asyncio.new_event_loop() is asyncio.get_event_loop()
        assert asyncio.core.new_event_loop() is asyncio.get_event_loop()
        assert await task == "other"  # the tasks there are go on
        original()  # who holds the original drops those tasks, and still not the host
        count = len(ticks)
        while len(ticks) < count + 10:
            await asyncio.sleep(0)
        return "done"

    world.loop.spawn("ticker", ticker)
    assert world.run(main) == "done"


def test_two_readers_of_one_stream_are_refused():
    if not IS_MICROPYTHON:
        return
    world = World()

    async def main():
        server, number = await serve(echo)
        reader, writer = await asyncio.open_connection(HOST, number)
        first = asyncio.create_task(reader.read(1))
        await asyncio.sleep(0.005)
        try:
            await reader.read(1)
        except RuntimeError:
            first.cancel()
            writer.close()
            server.close()
            return "refused"

    assert world.run(main) == "refused"


def test_the_host_waits_on_when_what_was_to_run_next_is_ended():
    """As Edged does where memory has run out; asyncio would take the next task from an empty queue."""
    if not IS_MICROPYTHON:
        return
    world = World()
    core = asyncio.core
    ended = []

    async def victim():
        await asyncio.sleep(0.01)
        ended.append("it ran")

    def next_task(task):
        if ended and task is ended[0]:
            core._task_queue.remove(task)
            ended.append(world.loop.stop)

    def starter(task):
        ended.append(asyncio.create_task(victim()))
        while len(ended) < 2:
            task.sleep(1)
            yield
        ended[1]()

    world.host.next = next_task
    world.loop.spawn("starter", starter)
    world.host.run()
    assert "it ran" not in ended and not world.errors


def test_a_memory_error_in_asyncio_costs_nobody_a_stream():
    if not IS_MICROPYTHON:
        return
    world = World()
    core = asyncio.core
    failed = []

    def next_task(task):
        if len(failed) == 1:
            failed.append(task)
            raise MemoryError

    async def main():
        server, number = await serve(echo)
        reader, writer = await asyncio.open_connection(HOST, number)
        waiting = asyncio.create_task(reader.read(64))
        await asyncio.sleep(0.005)
        failed.append(None)
        await asyncio.sleep(0.005)
        writer.write(b"late")
        await writer.drain()
        answer = await waiting
        writer.close()
        server.close()
        return answer

    run = world.host.run

    def again():
        try:
            run()
        except MemoryError:
            assert core._io_queue is world.host, "nothing is to be given back yet"
            run()

    world.host.next = next_task
    world.host.run = again
    assert world.run(main) == b"late" and len(failed) == 2
