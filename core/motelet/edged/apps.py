"""Applications in this interpreter: each container is a task of asyncio, which hosts motelet's loop.

One heap, one scheduler: applications are trusted not to attack each other, which is why the pods of a board
are of one namespace. Against mistakes there is this: an application's tasks are known, so that all of them
end with it; what it prints goes to its own log; what it imports is forgotten when it ends; one that does not
let others run is interrupted.

An interrupt is a KeyboardInterrupt, which MicroPython raises where the code jumps next: no application's
`except Exception` holds it, and where it arrives the gateway is never at work: `tick` makes it only while an
application runs, and between that code and what must not be interrupted (`calmly`) there is always a jump.
What holds it all the same, or does not jump (native code, a driver), is the watchdog's: who runs is marked
where a reset does not reach, so that it is known after that.

A stop cancels the task. A task that goes on all the same is taken from asyncio's queue and never resumed.
"""

import asyncio
import builtins
import gc
from asyncio import core

from micropython import const

from motelet import borrow
from motelet.edged.context import Context

_TASKS_MAX = const(16)  # of one application
_ROOT = const("/pods")
_TERMINATED = const(143)
_KILLED = const(137)
_PAUSE_S = const(10)  # before the next run of what was interrupted
_ROOM = const(4096)  # bytes in one piece, which the gateway may need at any time: a page of the log, a module


class Held:
    """The coroutine of a task. When its application ends it is let go of, with all that it keeps.

    Of itself asyncio would keep it: in its loop until another task has run, in `_exc_context`, and where its
    queue leaves the tasks that were linked to others.
    """

    def __init__(self, coro):
        self.coro = coro

    def send(self, value):
        return self.coro.send(value)

    def throw(self, error):
        return self.coro.throw(error)


class App:
    """A running application: `tasks` are its asyncio tasks, the first that of `main`."""

    def __init__(self, container, slot):
        self.container = container
        self.slot = slot
        self.tasks = []
        self.module = None
        self.grown = 0  # bytes that were allocated while it ran, since garbage was collected
        self.kept = 0  # and those of before, as far as they can have been no garbage


class Calm:
    """The methods of `inner` as applications may use them: they are not interrupted within."""

    def __init__(self, apps, inner):
        self._apps = apps
        self._inner = inner

    def __getattr__(self, name):
        method = getattr(self._inner, name)
        return lambda *values: self._apps.calmly(method, *values)

    def __contains__(self, key):
        return key in self._inner


