"""Communication, the part of DeviceTwin that speaks to applications on MQTT (KubeEdge's CommModule).

Loaded by EventBus only, and the submodules with the first message that concerns them: a board pays
for what its applications use. It takes topics apart by position,
so that any namespace works, hands each request to its submodule, and sends what they answer
(dealSendToEdge). Toward the cloud there is nothing to send: a mark on the property does it
(dealSendToCloud), the mark stays until the cloud confirms (dealConfirm), and a value that the cloud
refuses is told to the mapper. When the broker connects, what the applications may have missed is
said again (dealLifeCycle).

Topics and payloads are KubeEdge's (edge/pkg/devicetwin of 1.23). Where they differ:
- A request that is no JSON is answered on the topic of its device, not on `$hw/events/device//..`;
  the reason a syntax error is given names no Go type.
- An error carries the event_id whenever it could be read.
- `membership/updated` comes with a change only, not again for what the node held before it started.
"""

import json
from binascii import hexlify
from io import StringIO

from micropython import const

from motelet.devicetwin import twin
from motelet.devicetwin.payload import DEVICE_PREFIX, NODE_PREFIX
from motelet.messages import ARRIVED, PUBLISH

MAILBOX_SIZE = const(12)  # of the mailbox "eventbus"
_ANSWERS_MAX = const(3)  # messages that one request may be answered with


class Communication:
    """Between DeviceTwin `twin` and EventBus, whose mailbox it makes, for the node `node`."""

    def __init__(self, twin, node):
        self.twin = twin
        self.node = node
        self.records = {}  # id of a device -> {name of a property -> record (devicetwin.twin)}
        self.dropped = 0  # messages that found no room
        self.online = False  # somebody may be listening
        self._out = twin.bus.mailbox("eventbus", MAILBOX_SIZE)
        self._again = None  # the devices that are still to be said again
        self._task = None

    def connected(self, online):
        """EventBus: the broker is there, or gone."""
        self.online = online
        if online:
            self._again = list(self.twin.devices)
            self.drained()

    def drained(self):
        """EventBus: the mailbox has been emptied."""
        if self._task is not None:
            self._task.wake()

    # -- called by DeviceTwin -----------------------------------------------------------------

    def ready(self, task):
        """True when a message can be handled, its answers having room; otherwise `task` is woken then."""
        self._task = task
        if len(self._out) > MAILBOX_SIZE - _ANSWERS_MAX:
            return False
        if self._again:
            task.wake()
            device = self.twin.devices.get(self._again.pop())
            if device is not None:
                twin.delta(self, device)
        return True

    def handle(self, inbox):
        """Act on a message of DeviceTwin's mailbox."""
        if inbox.kind != ARRIVED:
            return
        parts = inbox.a.split("/")
        if inbox.a.startswith(NODE_PREFIX):
            if parts[4:] == ["membership", "get"]:
                from motelet.devicetwin import membership

                membership.get(self, inbox.b)
        elif len(parts) == 7:
            device_id = parts[3] + "/" + parts[4]
            verb = parts[5] + "/" + parts[6]
            if verb == "twin/get":
                twin.get(self, device_id, inbox.b)
            elif verb in ("twin/update", "twin/cloud_updated"):
                from motelet.devicetwin.update import update

                update(self, device_id, inbox.b, verb != "twin/update")
            elif verb == "state/update":
                from motelet.devicetwin import device

                device.update(self, device_id, inbox.b)

    def joined(self, device, old):
        """The spec of a device came (`old` None) or changed; before its mapper gets it."""
        if old is None:
            for _ in self.twin.store.keys(".twin/%s/=" % device.id):
                from motelet.devicetwin import update
                from motelet.devicetwin.device import restore

                restore(self, device)
                update.restore(self, device)
                break
            if self.twin.ready:
                self._membership(device, True)
        twin.merge(self, device, old)

    def left(self, device):
        self.records.pop(device.id, None)
        self._membership(device, False)

    def _membership(self, device, added):
        from motelet.devicetwin.membership import updated

        updated(self, device, added)

    def reported(self, prop, last, last_ms):
        twin.reported(self, prop, last, last_ms)

    def stated(self, device):
        if self.online:
            from motelet.devicetwin.device import stated

            stated(self, device)

    def refused(self, item, code, reason):
        """The cloud does not take a value or a state: its mapper may want to know."""
        device = item.device
        name = "state" if item is device else item.name
        self.error(
            device.id, "twin/update", "", 400, "%s refused by the cloud (%d): %s" % (name, code, reason)
        )

    # -- called by the submodules -------------------------------------------------------------

    def begin(self, event_id):
        """-> stream with the beginning of a payload, for `end`; `event_id` None: news nobody asked for."""
        if event_id is None:
            event_id = hexlify(self.twin.random(16)).decode()
        out = StringIO()
        out.write('{"event_id":')
        json.dump(event_id, out)
        out.write(',"timestamp":')
        out.write(str(self.twin.epoch_ms()))
        out.write(",")
        return out

    def end(self, out, topic):
        """Publish what was written to `out`."""
        out.write("}")
        if self.online and not self._out.put(PUBLISH, topic, out.getvalue()):
            self.dropped += 1
            self.twin.log.warning("devicetwin", "no room for a message", "topic", topic, "sum", self.dropped)

    def send(self, topic, event_id, body):
        """Publish {"event_id", "timestamp", body..}."""
        if self.online:
            out = self.begin(event_id)
            out.write(body)
            self.end(out, topic)

    def answer(self, device_id, verb, event_id, body):
        """Publish on a topic of the device, `verb` being what comes after its name."""
        self.send(DEVICE_PREFIX + device_id + "/" + verb, event_id, body)

    def error(self, device_id, verb, event_id, code, reason):
        self.answer(
            device_id, verb + "/result", event_id, '"code":%d,"reason":%s' % (code, json.dumps(reason))
        )
