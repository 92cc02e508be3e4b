"""The event loop: generator tasks, timers and one poller, without garbage.

MicroPython's asyncio registers a stream anew at each wait and makes a generator at each `await`;
on a board that is garbage at every message, and garbage is a pause. Here a task is one generator
that lives as long as its module. It arms what it waits for (`sleep`, `Loop.watch`, a mailbox that
knows it) and yields; waiting and waking store into objects that are there already.

Wake-ups are level-triggered and may be spurious: a task that resumes looks at the state, it does
not conclude anything from having been woken. Everything outside is injected: the clock (the `time`
module of MicroPython or anything with its `ticks_ms`, `ticks_diff` and `ticks_add`) and the poller
(`register`, `modify`, `unregister`, `ipoll`, see ports/README.md).
"""

from micropython import const

READ = const(1)  # the values of select.POLLIN and select.POLLOUT
WRITE = const(4)

TASKS_MAX = const(64)
STREAMS_MAX = const(64)

_BACKOFF_MIN_MS = const(1000)
_BACKOFF_MAX_MS = const(60000)
_HEALTHY_MS = const(60000)


class Task:
    """A generator the loop resumes when it is due. Made by `Loop.spawn` only.

    `name` is for people. `ready` is true when the task runs at the next step; `deadline` is the
    tick at which it runs at the latest, None when no timer is armed. Both are cleared when the
    task resumes.
    """

    def __init__(self, clock, name, function):
        self.name = name
        self.ready = True
        self.deadline = None
        self._clock = clock
        self._function = function
        self._generator = None
        self._held = False  # failed, and not to be started again before `deadline`
        self._backoff = 0
        self._started = 0

    def sleep(self, ms):
        """Arm the timer: resume after `ms` milliseconds at the latest.

        Of several calls between two yields the earliest deadline holds. OverflowError when `ms` is
        half the clock's period or more (2**29 ms, six days, where the period is 2**30).
        """
        deadline = self._clock.ticks_add(self._clock.ticks_ms(), ms)
        if self.deadline is None or (not self._held and self._clock.ticks_diff(deadline, self.deadline) < 0):
            self.deadline = deadline

    def wake(self, events=0):
        """Make the task ready. Idempotent; for any code in the loop's thread. `events` is ignored."""
        self.ready = True


class Loop:
    """Runs tasks when they are ready, and waits in the poller when none is.

    `on_error(task, exception)` is told about each task that raises; the loop starts that task again
    after a back-off of 1 s, doubled up to 60 s and forgotten after 60 s without a failure. `running`
    is true from `run` to `stop`.
    """

    def __init__(self, clock, poller, on_error):
        self.clock = clock
        self.poller = poller
        self._on_error = on_error
        self._tasks = []
        self._watchers = {}
        self.streams_max = STREAMS_MAX  # where there is memory for more, whoever needs them raises it
        self.running = False

    def spawn(self, name, function):
        """Make a task of `function(task)`, which returns a generator, and have it run at the next step.

        What the generator yields is ignored. The task ends when it returns. The streams a task
        watches are unwatched for it when it ends or fails; closing them is its own business
        (`finally`). RuntimeError when there are TASKS_MAX tasks already.
        """
        if len(self._tasks) >= TASKS_MAX:
            raise RuntimeError("more than %d tasks" % TASKS_MAX)
        task = Task(self.clock, name, function)
        self._tasks.append(task)
        return task

    def watch(self, stream, events, task):
        """Wake `task` while `stream` is ready for `events` (READ, WRITE or both), failed or hung up.

        Called again for the same stream it replaces events and task. A stream is level-triggered:
        unwatch it when there is nothing to be done about it, and always before closing it.
        Anything with a method `wake(events)` may stand in for the task. RuntimeError when
        `streams_max` streams are watched already.
        """
        if stream in self._watchers:
            self.poller.modify(stream, events)
        elif len(self._watchers) < self.streams_max:
            self.poller.register(stream, events)
        else:
            raise RuntimeError("more than %d streams" % self.streams_max)
        self._watchers[stream] = task

    def unwatch(self, stream):
        """Forget `stream`. Nothing happens when it is not watched."""
        if stream in self._watchers:
            del self._watchers[stream]
            self.poller.unregister(stream)

    def due(self):
        """Milliseconds until a task is due: 0 now, -1 none is (a stream may still wake one)."""
        now = self.clock.ticks_ms()
        due = -1
        for task in self._tasks:
            if task.ready and not task._held:
                return 0
            if task.deadline is not None:
                left = self.clock.ticks_diff(task.deadline, now)
                if left <= 0:
                    return 0
                if due < 0 or left < due:
                    due = left
        return due

    def step(self, dt_ms):
        """Run each task that is due once, waiting at most `dt_ms` for one (-1: for ever, 0: not at all).

        Returns how many tasks ran. Streams are asked at every step, so a task that is always ready
        delays the others by no more than its own turn.
        """
        wait = dt_ms
        if dt_ms:
            wait = self.due()
            if wait < 0 or 0 < dt_ms < wait:
                wait = dt_ms
        for stream, events in self.poller.ipoll(wait):
            self._watchers[stream].wake(events)
        now = self.clock.ticks_ms()
        ran = 0
        for task in self._tasks:
            # A failed task is due when its back-off ends, whoever wakes it before.
            due = task.deadline is not None and self.clock.ticks_diff(task.deadline, now) <= 0
            if due or task.ready and not task._held:
                self._resume(task, now)
                now = self.clock.ticks_ms()  # it may have taken long, and made others due
                ran += 1
        return ran

    def run(self):
        """Step until `stop` is called."""
        self.running = True
        while self.running:
            self.step(-1)

    def stop(self):
        """Have `run` return after the step it is in."""
        self.running = False

    def _resume(self, task, now):
        task.ready = False
        task.deadline = None
        try:
            if task._generator is None:
                task._held = False
                task._started = now
                task._generator = task._function(task)
            elif self.clock.ticks_diff(now, task._started) >= _HEALTHY_MS:
                task._backoff = 0
            next(task._generator)
        except Exception as exc:
            # What needs no memory first: a task that kept its dead generator would never run again.
            ended = isinstance(exc, StopIteration)
            if not ended:
                task._generator = None
                task._held = True
                task._backoff = min(max(task._backoff * 2, _BACKOFF_MIN_MS), _BACKOFF_MAX_MS)
                # The clock anew: a task may have blocked before it failed.
                task.deadline = self.clock.ticks_add(self.clock.ticks_ms(), task._backoff)
            while self._unwatch_one(task):
                pass
            if ended:
                # A new list: step() may be iterating over the one there is.
                self._tasks = list(self._tasks)
                self._tasks.remove(task)
            else:
                self._on_error(task, exc)

    def _unwatch_one(self, task):
        for stream in self._watchers:
            if self._watchers[stream] is task:
                self.unwatch(stream)
                return True
        return False
