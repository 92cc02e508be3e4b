"""Applications in this interpreter: each container is a task of asyncio, which hosts motelet's loop.

One heap, one scheduler: applications are trusted not to attack each other, which is why the pods of a board
are of one namespace. Against mistakes there is this: an application's tasks are known, so that all of them
end with it; what it prints goes to its own log; what it imports is forgotten when it ends; who runs is
marked where a reset does not reach, so that one that never yields is known after the watchdog.

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


class Apps:
    """The runner for `edged`: `services` are what applications use, `mark(name)` outlives a reset.

    `host`, an aiohost.Host, tells whose turn it is.
    """

    def __init__(self, edged, services, host, mark=None):
        import vfs

        self.edged = edged
        self.services = services
        self.slots = [None] * 16
        self._host = host
        self._mark = mark
        self._running = None
        self._turns = 0
        self._weight = self._least = gc.mem_alloc()  # bytes in use: when last looked at, after garbage went
        vfs.mount(borrow("edged.files").Files(self, edged.store), _ROOT)
        host.next = self.next
        self._print = builtins.print
        self._create_task = core.create_task
        builtins.print = self.print
        core.create_task = asyncio.create_task = self.create_task

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
            context = Context(app, self.services, spec)
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
        except SystemExit as error:
            code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
            reason = "Error" if code else reason
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
        self.slots[app.slot] = None
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
        if self._mark is not None:
            self._mark("" if app is None else app.container.pod.resource + "/" + app.container.name)
