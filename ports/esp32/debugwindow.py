"""A while in which a board is its developer's: a timer feeds the watchdog, then the chip is reset.

It opens when the gateway is left for the REPL, and opens anew after a soft reset, for which boot.py calls
`rearm`. The mark is in NVS, since the RTC's memory is somebody else's; any other reset ends the window.
"""

import machine
from micropython import const

from motelet import borrow
from motelet.ports.esp32.guard import WATCHDOG_MS

WINDOW_S = const(600)
_PERIOD_MS = const(1000)
_TIMER = const(0)
_MARK_MAX = const(32)


class Window:
    """Feeds the watchdog for `seconds`, then resets the chip."""

    def __init__(self, seconds):
        self._left = seconds
        self._watchdog = machine.WDT(timeout=WATCHDOG_MS)
        machine.Timer(_TIMER).init(mode=machine.Timer.PERIODIC, period=_PERIOD_MS, callback=self._tick)

    def _tick(self, timer):
        self._left -= 1
        if self._left < 0:
            timer.deinit()
            machine.reset()
        self._watchdog.feed()


def begin(seconds=WINDOW_S, raw=False):
    """Open a window; `raw`: after the soft reset that follows, somebody waits for the raw REPL."""
    _put(b"%s%d" % (b"raw " if raw else b"", seconds))
    Window(seconds)


def end():
    """Close the window that is open, if one is."""
    if _mark():
        machine.Timer(_TIMER).deinit()
        _put(None)


def waits_for_raw():
    """-> whether the soft reset was asked for in the raw REPL."""
    return _mark().startswith(b"raw ")


def rearm():
    """boot.py: open the window anew after a soft reset."""
    mark = _mark()
    if mark and machine.reset_cause() == machine.SOFT_RESET:
        Window(int(mark.replace(b"raw ", b"")))
    elif mark:
        _put(None)


def seconds():
    """-> how long the window is that is open, 0: none is."""
    return int(_mark().replace(b"raw ", b"") or 0)


def _mark():
    return borrow("ports.esp32.settings").get("debug", _MARK_MAX) or b""


def _put(value):
    borrow("ports.esp32.settings").put("debug", value)
