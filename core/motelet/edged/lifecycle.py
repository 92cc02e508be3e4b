"""What the containers of a pod do next: kubelet's rules, on what is so now. Borrowed.

- Init containers run one after the other, each until it succeeds; then the others, together.
- restartPolicy Always starts again whatever ended, OnFailure what ended with an exit code other than 0,
  Never nothing. The first restart comes at once, the next after 10 s, doubled up to 5 minutes
  (CrashLoopBackOff), and from the beginning after a run of 10 minutes.
- To stop is to cancel; what has not ended when the grace period is over is killed.
- A container that cannot be started (an image, a file that is missing) waits, and is tried again.
"""

from micropython import const

from motelet import borrow
from motelet.edged import RUNNING, TERMINATED, WAITING

_PAUSE_MIN_S = const(10)
_PAUSE_MAX_S = const(300)
_HEALTHY_MS = const(600000)
_KILLED = const(137)


def advance(edged, pod):
    """Do what is due for `pod`."""
    if pod.unkept:
        _record(edged, pod)
    if pod.leaving:
        if not _stopped(edged, pod):
            return
        if pod.leaving == 1:
            _gone(edged, pod)
        else:
            _forget(edged, pod)
        return
    if pod.reason:
        return
    for container in pod.init:
        if container.run is not None or container.state == RUNNING or not _done(container):
            _drive(edged, pod, container, "OnFailure" if pod.policy == "Always" else pod.policy)
            return
    for container in pod.containers:
        _drive(edged, pod, container, pod.policy)


def _ended(edged, pod, container):
    """The application ended: keep how, durably."""
    now = edged.epoch_ms()
    container.due = container.probes = None
    container.state = TERMINATED
    container.until = now
    code = container.code
    container.stopping = 0
    container.ready = False
    if now - container.since >= _HEALTHY_MS:
        container.pause_s = min(container.pause_s, 0)
    _record(edged, pod)
    edged.log.info("edged", "container ended", "pod", pod.resource, "container", container.name, "code", code)
    edged.look(pod)


def _done(container):
    return container.state == TERMINATED and container.code == 0


def _drive(edged, pod, container, policy):
    """One container: start, start again, stop what is outdated, look after what runs."""
    if container.run is not None:
        if container.stopping or container.pause_s < 0:
            _stop(edged, container)
        elif container.probes is not None:
            why = container.probes.check(edged, container)
            if why:
                container.message = why
                _stop(edged, container)
        return
    if container.state == RUNNING:
        _ended(edged, pod, container)
    if container.state == TERMINATED:
        again = policy == "Always" or policy == "OnFailure" and container.code != 0 or container.pause_s < 0
        if not again:
            return
        _back_off(edged, container)
    if container.due is None or edged.clock.ticks_diff(container.due, edged.clock.ticks_ms()) <= 0:
        _start(edged, pod, container)


def _back_off(edged, container):
    """From TERMINATED to WAITING: `due` when it may be started again."""
    container.last = (
        container.code, container.since, container.until, container.reason, container.message,
    )  # fmt: skip
    container.state = WAITING
    # Doubled beyond the longest, so that half of it is the pause that goes on after a reboot (`kept`).
    pause_s = min(container.pause_s, _PAUSE_MAX_S)
    container.pause_s = max(pause_s * 2, _PAUSE_MIN_S) if pause_s >= 0 else 0
    container.restarts += 1
    if pause_s > 0:
        container.reason = "CrashLoopBackOff"
        container.message = "back-off %ds restarting failed container" % pause_s
        # What passed since it ended counts, also when the board was off meanwhile.
        waited = min(max(edged.epoch_ms() - container.until, 0), pause_s * 1000)
        container.due = edged.clock.ticks_add(edged.clock.ticks_ms(), pause_s * 1000 - waited)
    _record(edged, container.pod)


def _start(edged, pod, container):
    container.due = None
    try:
        spec = borrow("edged.spec").container(edged.store, pod, container.name)
        if spec is None:
            return  # a file of it has still to come, and tells
        edged.runner.start(container, spec)
    except (ValueError, OSError, MemoryError) as error:
        # Not started, so it is no crash: it waits for what is missing, and is tried again.
        pause_s = container.pause_s = min(max(container.pause_s * 2, _PAUSE_MIN_S), _PAUSE_MAX_S)
        container.due = edged.clock.ticks_add(edged.clock.ticks_ms(), pause_s * 1000)
        reason = "RunContainerError" if isinstance(error, MemoryError) else "CreateContainerConfigError"
        if (container.reason, container.message) != (reason, str(error)):
            container.reason, container.message = reason, str(error)
            edged.log.warning("edged", "not started", "pod", pod.resource, "error", error)
            edged.tell(pod)
        return
    container.state = RUNNING
    container.reason = container.message = ""
    container.code = container.until = 0
    container.since = edged.epoch_ms()
    container.ready = True
    if "probes" in spec:
        container.probes = borrow("edged.probes").Probes(edged, container, spec["probes"])
    _record(edged, pod)
    edged.log.info("edged", "container started", "pod", pod.resource, "container", container.name)


def _stop(edged, container):
    """Ask a running container to end; kill it when its time is over. -> whether it runs no more."""
    clock = edged.clock
    if container.run is None:
        return True
    if not container.stopping:
        container.stopping = 1
        container.due = clock.ticks_add(clock.ticks_ms(), container.pod.grace_s * 1000)
        edged.runner.stop(container)
    elif container.stopping == 1 and clock.ticks_diff(container.due, clock.ticks_ms()) <= 0:
        container.stopping = 2
        container.due = None
        edged.runner.kill(container)
    return container.run is None


def _stopped(edged, pod):
    running = False
    for container in pod.all():
        if _stop(edged, container):
            if container.state == RUNNING:
                _ended(edged, pod, container)
        else:
            # A grace period that became shorter counts.
            left = edged.clock.ticks_add(edged.clock.ticks_ms(), pod.grace_s * 1000)
            if container.due is not None and edged.clock.ticks_diff(container.due, left) > 0:
                container.due = left
            running = True
    return not running


def _record(edged, pod):
    """Keep how the containers are, and tell it. Where memory runs out on the way it is done again."""
    pod.unkept = True
    borrow("edged.kept").keep(edged, pod)
    pod.unkept = False
    edged.tell(pod)


def _gone(edged, pod):
    """Nothing of a pod that is being deleted runs any more: the cloud may forget it."""
    if not pod.gone:
        borrow("edged.kept").forget(edged, pod)
        pod.gone = True
        pod.memory = 0
        edged.tell(pod)


def _forget(edged, pod):
    borrow("edged.kept").forget(edged, pod)
    del edged.pods[pod.resource]
    edged.log.info("edged", "pod gone", "pod", pod.resource)
    if pod.resource in edged.store:  # another one of this name, or this one again
        edged.changed(pod.resource)
