"""MicroPython's asyncio hosts the loop, so that applications and a REPL run beside it in one thread.

asyncio waits for streams in one object, `asyncio.core._io_queue`. A `Host` takes its place: it waits
in the loop's own step instead, which has one poller for both sides and lets the loop's tasks run
while asyncio's wait. That object, `IOQueue`, `_task_queue` and `cur_task` are private names of
asyncio; tests/core/test_aiohost.py fails when a new MicroPython changes what is used of them.
"""

import asyncio
from asyncio import core

from micropython import const

from motelet.loop import READ, WRITE

STREAMS_MAX = const(32)  # that asyncio's tasks wait for: the others of the loop are the gateway's
_ENFILE = const(23)
_DEPTH = const(16)  # frames, each of some hundred bytes


def _clear(depth):
    # MicroPython takes whatever lies in the stack for a reference, also in what a frame never wrote to. This
    # overwrites what frames that are gone, some of them an application's, have left below the present one.
    if depth:
        _clear(depth - 1)


class _Waiter:
    """The asyncio tasks that wait for one stream; stands in for a task in `Loop.watch`."""

    def __init__(self, host, stream):
        self.reader = None
        self.writer = None
        self._host = host
        self._stream = stream

    def wake(self, events):
        # Error and hang-up wake both.
        if events & ~WRITE and self.reader is not None:
            core._task_queue.push(self.reader)
            self.reader = None
        if events & ~READ and self.writer is not None:
            core._task_queue.push(self.writer)
            self.writer = None
        self.renew()

    def renew(self):
        events = (READ if self.reader is not None else 0) | (WRITE if self.writer is not None else 0)
        if events:
            self._host.loop.watch(self._stream, events, self)
        else:
            self._host.loop.unwatch(self._stream)
            self._host.map.pop(self._stream)


class Host:
    """Runs `loop` inside asyncio. One at a time; each of its streams counts among the loop's STREAMS_MAX."""

    def __init__(self, loop):
        self.loop = loop
        self.map = {self: None}  # by stream; asyncio ends when it is empty, and the loop never is
        self._task = self._kept = None
        self.due = False  # the stack is to be cleared: an application was ended
        self.next = None  # function: of the asyncio task that runs next, of None when asyncio waits
        self.ended = None  # function: of what ended asyncio; -> whether it was an application's, and is over

    def run(self):
        """Run the loop and whatever asyncio tasks there are, until `loop.stop()`.

        Tasks that asyncio still has then stay where they are. After a MemoryError everything does, and
        `run` is to be called again.
        """
        self.loop.running = True
        if self._kept is None:
            self.attach()
        while True:
            core.cur_task = None  # whose the task of `_main` would be
            try:
                asyncio.run(self._main())
                break
            except MemoryError:
                raise
            except BaseException as error:
                if self.ended is None or not self.ended(error):
                    self.detach()
                    raise
        self.detach()

    def _main(self):
        self._task = core.cur_task
        while self.loop.running:
            yield

    def attach(self):
        """Take the place of asyncio's queue: the loop is stepped by whoever runs asyncio, a REPL for example.

        From here on `asyncio.new_event_loop()` changes nothing, since an application that calls it
        would stop the loop and all other applications.
        """
        self._kept = (core._io_queue, core.IOQueue, core.new_event_loop)
        core._io_queue = self
        core.IOQueue = self._again  # for who got hold of new_event_loop before
        core.new_event_loop = asyncio.new_event_loop = asyncio.get_event_loop

    def detach(self):
        """Give asyncio its own queue back. Tasks that wait for a stream are forgotten."""
        for stream in list(self.map):
            if stream is not self:
                self.loop.unwatch(stream)
        self.map = {self: None}
        core._io_queue, core.IOQueue, core.new_event_loop = self._kept
        self._kept = None
        asyncio.new_event_loop = core.new_event_loop

    def _again(self):
        return self

    # -- what asyncio calls -------------------------------------------------------------------

    def queue_read(self, stream):
        """Have the running task wait until `stream` can be read. RuntimeError when another one does."""
        self._queue(stream, True)

    def queue_write(self, stream):
        """Have the running task wait until `stream` can be written. RuntimeError when another one does."""
        self._queue(stream, False)

    def remove(self, task):
        """Forget `task`, which is being cancelled."""
        for stream in self.map:
            waiter = self.map[stream]
            if waiter is not None and (waiter.reader is task or waiter.writer is task):
                if waiter.reader is task:
                    waiter.reader = None
                if waiter.writer is task:
                    waiter.writer = None
                waiter.renew()
                return  # a task waits for one stream, and the map is another now

    def wait_io_event(self, dt):
        """Step the loop, waiting at most `dt` ms; -1: until asyncio has something to run."""
        core.cur_task = None  # what runs now is none of asyncio's
        waits = dt < 0 or core._task_queue.peek() is not None
        if self.next is not None:
            self.next(None)
        self._step(dt)
        # asyncio runs the head of its queue next, which may be another by now, or gone: then wait on.
        while waits and dt <= 0:
            head = core._task_queue.peek()
            dt = -1 if head is None else core.ticks_diff(head.ph_key, core.ticks())
            if head is None or dt > 0:
                self._step(dt)
            else:
                if self.next is not None:
                    self.next(head)
                if core._task_queue.peek() is head:
                    break
            dt = 0

    def _step(self, dt):
        if self.due:
            self.due = False
            _clear(_DEPTH)
        if not self.loop.running and self._task is not None:
            core._task_queue.push(self._task)  # asyncio ends with it
            self._task = None
            dt = 0
        self.loop.step(dt)

    def _waiter(self, stream):
        waiter = self.map.get(stream)
        if waiter is None:
            if len(self.map) > STREAMS_MAX:
                raise OSError(_ENFILE)
            waiter = self.map[stream] = _Waiter(self, stream)
        return waiter

    def _queue(self, stream, reads):
        task = core.cur_task
        core.cur_task = None  # what runs now is none of asyncio's, and is not interrupted
        try:
            waiter = self._waiter(stream)
            if (waiter.reader if reads else waiter.writer) is not None:
                raise RuntimeError("two tasks %s one stream" % ("read" if reads else "write"))
            if reads:
                waiter.reader = task
            else:
                waiter.writer = task
            waiter.renew()
        finally:
            core.cur_task = task
        task.data = self  # where cancel() looks for remove()
