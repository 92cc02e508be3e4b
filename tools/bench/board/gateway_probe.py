"""A whole gateway on MicroPython among real peers: measures its heap and its allocations.

Started by start_probe.py, which tells it how much of the heap is this file. Prints JSON objects, one a
line: {"figure": name, "bytes": value, "n": rounds}, or {"wanted": "message"} when it is ready to receive
one more object; and the log lines of the gateway between them.

The clock can be set forward, so that a thousand keepalives need not take four hours.
"""

import gc
import json
import sys

from garbage import collected
from micropython import const, heap_lock, heap_unlock

_SETTLE_MS = const(1000)
_IDLE_ROUNDS = const(1000)
_KEEPALIVE_ROUNDS = const(1000)
_POLL_ROUNDS = const(100)  # in each, every property of every device is read
_LOCKED_ROUNDS = const(50)
_MESSAGES = const(5)


class Clock:
    """The platform's clock, `ahead` milliseconds late or early."""

    def __init__(self, clock):
        self._clock = clock
        self.ahead = 0
        self.ticks_diff = clock.ticks_diff
        self.ticks_add = clock.ticks_add

    def ticks_ms(self):
        return self.ticks_add(self._clock.ticks_ms(), self.ahead)


def _port():
    """The platform's port with a clock that can be set forward."""
    if sys.platform == "webassembly":
        from wasm_port import Port
    else:
        from motelet.ports.unix import Port
    port = Port()
    port.clock = Clock(port.clock)
    port.log_sink = _log
    return port


def _log(line):
    print(line)
    # Not an Exception: the loop would restart the task and nobody would know.
    if line.startswith("error"):
        raise SystemExit(1)


class Probe:
    """The gateway, one `step` at a time, and the measurements, one `yield` at a time.

    config_path: the gateway's configuration as JSON, with file names in the place of certificates.
    own: bytes of the heap that are the probe and no part of a gateway.
    """

    def __init__(self, config_path, own):
        from motelet.device import DIRTY, INFLIGHT
        from motelet.gateway import Gateway
        from motelet.protocol import PING_MS

        with open(config_path) as file:
            config = json.load(file)
        bridge = config["bridge"]
        for name in ("ca", "cert", "key"):
            if name in bridge:
                with open(bridge[name], "rb") as file:
                    bridge[name] = file.read()
        self.own = own
        self.devices = config.pop("devices")
        self.collect_ms = config.pop("collect_ms")
        self.ping_ms = PING_MS
        self.unsaid = DIRTY | INFLIGHT
        self.gateway = Gateway(_port(), config)
        self.loop = self.gateway.loop
        self.clock = self.loop.clock
        self.locked = False
        self.ran = 0
        self.script = self._script()

    def step(self, wait_ms):
        """Let the gateway work, waiting at most so long; -> False when all is measured."""
        if self.locked:
            heap_lock()
            try:
                self.ran = self.loop.step(wait_ms)
            finally:
                heap_unlock()
        else:
            self.ran = self.loop.step(wait_ms)
        try:
            next(self.script)
        except StopIteration:
            return False
        return True

    def _script(self):
        yield from collected()
        _say("heap_started", gc.mem_alloc() - self.own)
        yield from self._settled()
        yield from collected()
        _say("heap_connected", gc.mem_alloc() - self.own)
        for _ in range(_MESSAGES):
            yield from self._message()
        for locked in (False, True):
            self.locked = locked
            few = _LOCKED_ROUNDS if locked else None
            yield from self._rounds("alloc_idle", 0, few or _IDLE_ROUNDS, False)
            yield from self._rounds("alloc_keepalive", self.ping_ms, few or _KEEPALIVE_ROUNDS, True)
            yield from self._rounds("alloc_unchanged_poll", self.collect_ms, few or _POLL_ROUNDS, False)
        self.locked = False

    def _rounds(self, name, forward_ms, rounds, heard):
        """What `rounds` rounds allocate: set the clock forward, then wait until all that is due is done."""
        hub = self.gateway.edgehub
        yield from collected()
        gc.disable()
        before = gc.mem_alloc()
        left = rounds
        while left:
            last = hub.heard
            self.clock.ahead += forward_ms
            yield
            while self.ran or self._due() or (heard and hub.heard == last):
                yield
            left -= 1
        allocated = gc.mem_alloc() - before
        gc.enable()
        _say(name, allocated, rounds)

    def _message(self):
        """What one object from the bridge allocates until its acknowledgement is made."""
        hub = self.gateway.edgehub
        yield from collected()
        acked = hub.acked
        print('{"wanted": "message"}')
        gc.disable()
        before = gc.mem_alloc()
        while hub.acked == acked:
            yield
        allocated = gc.mem_alloc() - before
        gc.enable()
        _say("alloc_message", allocated)
        yield from self._settled()

    def _settled(self):
        """Until everything is reported and acknowledged, and nothing has run for a while."""
        quiet = self.clock.ticks_ms()
        while self.clock.ticks_diff(self.clock.ticks_ms(), quiet) < _SETTLE_MS:
            if self.ran or not self._complete():
                quiet = self.clock.ticks_ms()
            yield

    def _due(self):
        """Whether a property waits to be read, or is being read."""
        now = self.clock.ticks_ms()
        for name in self.gateway.twin.devices:
            for prop in self.gateway.twin.devices[name].properties:
                if self.clock.ticks_diff(prop.due, now) <= 0:
                    return True
        return False

    def _complete(self):
        """Whether each device is there, has been read, and the cloud has acknowledged all of it."""
        devices = self.gateway.twin.devices
        if len(devices) < self.devices or not self.gateway.edgehub.synced:
            return False
        for device in devices.values():
            if device.state != "online" or device.flags & self.unsaid:
                return False
            for prop in device.properties:
                if prop.value is None or prop.flags & self.unsaid:
                    return False
        return True


def _say(figure, count, n=1):
    print('{"figure": "%s", "bytes": %d, "n": %d}' % (figure, count, n))
