"""motelet: a microcontroller or a small gateway as a first-class member of a Kubernetes cluster.

The same source runs on MicroPython and on CPython. CPython has no `micropython` module, and the
compiler of the board folds `const(..)` only where it is written out, so the one name that the rest
of the package needs from it is given to CPython here.
"""

import gc
import sys

__version__ = "0.1.0"
running = None  # the gateway of a board: for whoever sits at its REPL, and for nothing else

if sys.implementation.name != "micropython":
    from types import ModuleType

    _shim = ModuleType("micropython")
    _shim.const = lambda value: value
    sys.modules.setdefault("micropython", _shim)


def borrow(name):
    """-> the module `motelet.<name>` for one use.

    What runs once a boot, a connection or a configuration would cost a board its code's worth of RAM for
    good. Borrowed, the module is forgotten by the interpreter at once, and its code goes with the caller's
    last reference to it; the next use loads it from flash again. Such a module keeps no state.
    """
    path = "motelet." + name
    if sys.implementation.name != "micropython":
        return __import__(path, None, None, (name,))
    if path in sys.modules:
        return sys.modules[path]  # somebody has it for good
    # What was borrowed before is garbage by now, and loading does not always collect by itself.
    gc.collect()
    try:
        module = __import__(path, None, None, (name,))
    except BaseException:
        sys.modules.pop(path, None)  # where memory ran out, MicroPython leaves what there is of it
        raise
    parent = sys.modules[path[: path.rfind(".")]]
    last = path[path.rfind(".") + 1 :]
    # None first: MicroPython leaves the value of a deleted entry where it was, out of reach but not free.
    sys.modules[path] = None
    del sys.modules[path]
    setattr(parent, last, None)
    delattr(parent, last)
    return module
