"""Communication, the part of DeviceTwin that speaks to applications on MQTT (KubeEdge's CommModule).

Loaded by EventBus only, `update` with the first message that concerns it, and the other submodules for
a moment: a board pays for what its applications use. It takes topics apart by position,
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

from motelet import borrow
from motelet.devicetwin.twin import delta, reported
from motelet.messages import PUBLISH

MAILBOX_SIZE = const(12)  # of the mailbox "eventbus"
_ANSWERS_MAX = const(3)  # messages that one request may be answered with


class Communication:
    """Between DeviceTwin `twin` and EventBus, whose mailbox it makes, for the node `node`."""

    reported = reported  # of devicetwin.twin; called by DeviceTwin

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
                delta(self, device)
        return True

    def handle(self, topic, payload):
        """Act on a message of an application."""
        parts = topic.split("/")
        verb = "/".join(parts[5:])
        if verb in ("twin/update", "twin/cloud_updated") and parts[2] == "device":
            from motelet.devicetwin.update import update

            update(self, parts[3] + "/" + parts[4], payload, verb != "twin/update")
        else:
            borrow("devicetwin.request").handle(self, parts, verb, payload)

    # -- called by the submodules -------------------------------------------------------------

    def begin(self, event_id):
        """-> stream with the beginning of a payload, for `end`; `event_id` None: news nobody asked for."""
        if event_id is None:
            event_id = hexlify(self.twin.random(16)).decode()
        out = StringIO()
        out.write('{"event_id":')
        json.dump(event_id, out)
        out.write(',"timestamp":%d,' % self.twin.epoch_ms())
        return out

    def end(self, out, path):
        """Publish what was written to `out` on `$hw/events/<path>`."""
        out.write("}")
        if self.online and not self._out.put(PUBLISH, "$hw/events/" + path, out.getvalue()):
            self.dropped += 1
            self.twin.log.warning("devicetwin", "no room for a message", "topic", path, "sum", self.dropped)
