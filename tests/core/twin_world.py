"""DeviceTwin on a real store in RAM, with what the tests of its parts share."""

import json

from nor import Nor

from motelet.bus import Bus
from motelet.cbor import Writer
from motelet.devicetwin import DeviceTwin
from motelet.kvlog import Store
from motelet.log import Log
from motelet.loop import Loop
from motelet.messages import ARRIVED, DELETE, PUT, READY
from tests_util import Clock, MemoryPoller

LAMP = "default/device/lamp"
RESOURCE = "default/device/dev1"
DEV = "$hw/events/device/default/dev1/"
NODEV = "$hw/events/device/default/nodev/"
STRING = {"type": "string"}
_BUFFER = bytearray(1024)
_FLASH = Nor(8, block_size=512)  # made once: a board's heap soon has no such piece any more


def prop(name, kind="INT", desired=None, **fields):
    """A property of an effective Device."""
    item = {"name": name, "type": kind, "accessMode": "ReadWrite"}
    if desired is not None:
        item["desired"] = {"value": desired, "metadata": fields.pop("metadata", {})}
    if fields.pop("momentary", False):
        item["visitors"] = {"protocolName": "none", "configData": {"momentary": True}}
    item.update(fields)
    return item


def content(*properties):
    """CBOR of an effective Device."""
    writer = Writer(_BUFFER)
    writer.value({"protocol": {"protocolName": "none", "configData": {}}, "properties": list(properties)})
    return bytes(_BUFFER[: writer.n])


def _fresh():
    _FLASH.dead = False
    for block in range(_FLASH.blocks):
        _FLASH.erase(block)
    return _FLASH


class Driver:
    """What DeviceTwin sees of a mapper: devices come, go, and are asked to apply."""

    def __init__(self):
        self.devices = []
        self.asked = []
        self.refuse = None

    def attach(self, device):
        if self.refuse:
            raise ValueError(self.refuse)
        device.mapper = self
        self.devices.append(device)

    def detach(self, device):
        device.mapper = None
        self.devices.remove(device)

    def apply(self, asked):
        self.asked.append((asked.name, asked.desired))


class World:
    """A DeviceTwin; `restarted` is what comes up on the flash it leaves. Also its port."""

    def __init__(self, flash=None, mqtt=False, mapper=True):
        self.flash = flash or _fresh()
        self.clock = Clock()
        self.epoch_ms = self.clock.epoch_ms
        self.lines = []
        self.errors = []
        self.driver = Driver()
        if not mapper:
            self.driver.refuse = "no driver for protocol none"
        self.bus = Bus()
        self.store = Store(self.flash)
        self.store.mount()
        self.loop = Loop(self.clock, MemoryPoller(self.clock), lambda task, error: self.errors.append(error))
        self.log = Log(self.lines.append, "debug")
        arguments = (self.loop, self.bus, self.store, self.log, self)
        self.twin = DeviceTwin(*arguments, self.driver.attach, self.driver.detach)
        self.inbox = self.bus["devicetwin"]
        self.hub = self.twin.hub = Woken()
        if mqtt:
            self.comm = self.twin.speak("edge-1")
            self.comm.connected(True)
            self.out = self.bus["eventbus"]
        self.loop.spawn("devicetwin", self.twin.run)
        self.step()

    def restarted(self):
        flash = self.flash
        options = {"mqtt": self.twin.local is not None, "mapper": not self.driver.refuse}
        # A board's heap has no room for two.
        self.twin = self.comm = self.out = self.inbox = self.store = self.loop = self.bus = self.driver = None
        return World(flash, **options)

    def random(self, n):
        return b"\x05" * n

    def step(self, count=4):
        for _ in range(count):
            self.loop.step(0)
        while not self.flash.dead and self.store.step():
            pass
        assert not self.errors, self.errors

    def put(self, *properties, resource=LAMP):
        assert self.inbox.put(PUT, resource, content(*properties))
        self.step()
        return self.twin.devices.get(resource.replace("/device", ""))

    def delete(self, resource=LAMP):
        assert self.inbox.put(DELETE, resource)
        self.step()

    def ready(self):
        assert self.inbox.put(READY)
        self.step()

    def ask(self, topic, payload):
        """An application publishes; -> what is published in answer: [(topic, parsed payload)]."""
        if isinstance(payload, dict):
            payload = json.dumps(payload)
        assert self.inbox.put(ARRIVED, topic, payload if isinstance(payload, bytes) else payload.encode())
        self.step()
        return self.said()

    def said(self):
        """-> all that was published since: [(topic, parsed payload)]."""
        self.step()
        said = []
        while self.out.take():
            said.append((self.out.a, json.loads(self.out.b)))
        self.comm.drained()
        return said

    def reports(self):
        """Send and acknowledge all there is: -> [(name or state, value)]."""
        items = []
        item = self.twin.next_report()
        while item is not None:
            self.twin.sent(item)
            self.twin.acked(item)
            items.append((item.name, item.value) if hasattr(item, "name") else ("state", item.state))
            item = self.twin.next_report()
        return items


class Woken:
    """Counts how often a task was woken."""

    def __init__(self):
        self.count = 0

    def wake(self, events=0):
        self.count += 1


def make(*properties, **options):
    """-> a World whose applications alone look after `default/dev1`."""
    world = World(mqtt=True, mapper=False, **options)
    world.put(*properties, resource=RESOURCE)
    world.reports()
    world.said()
    return world


def actual(value, kind="string", **more):
    return dict({"actual": {"value": value}, "metadata": {"type": kind}}, **more)


def expected(value, kind="string", **more):
    return dict({"expected": {"value": value}, "metadata": {"type": kind}}, **more)


def update(world, event_id="e", **twins):
    return world.ask(DEV + "twin/update", {"event_id": event_id, "twin": twins})


def told(value, now):
    return {"value": value, "metadata": {"timestamp": now}}


def view(now, **values):
    entry = {"optional": True, "metadata": STRING}
    for name in values:
        entry[name] = told(values[name], now)
    return entry


def refused(said, code, reason):
    """Assert that all that was said is one error."""
    assert len(said) == 1, said
    payload = said[0][1]
    assert payload["code"] == code and payload["reason"] == reason, payload
    return payload
