"""What Edged takes from flash: pods as the cloud wants them, and what was kept of their containers. Borrowed.

ValueError names what is wrong in a pod; it becomes the reason its containers wait.
"""

from micropython import const

from motelet import borrow
from motelet.cbor import Reader
from motelet.edged import WAITING, Container, Pod

PODS_MAX = const(8)
CONTAINERS_MAX = const(8)  # of one pod, init containers among them
_POLICIES = ("Always", "OnFailure", "Never")
_REFUSED = "CreateContainerConfigError"


def content(store, resource):
    """-> the value of a held object (CBOR decoded), None when it is not held. ValueError."""
    value = store.get(resource)
    if value is None:
        return None
    reader = Reader()
    reader.open(value, 0, len(value))
    reader.skip()
    reader.span(2)
    inner = Reader()
    inner.open(value, reader.start, reader.end)
    return inner.value()


def changed(edged, resource):
    """A held object is new, another, or gone: what that means for the pods."""
    if "/pod/" not in resource:
        for pod in edged.pods.values():
            for container in pod.all():
                if container.state == WAITING and container.reason != "CrashLoopBackOff":
                    container.due = None  # perhaps it waited for this
                    edged.look(pod)
        return
    pod = edged.pods.get(resource)
    if resource not in edged.store:
        if pod is not None:
            _leave(edged, pod, 2)
        return
    try:
        spec = content(edged.store, resource)
        if pod is not None and spec["uid"] != pod.uid:
            _leave(edged, pod, 3)
            return
        take(edged, resource, pod, spec)
    except (ValueError, KeyError, TypeError) as error:
        edged.log.error("edged", "pod cannot be read", "pod", resource, "error", error)
        if pod is None:
            pod = edged.pods[resource] = Pod(resource)
        pod.reason, pod.message = _REFUSED, str(error)
        edged.tell(pod)


def _leave(edged, pod, how):
    pod.leaving = max(pod.leaving, how)
    edged.look(pod)


def take(edged, resource, pod, spec):
    """Have a Pod that is as `spec` says, what runs left running."""
    new = pod is None
    if new:
        pod = Pod(resource)
        pod.uid = spec["uid"]
    pod.grace_s = spec.get("terminationGracePeriodSeconds", 30)
    if "deletionGracePeriodSeconds" in spec:
        pod.grace_s = spec["deletionGracePeriodSeconds"]
        pod.leaving = max(pod.leaving, 1)
    pod.policy = spec.get("restartPolicy", "Always")
    if pod.policy not in _POLICIES:
        raise ValueError("restartPolicy %s" % pod.policy)
    first, others = spec.get("initContainers", []), spec["containers"]
    if len(first) + len(others) > CONTAINERS_MAX:
        raise ValueError("more than %d containers" % CONTAINERS_MAX)
    if not pod.leaving or new:
        pod.init = _containers(pod, pod.init, first)
        pod.containers = _containers(pod, pod.containers, others)
    if new:
        restored = borrow("edged.kept").restore(edged, pod)
        if not restored:
            pod.start_ms = edged.epoch_ms()
        if not pod.leaving:
            _admit(edged, pod, spec.get("memory", 0), restored)
        edged.pods[resource] = pod
        edged.log.info("edged", "pod", "pod", resource, "uid", pod.uid)
    # Not of a new one only: where it was taken away and given back, the cloud knows nothing of it any more.
    edged.tell(pod)
    edged.look(pod)


def _containers(pod, before, specs):
    found = []
    for spec in specs:
        container = None
        for each in before:
            if each.name == spec["name"]:
                container = each
        if container is None:
            container = Container(pod, spec["name"])
            container.reason = "ContainerCreating"
        if container.digest != spec["digest"]:
            # Another program or other arguments: what runs is of before, and to be started again.
            if container.digest and container.run is not None:
                container.pause_s = -1
            container.digest = spec["digest"]
        found.append(container)
    return found


def _admit(edged, pod, memory, restored):
    """Whether there is room on this node. What ran here before the board restarted keeps its place."""
    pod.memory = memory
    used = 0
    for other in edged.pods.values():
        used += other.memory
    if restored:
        return
    if len(edged.pods) >= PODS_MAX:
        pod.reason, pod.message = "OutOfpods", "the board has %d pods already" % PODS_MAX
    elif used + memory > edged.config["memory"]:
        pod.reason = "OutOfmemory"
        pod.message = "requested %d, used %d, capacity %d" % (memory, used, edged.config["memory"])
    if pod.reason:
        pod.memory = 0
        edged.log.warning("edged", "pod refused", "pod", pod.resource, "reason", pod.message)
