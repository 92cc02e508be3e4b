"""Edged: the pods of this node, each container of them a MicroPython application.

The bridge sends *effective* pods (protocol.cddl): references are resolved, sources compiled. What a pod
is stays on flash; in RAM is what its containers do. Everything is level-triggered: a pod that may
have something to do is `due`, and `lifecycle`, borrowed, looks at all of it. So an idle node runs
nothing of this, and pods start from flash as they were last asked for, with or without a link.

The `runner` does the running: in this interpreter (`edged.apps`) or, on Linux, in processes of
their own (ports/processes).
"""

import gc

from micropython import const

from motelet import borrow

WAITING = const(0)
RUNNING = const(1)
TERMINATED = const(2)

_WAKE_MS_MAX = const(300000)
_RESERVE = const(2048)  # bytes: what it takes to say that memory has run out


class Container:
    """One application: what it does now and how it ended last.

    state      WAITING, RUNNING or TERMINATED; `reason`, `message` and `code` say why
    since      when it was started, until: when it ended; milliseconds since 1970, 0 for never
    last       (code, since, until, reason, message) of the run before, None if there was none
    due        tick at which it is to be started, killed or looked at; None: not by itself
    run        what the runner keeps of it while it runs; None otherwise
    stopping   0, 1 asked to end, 2 killed
    pause_s    seconds to wait before the next restart; digest: of its spec, 0 not loaded
    """

    reason = message = ""
    last = due = run = probes = ring = None
    since = until = code = restarts = stopping = pause_s = digest = state = 0
    ready = False

    def __init__(self, pod, name):
        self.pod = pod
        self.name = name


class Pod:
    """A pod: `resource` is its key, `uid` which one of that name it is.

    policy     restartPolicy; grace_s: seconds its containers get to end themselves
    leaving    0; 1 it is being deleted and its end is reported; 2 it was taken away; 3 another has its name
    reason     why it was refused for good (phase Failed), "" if it was not; `message` in words
    dirty, sent   its status changed and is to be told; it is under way
    unkept     what its containers do has changed, and that is not recorded yet
    refused    the cloud did not know the pod when its status was told
    """

    reason = message = uid = ""
    start_ms = leaving = 0
    grace_s = 30
    memory = 0
    policy = "Always"
    dirty = sent = gone = unkept = refused = False
    due = True  # to be looked at

    def __init__(self, resource):
        self.resource = resource
        self.init = []
        self.containers = []

    def all(self):
        """-> its containers, those that come first before the others."""
        return self.init + self.containers


class Edged:
    """The pods in `store`, run by `runner` (start, stop, kill: see `edged.apps`).

    Args: `loop`, `log`; `epoch_ms` tells the time; `random` bytes; `config`: "memory" bytes that pods may
    have together. `hub`, EdgeHub or None, is woken when there is something
    to be told.
    """

    kind = Pod

    def __init__(self, loop, store, log, epoch_ms, config):
        self.loop = loop
        self.clock = loop.clock
        self.store = store
        self.log = log
        self.epoch_ms = epoch_ms
        self.config = config
        self.pods = {}
        self.runner = self.hub = self.answer = self.tcp = None
        self._reserve = bytearray(_RESERVE)
        self._changed = []
        self.task = loop.spawn("edged", self.run)

    def changed(self, resource):
        """MetaManager: flash holds `resource` anew, or no longer."""
        if resource not in self._changed:
            self._changed.append(resource)
        self.task.wake()

    def run(self, task):
        """The task: whatever is due, then wait."""
        while True:
            while self._changed:
                borrow("edged.load").changed(self, self._changed[0])
                del self._changed[0]
                task.wake()
                yield
            if self._reserve is None:
                gc.collect()
                self._reserve = bytearray(_RESERVE)
            wait = _WAKE_MS_MAX
            for pod in list(self.pods.values()):
                left = self._left(pod)
                if left <= 0:
                    pod.due = False
                    try:
                        borrow("edged.lifecycle").advance(self, pod)
                    except Exception:
                        pod.due = True  # it is not done
                        raise
                    if pod.dirty:
                        self.tell(pod)  # it was held back until now, see `say`
                    left = self._left(pod)
                wait = min(wait, max(left, 0))
            task.sleep(wait)
            yield

    def _left(self, pod):
        # Milliseconds until a pod has something to do; 0 or less: now.
        if pod.due:
            return 0
        left = _WAKE_MS_MAX
        for container in pod.init:
            left = self._earlier(container, left)
        for container in pod.containers:
            left = self._earlier(container, left)
        return left

    def _earlier(self, container, left):
        if container.due is None:
            return left
        return min(left, self.clock.ticks_diff(container.due, self.clock.ticks_ms()))

    def look(self, pod):
        """Have `pod` looked at soon."""
        pod.due = True
        self.task.wake()

    def short(self):
        """Memory has run out: free the reserve, end who grew the most; the task makes a new reserve."""
        self._reserve = None
        gc.collect()
        self.runner.shed()
        self.task.wake()

    def exited(self, container, code, reason, message=""):
        """The runner: the application has ended, by itself or because it was told to.

        Only noted here, where memory may have just run out; the task does the rest.
        """
        container.run = None
        container.code = code
        container.reason = reason
        if message or not container.message:
            container.message = message if len(message) < 200 else message[:200]
        self.look(container.pod)

    # -- for EdgeHub: the status of pods goes up as its reports do ----------------------------

    def tell(self, pod):
        """The status of `pod` is another than it was."""
        pod.dirty = True
        if self.hub is not None:
            self.hub.task.wake()

    def say(self, hub):
        """Put the next message of pods into the hub's buffer; -> whether there was one."""
        if self.answer is not None:
            borrow("edged.logs").say(self, hub)
            return True
        for pod in self.pods.values():
            # Not while it is to be looked at: what flash held of it before a restart would be told as news.
            if pod.dirty and not pod.sent and not pod.due:
                borrow("edged.status").say(pod, hub)
                return True
        return False

    def acked(self, pod):
        """The cloud holds what was told of `pod`."""
        pod.sent = False
        if pod.gone and not pod.dirty:
            self.look(pod)

    def refused(self, pod, code, reason):
        """The cloud has no such pod (any more, or yet). It is told again after `in_step`."""
        self.log.warning("edged", "status refused", "pod", pod.resource, "code", code, "reason", reason)
        self.acked(pod)
        pod.refused = True

    def in_step(self):
        """The cloud and the node agree on what there is: what was refused may be taken by now."""
        for pod in self.pods.values():
            if pod.refused:
                pod.refused = False
                pod.dirty = True

    def link_lost(self):
        """What was under way may not have arrived."""
        self.answer = None
        for pod in self.pods.values():
            if pod.sent:
                pod.sent = False
                pod.dirty = True
