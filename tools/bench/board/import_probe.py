"""Runs on MicroPython: what each of the named modules keeps on the heap once it is imported."""

import gc

# Loaded first, and so on nobody's bill: where it is no part of the interpreter, the host lends it.
import hashlib  # noqa: F401
import sys

from garbage import collected


def _script(names):
    for name in names:
        yield from collected()
        before = gc.mem_alloc()
        __import__(name)
        yield from collected()
        print('{"module": "%s", "bytes": %d}' % (name, gc.mem_alloc() - before))


script = _script(sys.argv[1:])
if sys.platform == "webassembly":

    def step():
        """For the host: -> milliseconds it may wait, negative at the end."""
        try:
            next(script)
        except StopIteration:
            return -1
        return 0
else:
    for _ in script:
        pass
