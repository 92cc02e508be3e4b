"""The time of day on a board: what it starts with, and what the bridge says. Borrowed.

A board without a battery starts in the year 2000. It goes on at the later of when its image was built and
the last time it saved, which is wrong but not by years, and certificates of the bridge are good at either
(cloud_bridge/identity). Then `sntp` asks for the time before the first link. The bridge tells it on each
connection and every hour. A step is an event in the log; deadlines count ticks, which no step moves.
"""

from micropython import const

from motelet.kvrecord import StoreError

_KEY = ".time"
_STEP_MS = const(1000)  # less than this is drift


def start(port, store, log):
    """Set a clock that was never set to the latest time that is known to be over; -> whether it was not."""
    if not port.built_ms:
        return False  # the platform keeps the time
    saved = store.get(_KEY)
    past = max(port.built_ms, int(saved or b"0"))
    unset = port.epoch_ms() < past
    if unset:
        step(port, log, past, "stored")
    return unset


def told(hub, epoch_ms):
    """The bridge says what time it is: take it, and save it for the next start."""
    if not hub.port.built_ms:
        return
    if abs(epoch_ms - hub.port.epoch_ms()) >= _STEP_MS:
        step(hub.port, hub.log, epoch_ms, "bridge")
    try:
        hub.meta.store.put(_KEY, str(epoch_ms).encode())
    except StoreError as error:
        hub.log.warning("gateway", "time not saved", "error", error)


def step(port, log, epoch_ms, source):
    """Set the clock, and say so."""
    before = port.epoch_ms()
    port.set_time(epoch_ms)
    log.info("gateway", "clock set", "source", source, "ms", epoch_ms, "step", epoch_ms - before)
