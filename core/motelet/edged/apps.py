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

TASKS_MAX = const(16)  # of one application
ROOT = "/pods"
_TERMINATED = const(143)
_KILLED = const(137)


class App:
    """A running application: `tasks` are its asyncio tasks, the first that of `main`."""

    def __init__(self, container, slot):
        self.container = container
        self.slot = slot
        self.tasks = []


class Apps:
    """The runner for `edged`: `services` are what applications use, `mark(name)` outlives a reset."""

    def __init__(self, edged, services, mark=None):
        import vfs

        self.edged = edged
        self.services = services
        self.slots = [None] * 16
        self._mark = mark
        self._marked = None
        vfs.mount(borrow("edged.files").Files(self, edged.store), ROOT)
        self._print = builtins.print
        self._create_task = core.create_task
        builtins.print = self.print
        core.create_task = asyncio.create_task = self.create_task

    def close(self):
        """Give the interpreter back what it had before."""
        import vfs

        vfs.umount(ROOT)
        builtins.print = self._print
        core.create_task = asyncio.create_task = self._create_task

    # -- for edged ----------------------------------------------------------------------------

    def start(self, container, spec):
        """Have the application run. OSError when there is no room for one more."""
        if None not in self.slots:
            raise OSError("more than %d containers" % len(self.slots))
        slot = self.slots.index(None)
        app = container.run = self.slots[slot] = App(container, slot)
        app.tasks.append(self._create_task(self._run(app, spec)))

    def stop(self, container):
        """Cancel it."""
        container.run.tasks[0].cancel()

    def kill(self, container):
        """Never resume any of its tasks."""
        self._finish(container.run, _KILLED, "Error", "killed when its grace period was over")

    async def _run(self, app, spec):
        code, reason, message = 0, "Completed", ""
        try:
            context = Context(app, self.services, spec)
            main = borrow("edged.program").load(spec, "%s/%d" % (ROOT, app.slot))
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
            message = borrow("edged.program").trace(error)
            self.services.log(app.container, message)
        self._finish(app, code, reason, message)

    def _finish(self, app, code, reason, message):
        self.slots[app.slot] = None
        current = core.cur_task
        for task in app.tasks:
            if task is not current and not task.done():
                task.cancel()
                core._task_queue.remove(task)
        app.tasks = []
        self.services.ended(app)
        self.edged.exited(app.container, code, reason, message)
        gc.collect()

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
        """asyncio's, for who calls it; RuntimeError for the application that has TASKS_MAX already."""
        app = self.owner(core.cur_task)
        if app is None:
            return self._create_task(coro)
        app.tasks = [each for each in app.tasks if not each.done() or each is core.cur_task]
        if len(app.tasks) >= TASKS_MAX:
            raise RuntimeError("more than %d tasks" % TASKS_MAX)
        task = self._create_task(coro)
        app.tasks.append(task)
        return task

    def next(self, task):
        """aiohost: `task` is the next to run."""
        app = self.owner(task)
        if app is not self._marked:
            self._marked = app
            if self._mark is not None:
                self._mark("" if app is None else app.container.pod.resource + "/" + app.container.name)
