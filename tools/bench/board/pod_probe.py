"""A whole gateway on MicroPython among real peers, with no pod, with one, and with several: its heap.

Prints {"wanted": pods} when it is ready for as many, and {"pods": n, "bytes": heap}.
"""

import gc
import sys

from garbage import collected

_WAIT_MS = 5
_PODS = (0, 1, 4)


def _script():
    yield from collected()
    before = gc.mem_alloc()
    from gateway_probe import Probe

    yield from collected()
    own = gc.mem_alloc() - before
    if sys.platform == "webassembly":
        # Only for this: what else is frozen are Python versions of modules that a board has in C.
        sys.path.append(".frozen")
        import asyncio  # noqa: F401

        sys.path.pop()
    probe = Probe(sys.argv[1], own)
    probe.script = _pods(probe)
    while probe.step(0 if sys.platform == "webassembly" else _WAIT_MS):
        yield


def _pods(probe):
    yield from probe._settled()
    for count in _PODS:
        print('{"wanted": %d}' % count)
        while _running(probe.gateway) < count:
            yield
        yield from probe._settled()
        yield from collected()
        print('{"pods": %d, "bytes": %d}' % (count, gc.mem_alloc() - probe.own))


def _running(gateway):
    count = 0
    if gateway.edged is not None:
        for pod in gateway.edged.pods.values():
            count += pod.containers[0].run is not None and not pod.dirty and not pod.sent
    return count


script = _script()
if sys.platform == "webassembly":

    def step():
        """For the host: -> milliseconds it may wait, negative at the end."""
        try:
            next(script)
        except StopIteration:
            return -1
        return _WAIT_MS
else:
    for _ in script:
        pass
