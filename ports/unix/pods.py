"""How pods are run on Linux: each container in a process of its own, or as on a board for tests."""

import os
import sys


def how(settings):
    """-> {"process": bool, "mpy": what sys.implementation._mpy is there}; None when they cannot be run.

    settings["process"] False: in this interpreter, as on a board. Only CPython starts processes; they are
    MicroPython where there is one, otherwise CPython, whose `mpy` is 0. "memory" is half of the computer's.
    """
    if not settings.get("process", True):
        if sys.implementation.name != "micropython":
            raise ValueError("edged.process: only MicroPython can run applications in itself")
        return {"process": False, "mpy": sys.implementation._mpy}
    if sys.implementation.name == "micropython":
        return None
    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return {"process": True, "mpy": _mpy(), "memory": settings.get("memory", half)}


def _mpy():
    # The real MicroPython of this Python says it; 0 where there is none.
    import importlib.util
    import subprocess

    if importlib.util.find_spec("micropython_unix") is None:
        return 0
    start = "import sys, micropython_unix as m; sys.exit(m.main())"
    ask = "import sys; print(sys.implementation._mpy)"
    done = subprocess.run([sys.executable, "-P", "-c", start, "-c", ask], capture_output=True, check=True)
    return int(done.stdout)
