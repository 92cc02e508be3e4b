"""What a board's overseer is (ports/esp32/overseer.py), where applications run in MicroPython as on a board.

A thread is the timer, a signal the interrupt. Both are for tests, so that what boards do runs for real.
"""

import _thread
import os
import time

import micropython


class Overseer:
    """`settings`: "mark", a file in which the watchdog finds who runs; "alarm_s", or nobody is interrupted.

    `left` is what the process before this one was at when it ended.
    """

    def __init__(self, settings):
        self._path = settings["mark"]
        self._name = ""
        try:
            with open(self._path, "rb") as file:
                self.left = file.read().decode().strip()
        except OSError:
            self.left = ""
        self._file = open(self._path, "wb")
        self._alarm_s = settings.get("alarm_s")

    def mark(self, name):
        self._name = name
        self._file.seek(0)
        self._file.write("%-255s\n" % name)
        self._file.flush()

    def alarm(self, tick):
        if self._alarm_s is not None:
            _thread.start_new_thread(_beat, (self._alarm_s, tick))

    def interrupt(self):
        # A little later: here the signal would end `tick`, and `system` ignores it. On this interpreter it
        # acts at once, jump or not, so it is only sent if the same application runs then.
        os.system("(sleep 0.02; grep -q '^%s ' '%s' && kill -INT $PPID) &" % (self._name, self._path))


def _beat(alarm_s, tick):
    while True:
        time.sleep(alarm_s)
        micropython.schedule(tick, None)
