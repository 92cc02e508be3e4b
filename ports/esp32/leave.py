"""How a board ends a session by its own will: it says so, then restarts, sleeps, or forgets. Borrowed."""

import machine
from micropython import const

from motelet import borrow

_SAY_MS = const(5000)  # for the announcement to get to the bridge
_LOOK_MS = const(100)
_RESTART_MS = const(30000)  # what a restart takes, connection included


def now(guard, task, why):
    """A generator within `task` that does not come back.

    `why` is "low memory", "deep sleep" or "factory reset".
    """
    gateway = guard.gateway
    asleep_ms = guard._sleep["asleep_s"] * 1000 if why == "deep sleep" else _RESTART_MS
    gateway.log.warning("guard", "leaving", "why", why, "back_in_ms", asleep_ms)
    guard.port.sleep_until = guard.port.epoch_ms() + asleep_ms
    guard.watchdog.feed()
    yield from _say(gateway.edgehub, task)
    settings = borrow("ports.esp32.settings")
    if why == "factory reset":
        forget(gateway, settings)
    settings.put("leaving", why.encode())
    gateway.store.flash.sync()
    if why == "deep sleep":
        machine.deepsleep(asleep_ms)
    machine.reset()


def _say(hub, task):
    clock = hub.clock
    until = clock.ticks_add(clock.ticks_ms(), _SAY_MS)
    said = False
    while clock.ticks_diff(until, clock.ticks_ms()) > 0:
        if hub.connected and not said and not hub._ws.len:
            borrow("nodestatus").say(hub)
            hub.task.wake()
            said = True
        task.sleep(_LOOK_MS)
        yield


def forget(gateway, settings):
    """Erase settings and store: the board is as it was before `motelet provision`."""
    settings.erase()
    flash = gateway.store.flash
    for block in range(flash.blocks):
        flash.erase(block)
    flash.sync()
