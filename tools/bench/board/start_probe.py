"""Runs on MicroPython: start_probe CONFIG.json. Weighs the probe, then lets it weigh the gateway."""

import gc
import sys

from garbage import collected

_WAIT_MS = 5


def _script():
    yield from collected()
    before = gc.mem_alloc()
    # No part of a gateway: where it is none of the interpreter, the host lends it.
    import hashlib  # noqa: F401

    from gateway_probe import Probe

    yield from collected()
    # What lies in flash on a board (rom_probe) is no part of the gateway's heap either.
    own = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    probe = Probe(sys.argv[1], gc.mem_alloc() - before + own)
    while probe.step(0 if sys.platform == "webassembly" else _WAIT_MS):
        yield


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
