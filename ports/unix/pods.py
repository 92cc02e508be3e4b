"""How pods are run on Linux: each container in a MicroPython of its own, or as on a board for tests."""

import sys


def how(settings):
    """-> {"process": bool, "mpy": what sys.implementation._mpy is there}; None when they cannot be run.

    settings["process"] False: in this interpreter, as on a board.
    """
    if not settings.get("process", True):
        if sys.implementation.name != "micropython":
            raise ValueError("edged.process: only MicroPython can run applications in itself")
        return {"process": False, "mpy": sys.implementation._mpy}
    return None
