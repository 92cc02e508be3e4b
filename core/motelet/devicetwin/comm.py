"""Communication, the part of DeviceTwin that speaks to applications on MQTT (KubeEdge's CommModule).

Loaded by EventBus only, `update` with the first message that concerns it, and the other submodules for
a moment: a board pays for what its applications use. It takes topics apart by position, so that any
namespace works, hands each request to its submodule, and keeps what mappers in this process have read
until `twin`, borrowed for all of it, has published it. Toward the cloud there is nothing to send: a mark on
the property does it (dealSendToCloud), the mark stays until the cloud confirms (dealConfirm), and a value
that the cloud refuses is told to the mapper. When the broker connects, what the applications may have
missed is said again (dealLifeCycle).

Topics, payloads, their order, codes and reasons are KubeEdge's (edge/pkg/devicetwin of 1.23). This is where
they differ; tests/eventbus replays what a real EdgeCore said.

| KubeEdge                                               | here                                            |
|--------------------------------------------------------|-------------------------------------------------|
| answers what is no JSON on `$hw/events/device//..`     | on the topic of the device: somebody hears it   |
| the reason of a syntax error names a Go type           | says what is wrong                              |
| an error often lacks the event_id                      | it has it wherever it could be read             |
| finds the namespace in a topic by its first occurrence | by position: a namespace may be called `device` |
| refuses the types DOUBLE and BYTES, and upper case     | takes all types of a DeviceModel, in any case   |
| values of letters, digits and a few signs              | any UTF-8 of up to 512 bytes                    |
| a desired value of the cloud is told to nobody         | `twin/update/document` and `twin/update/delta`  |
| a value that the cloud refuses is told to nobody       | an error on `twin/update/result`                |
| reports are dropped while the cloud is away            | the newest of each arrives later, with its time |
| `membership/updated` again for all that was there      | with a change only                              |
| `$hw/events/device/+/updated` when a list of members   | never: devices of v1beta1 have no attributes,   |
| changes the attributes of a device                     | and CloudCore sends no such lists               |
| `membership/detail` asks the cloud for the list        | the link says what it holds (protocol.cddl)     |
| `authInfo` and `edgeGroup`: names without a function   | not there                                       |
"""

from micropython import const

from motelet import borrow

MAILBOX_SIZE = const(12)  # of the mailbox "eventbus"
_ANSWERS_MAX = const(3)  # messages that one request may be answered with
_DEVICE = const("$hw/events/device/")
_NEWS_MAX = const(8)  # values that wait to be published together


class Communication:
    """Between DeviceTwin `twin` and EventBus, whose mailbox it makes, for the node `node`."""

    def __init__(self, twin, node):
        self.twin = twin
        self.node = node
        self.records = {}  # id of a device -> {name of a property -> record (devicetwin.twin)}
        self.dropped = 0  # messages that found no room
        self.online = False  # somebody may be listening
        self._out = twin.bus.mailbox("eventbus", MAILBOX_SIZE)
        self._again = []  # ids of the devices that are still to be said again
        self._news = []  # what was read: [(Property, value before, its time)]
        self._held = None  # (topic, payload) of the update that waits for room in the store
        self._tries = 0  # of it
        self._task = self.eventbus = None  # the latter where the internal broker is the only one

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
        held = self._held
        if held:
            self._held = None
            task.wake()
            self.handle(held[0], held[1])
            return False
        if self._news or self._again:
            task.wake()
            borrow("devicetwin.twin").tell(self)
            return False
        return True

    def reported(self, prop, last, last_ms):
        """A mapper in this process has read `prop`, which was `last` before."""
        if self.online or prop.device.id in self.records:
            if len(self._news) >= _NEWS_MAX:
                borrow("devicetwin.twin").tell(self)
            self._news.append((prop, last, last_ms))
            self.drained()

    def handle(self, topic, payload):
        """Act on a message of an application."""
        sync = topic.endswith("/twin/cloud_updated")
        if (sync or topic.endswith("/twin/update")) and topic.startswith(_DEVICE) and topic.count("/") == 6:
            from motelet.devicetwin.update import update

            if update(self, topic[len(_DEVICE) : topic.rfind("/twin/")], payload, sync):
                self._held = (topic, payload)
        else:
            parts = topic.split("/")
            borrow("devicetwin.request").handle(self, parts, "/".join(parts[5:]), payload)