class Apps:
    """The runner for `edged`: `services` are what applications use, `overseer` is the port's.

    `host`, an aiohost.Host, tells whose turn it is and what ended asyncio.
    """

    def __init__(self, edged, services, host, overseer=None):
        import vfs

        self.edged = edged
        self.services = services
        self.slots = [None] * 16
        self._host = host
        self._overseer = overseer
        self._running = self._hung = None
        self._turns = self._seen = self._calm = 0
        self._weight = self._least = gc.mem_alloc()  # bytes in use: when last looked at, after garbage went
        vfs.mount(borrow("edged.files").Files(self, Calm(self, edged.store)), _ROOT)
        host.next = self.next
        host.ended = self.ended
        self._print = builtins.print
        self._create_task = core.create_task
        builtins.print = self.print
        core.create_task = asyncio.create_task = self.create_task
        if overseer is not None:
            overseer.alarm(self.tick)

    # -- for edged ----------------------------------------------------------------------------

    def start(self, container, spec):
        """Have the application run. OSError when there is no room for one more."""
        if None not in self.slots:
            raise OSError("more than %d containers" % len(self.slots))
        for app in list(self.services.readers):
            if app not in self.slots:
                self.services.ended(app)
        slot = self.slots.index(None)
        app = container.run = self.slots[slot] = App(container, slot)
        self._spawn(app, self._run(app, spec))

    def stop(self, container):
        """Cancel it."""
        container.run.tasks[0].cancel()

    def kill(self, container):
        """Never resume any of its tasks."""
        self._finish(container.run, _KILLED, "Error", "killed when its grace period was over")

    def call(self, container, command, done):
        """Call a function of the application, command[0] with the rest; `done(good)` says what came of it."""
        app = container.run
        self._spawn(app, borrow("edged.program").call(self, app, command, done))

    def shed(self):
        """Memory has run out: end the application that grew the most of late."""
        if self._host.due:
            return  # one was ended, and what it had is perhaps not free yet
        self._weigh(gc.mem_alloc())
        worst = None
        for app in self.slots:
            if app is not None and (worst is None or app.kept > worst.kept):
                worst = app
        if worst is not None:
            self._finish(worst, _KILLED, "OOMKilled", "the board ran out of memory, and it grew the most")
            self._host.due = True

    def _weigh(self, weight):
        """Garbage was collected, `weight` is left: nobody has kept more than there is more of."""
        more = max(0, weight - self._least)
        self._least = weight
        for app in self.slots:
            if app is not None:
                app.kept += min(app.grown, more) - (app.kept >> 4)
                app.grown = 0

    async def _run(self, app, spec):
        code, reason, message = 0, "Completed", ""
        try:
            context = Context(app, self.services, spec, self.steps)
            app.module, main = borrow("edged.program").load(spec, "%s/%d" % (_ROOT, app.slot))
            spec = None
            try:
                program = main(context)
            except TypeError:
                program = main()
            await program
        except asyncio.CancelledError:
            code, reason = _TERMINATED, "Error"
        except MemoryError as error:
            code, reason, message = _KILLED, "OOMKilled", str(error)
        except (SystemExit, KeyboardInterrupt):
            raise  # to `ended`, as from its other tasks
        except BaseException as error:
            code, reason = 1, "Error"
            try:
                message = borrow("edged.program").trace(error)
                self.services.log(app.container, message)
            except MemoryError:
                message = type(error).__name__
        self._finish(app, code, reason, message)

    def _finish(self, app, code, reason, message):
        if app.container.run is not app:
            return  # it was ended before, by somebody else
        self.slots[app.slot] = None  # it is not interrupted any more
        # There may be no memory: first what needs none.
        current = core.cur_task
        for task in app.tasks:
            if task is not current and not task.done():
                task.cancel()
                core._task_queue.remove(task)
            task.coro.coro = None
        app.tasks.clear()
        app.module = None
        self.edged.exited(app.container, code, reason, message)
        try:
            self.services.ended(app)
        except MemoryError:
            pass  # the next start does it

    # -- whose code runs ----------------------------------------------------------------------

    def owner(self, task):
        """-> the App that `task` belongs to, None for the gateway's own."""
        if task is not None:
            for app in self.slots:
                if app is not None and task in app.tasks:
                    return app
        return None

    def print(self, *values, **options):
        app = self.owner(core.cur_task)
        if app is None or "file" in options:
            self._print(*values, **options)
        else:
            self.services.log(app.container, options.get("sep", " ").join([str(each) for each in values]))

    def create_task(self, coro):
        """asyncio's, for who calls it; RuntimeError for the application that has _TASKS_MAX already."""
        app = self.owner(core.cur_task)
        if app is None:
            return self._create_task(coro)
        left = []
        for task in app.tasks:
            if task.done() and task is not core.cur_task:
                task.coro.coro = None
            else:
                left.append(task)
        app.tasks = left
        if len(left) >= _TASKS_MAX:
            raise RuntimeError("more than %d tasks" % _TASKS_MAX)
        return self._spawn(app, coro)

    def _spawn(self, app, coro):
        tasks = app.tasks
        tasks.append(None)  # first what may fail: who is in no list is not ended
        try:
            task = tasks[-1] = self._create_task(Held(coro))
        finally:
            if tasks[-1] is None:
                tasks.pop()
        return task

    def next(self, task):
        """aiohost: `task` is the next to run; None: nobody's turn is over."""
        app = self.owner(task)
        last = self._running
        if app is last:
            return
        weight = gc.mem_alloc()
        if weight < self._weight:
            self._weigh(weight)
        elif last is not None:
            last.grown += weight - self._weight
        self._weight = weight
        self._turns += 1
        if not self._turns & 7 and gc.mem_free() < weight >> 2:
            try:
                bytearray(_ROOM)  # what is free may be in pieces too small for anybody else to go on
            except MemoryError:
                self.edged.short()
        self._running = app
        self._hung = None
        if self._overseer is not None:
            self._overseer.mark("" if app is None else app.container.pod.resource + "/" + app.container.name)

    # -- who does not let others run ----------------------------------------------------------

    def tick(self, _):
        """The overseer's alarm, between two jumps of whoever runs: who ran at the alarm before does still?"""
        app = self._running
        turns = self._turns
        if app is None or turns != self._seen or core.cur_task is None or self.slots[app.slot] is not app:
            self._seen = turns
            return
        self._hung = app
        if not self._calm:
            self._overseer.interrupt()  # after which no jump may come here

    def calmly(self, function, *values):
        """Call what belongs to the gateway, for an application: an interrupt waits for the next call."""
        if self._hung is not None and not self._calm:
            raise KeyboardInterrupt
        self._calm += 1
        try:
            if self._calm:  # a jump: here arrives what is under way
                return function(*values)
        finally:
            self._calm -= 1

    def steps(self, coro):
        """A generator, to be awaited in the place of `coro`: that is not interrupted within a step."""
        error = None
        while True:
            try:
                if error is None:
                    self.calmly(coro.send, None)
                else:
                    self.calmly(coro.throw, error)
            except StopIteration as end:
                return end.value
            try:
                yield
                error = None
            except BaseException as thrown:
                error = thrown

    def ended(self, error):
        """aiohost: what `error` is about; -> whether it was an application's, which has ended with it.

        Whose turn took too long is ended also if it has just yielded, and the interrupt arrived in asyncio.
        """
        hung = self._hung
        app = hung or self.owner(core.cur_task)
        if app is None or isinstance(error, Exception):
            return False
        self._hung = core.cur_task = None
        code, reason, message = 1, "Error", type(error).__name__
        if hung is not None:
            app.container.pause_s = max(app.container.pause_s, _PAUSE_S)
            code, message = _KILLED, "it did not let others run, and was interrupted"
        elif isinstance(error, SystemExit):
            code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
            reason, message = ("Error" if code else "Completed"), ""
        self._finish(app, code, reason, message)
        return True
