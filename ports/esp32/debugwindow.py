"""A while in which a board is its developer's: a timer feeds the watchdog, then the chip is reset.

It opens when the gateway is left for the REPL, and opens anew after a soft reset, for which boot.py calls
`rearm`. The mark is in the RTC's memory, which a soft reset keeps and a power cut does not.
"""

import machine
from micropython import const

from motelet.ports.esp32.guard import WATCHDOG_MS

WINDOW_S = const(600)
OPEN = b"debug"
RAW = b"debug raw"  # and whoever is on the line waits for the raw REPL
_PERIOD_MS = const(5000)
_TIMER = const(0)


class Window:
    """Feeds the watchdog for `seconds`, from the moment it is made until then or `close`."""

    def __init__(self, seconds=WINDOW_S, mark=OPEN):
        machine.RTC().memory(mark)
        self._left = seconds * 1000 // _PERIOD_MS
        self._watchdog = machine.WDT(timeout=WATCHDOG_MS)
        self._timer = machine.Timer(_TIMER)
        self._timer.init(mode=machine.Timer.PERIODIC, period=_PERIOD_MS, callback=self.tick)

    def tick(self, _timer):
        self._left -= 1
        if self._left < 0:
            self.close()
            machine.reset()
        self._watchdog.feed()

    def close(self):
        self._timer.deinit()
        machine.RTC().memory(b"")


def mark():
    """-> why a window is open: OPEN, RAW, or b"" when none is."""
    return bytes(machine.RTC().memory())


def rearm():
    """Open the window anew if one was open when the board was reset."""
    found = mark()
    if found in (OPEN, RAW):
        return Window(mark=found)
    return None
