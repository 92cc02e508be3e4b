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


class Mark:
    """Who runs now, in the file `path`: what a watchdog leaves of a board, for tests that are the watchdog.

    `left` is what the process before this one was at when it ended.
    """

    def __init__(self, path):
        try:
            with open(path, "rb") as file:
                self.left = file.read().decode().strip()
        except OSError:
            self.left = ""
        self._file = open(path, "wb")

    def write(self, name):
        self._file.seek(0)
        self._file.write("%-255s\n" % name)
        self._file.flush()
