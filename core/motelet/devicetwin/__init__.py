"""DeviceTwin: what each device of the node is asked to be, and what it said it is.

It owns the Devices. MetaManager brings their specs, mappers bring values, EdgeHub takes the newest
value of each property when there is a link. Nothing is queued: a property is marked, and a mark
costs nothing however long the link is away. The half that speaks MQTT (`comm` and its submodules)
is loaded by EventBus only; how a device comes and goes is `spec`, borrowed.

Reports: a value that changes is DIRTY until it is sent and INFLIGHT until it is acknowledged; what
changes meanwhile is DIRTY as well and goes next. A lost link makes INFLIGHT DIRTY again. What the cloud
refuses is REJECTED until the link is in step the next time, or the cloud has changed its mind. When a spec
comes all is reported anew: the object may be another one of the same name.

Desired values are marked APPLY, and mappers do the writing: read first, write if different. That is
done at boot, when the spec of the device changes (a new desired value is such a change, a corrected
register as well), and when the device comes back from being offline (mappers see to that). A
property that is MOMENTARY is different: its desired value is a command, written at most once (`once`).
"""

from micropython import const

from motelet import borrow
from motelet.device import APPLY, DIRTY, INFLIGHT, REJECTED, TO_CLOUD, UNUSABLE
from motelet.messages import ARRIVED

_MAILBOX_SIZE = const(2)  # each may be a whole object, which a board keeps in RAM until it is its turn
_TRIES = const(3)


class DeviceTwin:
    """The devices of this node.

    Args: `bus` gets a mailbox "devicetwin"; `store` a mounted kvlog.Store; `port` for its
    `epoch_ms` and `random`; `attach(device)` gives a device to the mapper of its bus, ValueError when
    it cannot be used; `detach(device)` takes it back.

    `hub`, the task of EdgeHub or None, is woken when there is something for the cloud. `local`,
    None until `speak`, is told what applications on MQTT may hear of.
    """

    def __init__(self, loop, bus, store, log, port, attach, detach):
        self.bus = bus
        self.store = store
        self.log = log
        self.epoch_ms = port.epoch_ms
        self.random = port.random
        self.attach = attach
        self.detach = detach
        self._inbox = bus.mailbox("devicetwin", _MAILBOX_SIZE)
        self.devices = {}  # id -> Device
        self.items = []  # every Device, and every Property after its Device
        self._at = 0  # where in items the search for a report goes on
        self._tries = 0  # of the message that was taken last and is not handled yet
        self._marked = False  # false: certainly nothing is DIRTY
        self.hub = self.local = None
        self.ready = False  # everything that flash held has arrived

    def speak(self, node):
        """Load the half that speaks MQTT, for EventBus of the node `node`. -> devicetwin.comm.Communication

        It makes the mailbox "eventbus", through which it publishes.
        """
        from motelet.devicetwin.comm import Communication

        self.local = Communication(self, node)
        return self.local

    def run(self, task):
        """The task: one message of the mailbox at a turn."""
        inbox = self._inbox
        inbox.task = task
        while True:
            local = self.local
            if local is not None and not local.ready(task):
                yield  # its answers have no room; its mailbox wakes this task
                continue
            if self._tries or inbox.take():
                task.wake()
                # Without memory for it this task fails; started again it tries the same message, twice.
                self._tries = (self._tries + 1) % _TRIES
                if inbox.kind != ARRIVED:
                    borrow("devicetwin.spec").handle(self, inbox)
                    self._marked = True
                elif local is not None:
                    local.handle(inbox.a, inbox.b)
                self._tries = 0
            yield

    # -- for mappers --------------------------------------------------------------------------

    def reported(self, prop, value):
        """The device has `value` (int, float, bool, str or bytes): it changed, or was read first."""
        last = prop.value
        last_ms = prop.time_ms
        prop.value = value
        prop.time_ms = self.epoch_ms()
        self.mark(prop)
        if self.local is not None:
            self.local.reported(prop, last, last_ms)

    def applied(self, prop):
        """The desired value is in the device now (or was, when read)."""
        prop.flags &= ~APPLY
        if prop.observed != prop.desired:
            prop.observed = prop.desired
            if prop.value is not None:  # otherwise the first report takes it along
                self.mark(prop)

    def state(self, device, state, reason=""):
        """The device is `state` ("online", "offline", "unknown") because of `reason`; False: no news.

        What is wrong with its spec is a reason that stays until there is another spec.
        """
        if device.flags & UNUSABLE:
            reason = device.reason
        if device.state == state and device.reason == reason:
            return False
        device.state = state
        device.reason = reason
        device.time_ms = self.epoch_ms()
        self.mark(device)
        if self.local is not None and self.local.online:
            borrow("devicetwin.device").stated(self.local, device)
        return True

    def once(self, prop):
        """-> True when the desired value of a MOMENTARY property may be written now, the only time.

        False when it was written, or may have been: the record is durable before the write. None
        when no record can be made; then nothing may be written and the mapper asks again later.
        """
        return borrow("devicetwin.spec").once(self, prop)

    # -- for EdgeHub --------------------------------------------------------------------------

    def mark(self, item):
        """A Property or Device has something new for the cloud."""
        if item.flags & TO_CLOUD:
            item.flags |= DIRTY
            self._marked = True
            self.wake()

    def wake(self):
        if self.hub is not None:
            self.hub.wake()

    def next_report(self):
        """-> a Property or Device to be sent, in turn, or None. Allocates nothing."""
        items = self.items
        count = len(items)
        if not self._marked or not count:
            return None
        for _ in range(count):
            at = self._at % count
            self._at = at + 1
            item = items[at]
            if item.flags & (DIRTY | INFLIGHT) == DIRTY:
                return item
        self._marked = False
        return None

    def sent(self, item):
        """What `next_report` gave is on its way as it is now."""
        item.flags = item.flags & ~(DIRTY | REJECTED) | INFLIGHT

    def acked(self, item):
        """The cloud holds what was sent. A newer value, if there is one, is next."""
        item.flags &= ~INFLIGHT
        if item.flags & DIRTY:
            self._marked = True

    def refused(self, item, code, reason):
        """The cloud will not have it, and the mapper is told. It is sent again after `in_step`."""
        self.acked(item)
        item.flags |= REJECTED
        if self.local is not None:
            borrow("devicetwin.payload").refused(self.local, item, code, reason)

    def link_lost(self):
        """What was under way may not have arrived; numbers given on that link mean nothing now."""
        for item in self.items:
            item.ref = 0
            if item.flags & INFLIGHT:
                item.flags = item.flags & ~INFLIGHT | DIRTY
                self._marked = True

    def in_step(self):
        """The cloud and the node agree on what there is: what was refused may be taken by now."""
        for item in self.items:
            if item.flags & REJECTED:
                item.flags |= DIRTY
                self._marked = True


def find(device, name):
    """-> the Property `name` of `device`, or None."""
    for prop in device.properties:
        if prop.name == name:
            return prop
    return None
