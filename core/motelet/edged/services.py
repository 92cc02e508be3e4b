"""What applications may use of the gateway: its log, the EventBus, the twins, a place in the store.

Every method takes the App it is for. Bounded for each: lines a second, messages waiting, bytes kept.
"""

import asyncio

from micropython import const

from motelet import borrow
from motelet.device import APPLY, MOMENTARY

_KEY_SIZE_MAX = const(64)
PUT_TRIES = const(200)  # while the store makes room
_PUT_PAUSE_S = const(0.05)
_EAGAIN = const(11)


class Services:
    """`edged`, `twin` (DeviceTwin) and `eventbus`, a function that gives the EventBus or None."""

    def __init__(self, edged, twin, eventbus):
        self.edged = edged
        self._twin = twin
        self.bus = eventbus
        self.readers = {}  # App -> [event, topics, messages]

    def log(self, container, text):
        """Append to the ring of the container."""
        ring = container.ring
        if ring is None:
            from motelet.edged.ring import Ring

            ring = container.ring = Ring(self.edged.clock)
        ring.write(text)

    def path(self, app, path):
        return "/pods/%d%s" % (app.slot, path if path.startswith("/") else "/" + path)

    def ended(self, app):
        if app in self.readers:
            borrow("edged.topics").ended(self, app)

    # -- the EventBus -------------------------------------------------------------------------

    async def publish(self, app, topic, payload):
        if isinstance(payload, str):
            payload = payload.encode()
        borrow("edged.topics").publish(self, self.bus(), topic, payload)
        await asyncio.sleep(0)

    async def subscribe(self, app, topic):
        borrow("edged.topics").subscribe(self, app, topic)

    async def receive(self, app):
        event, _, messages = self.readers[app]
        while not messages:
            event.clear()
            await event.wait()
        return messages.pop(0)

    def arrived(self, topic, payload):
        """EventBus: a message; -> whether an application takes it, or did take it."""
        return bool(self.readers) and borrow("edged.topics").arrived(self, topic, payload)

    # -- devices ------------------------------------------------------------------------------

    def _property(self, app, device, name=None):
        if "/" not in device:
            device = app.container.pod.resource.split("/")[0] + "/" + device
        found = self._twin.devices[device]
        if name is None:
            return found
        for prop in found.properties:
            if prop.name == name:
                return prop
        raise KeyError(name)

    async def read(self, app, device, name):
        return self._property(app, device, name).value

    async def desired(self, app, device, name):
        return self._property(app, device, name).desired

    async def write(self, app, device, name, value):
        prop = self._property(app, device, name)
        if prop.flags & MOMENTARY:
            raise ValueError("%s takes commands of the cloud only" % name)
        if isinstance(value, bool):
            value = "true" if value else "false"
        prop.desired = str(value)
        prop.flags |= APPLY
        if prop.device.mapper is not None:
            prop.device.mapper.apply(prop)

    async def report(self, app, device, name, value):
        prop = self._property(app, device, name)
        if prop.value != value or prop.time_ms is None:
            self._twin.reported(prop, value)
        if prop.observed != prop.desired and borrow("edged.values").meets(prop, value):
            self._twin.applied(prop)

    async def state(self, app, device, state):
        self._twin.state(self._property(app, device), state)

    # -- the store ----------------------------------------------------------------------------

    def _key(self, app, key):
        if not 0 < len(key) <= _KEY_SIZE_MAX:
            raise ValueError("a key has 1 to %d characters" % _KEY_SIZE_MAX)
        return self._space(app) + key

    def _space(self, app):
        return borrow("edged.kept").key(app.container.pod) + "/=/"

    async def get(self, app, key):
        return self.edged.store.get(self._key(app, key))

    async def put(self, app, key, value):
        key = self._key(app, key)
        for _ in range(PUT_TRIES):
            if borrow("edged.values").put(self.edged.store, self._space(app), key, value):
                return
            await asyncio.sleep(_PUT_PAUSE_S)
        raise OSError(_EAGAIN)
