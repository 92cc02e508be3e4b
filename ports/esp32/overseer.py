"""Knows which application runs, and interrupts one that does not let others run. Loaded with the first pod.

MicroPython raises a KeyboardInterrupt in the main thread, where its code jumps next, once a terminal's input
has the interrupt character. That terminal is this object, for as long as a call of `interrupt` takes, in the
place of WebREPL or whatever `os.dupterm` has. The alarm is a timer's, whose function MicroPython calls
where the code jumps, so also from within `while True: pass`.
"""

import io
import os

import machine
import micropython
from micropython import const

_TIMER = const(0)  # the debug window's, which has no use for it while the gateway runs
_PERIOD_MS = const(15000)  # to be interrupted after 15 to 30 s: the half of the watchdog's time
_CTRL_C = const(3)


class Overseer(io.IOBase):
    """`left` is whom `mark` named last before the watchdog reset the board, "" after another reset."""

    def __init__(self, reset):
        self.left = str(machine.RTC().memory(), "utf-8") if reset == "watchdog" else ""

    def mark(self, name):
        """Say who runs now, where a reset by the watchdog does not reach."""
        machine.RTC().memory(name)

    def alarm(self, tick):
        """Have `tick(anything)` called every 15 s."""
        if hasattr(os, "dupterm_notify"):
            machine.Timer(_TIMER).init(mode=machine.Timer.PERIODIC, period=_PERIOD_MS, callback=tick)

    def interrupt(self):
        """Have a KeyboardInterrupt raised at the next jump, so there must be none from here to there."""
        micropython.kbd_intr(_CTRL_C)
        before = os.dupterm(self)
        os.dupterm_notify(None)
        os.dupterm(before)
        micropython.kbd_intr(-1)  # a byte like any other, as always while the gateway runs: ports/repl.py

    # -- the terminal -------------------------------------------------------------------------

    def readinto(self, buf):
        buf[0] = _CTRL_C
        return 1

    def write(self, buf):
        return len(buf)

    def ioctl(self, request, argument):
        return 0
