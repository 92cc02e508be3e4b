"""Keeps a board alive that nobody stands beside: watchdog, memory, button, sleep. A task of the loop.

The watchdog is fed only while every module is healthy: one that fails again and again lets it bite, and the
chip starts anew. What is done in the end is `leave`, which is borrowed.
"""

import machine
from micropython import const

from motelet import borrow

WATCHDOG_MS = const(60000)  # longer than TLS, a name that does not resolve and an erased flash take together
_TICK_MS = const(1000)
_SICK_MS = const(60000)  # a task's back-off when it has failed at least seven times in a row
_MEMORY_S = const(60)  # between two looks at the memory
_LOW_TIMES = const(10)  # so often in a row too little: ten minutes
_LOW_BYTES = const(12288)
_BUTTON_S = const(10)


class Guard:
    """Args: `gateway`; `port`; `config`, of which it reads "low_memory" (bytes), "button" (the pin that is
    low while it is pressed) and "sleep" {"awake_s", "asleep_s"}, all optional.
    """

    def __init__(self, gateway, port, config):
        self.gateway = gateway
        self.port = port
        self.watchdog = machine.WDT(timeout=WATCHDOG_MS)
        self._low_bytes = config.get("low_memory", _LOW_BYTES)
        self._low = self._pressed = self._second = 0
        self._sleep = config.get("sleep")
        number = config.get("button")
        self._button = None if number is None else machine.Pin(number, machine.Pin.IN, machine.Pin.PULL_UP)

    def healthy(self):
        """Whether no module fails again and again."""
        for task in self.gateway.loop._tasks:
            if task._held and task._backoff >= _SICK_MS:
                return False
        return True

    def run(self, task):
        """The task. Between two looks at the memory it allocates nothing."""
        while True:
            if self.healthy():
                self.watchdog.feed()
            self._second += 1
            if self._look():
                yield from borrow("ports.esp32.leave").now(self, task, self._why)
            task.sleep(_TICK_MS)
            yield

    def _look(self):
        # -> whether it is time to leave, for self._why.
        button = self._button
        self._pressed = self._pressed + 1 if button is not None and not button.value() else 0
        if self._pressed >= _BUTTON_S:
            self._why = "factory reset"
        elif self._sleep is not None and self._second >= self._sleep["awake_s"]:
            self._why = "deep sleep"
        elif self._second % _MEMORY_S == 0 and self._short():
            self._why = "low memory"
        else:
            return False
        return True

    def _short(self):
        low = borrow("ports.esp32.vitals").largest_free() < self._low_bytes
        self._low = self._low + 1 if low else 0
        return self._low >= _LOW_TIMES
