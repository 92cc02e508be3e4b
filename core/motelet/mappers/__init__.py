"""Mappers: what keeps the twin of a device and the device itself the same.

One Mapper serves one bus (a TCP endpoint, a serial line) and all the devices on it, as a single task that
lives as long as there are any: it takes the property that is due first, has the driver read it, and goes on
when the answer, or none, has come. A poll whose value did not change allocates nothing.

The rules, the same for every driver
- A property is read every collectCycle. What a busy bus makes it miss is left out, not made up for.
- A value that changed is reported at once, then at most once per reportCycle: the newest one is reported
  when the cycle ends. It is reported before that when it is what was desired, or when the device falls
  silent. A property with reportToCloud false is reported like any other; the twin keeps it from the cloud.
- A desired value is applied after loading, after the device was offline, and when its text changes
  (`apply`): the property is read first and written only if what the desired value encodes to differs from
  what was read. After the write it is read again; only what reads back as desired was applied. A device
  that then holds something else is not written again: that would fight a panel, or a clamp, for ever. It
  is reported as unmet, and as applied should the device come round by itself.
- A momentary property is a command: compared with nothing and written at most once, after `twin.once` has
  said that this is on record. If the answer to that one write is lost, it was written once or not at all.
- A value that may not be written (accessMode, minimum, maximum, type, the size of the register), and a read
  or a write that the device refuses, make it "online" with the reason; its other properties go on. A write
  is not repeated, unless the device says that it could not do it just then: once each collectCycle.
- A device that does not answer is tried again after 1 s, 2 s, 4 s .. 60 s, each device by itself while the
  others on its bus go on. After three times in a row it is "offline" with the reason; a bus that
  cannot be opened counts against every device on it. The first answer makes it "online", and the desired
  values are applied again.

The driver of a bus
    Driver(port, loop, key)
    task                       set before anything else: the task to be woken by the bus
    begin(prop, data)          begin to write data, which `encode` made, or to read if it is None; a bus that
                               is not open is opened
    step() -> result           go on. None: not done, call again after wait() ms or when woken. Called with
                               nothing begun it takes what comes uninvited. The results are SAME (or written),
                               CHANGED (what was read is new), REFUSED (the device is there and says no),
                               SILENT (the device is not there), DOWN (nor is the bus)
    wait() -> ms
    value(prop) -> value       what was read last means; ValueError if it means nothing
    close()                    at once, idempotent; what was begun is forgotten
    seldom()                   what is borrowed of it, a module:
        encode(prop, value) -> bytes  what would be read; ValueError if it cannot be
        held(prop, data) -> bool      whether that is what was read last
        reason(driver) -> text        why the last result was REFUSED, SILENT or DOWN
        passing(driver) -> bool       whether what was REFUSED may be taken another time; never, without it

There are modbus, i2c, serial (lines of text), gpio and onewire; a user's own stands in the gateway's
configuration under `drivers`. What it takes for a device to have one is in `<protocolName>load`, a module
beside the driver's:
    bus(device, keys) -> key   what tells its bus from others, hashable; ValueError for a malformed config,
                               and for one that cannot be while the buses `keys` are in use
    driver(key)                the class of its Driver
    attach(driver, device, devices)  check device.config and the visitor of each prop.spec and replace them by
                               what is compact, shared with the `devices` that are there already; ValueError

What a Mapper seldom does is in `attach` and in `mappers.seldom`, which are borrowed as well.

The twin is called by reported(prop, value), applied(prop), once(prop) -> True (on record now: write), False
(was on record: do not) or None (ask again), and state(device, state, reason), which sets device.state and
device.reason.
"""

from micropython import const

from motelet import borrow
from motelet.device import APPLY, UNUSABLE

SAME = const(0)
CHANGED = const(1)
REFUSED = const(2)
SILENT = const(3)
DOWN = const(4)

# Property.flags from 256 to 2048; 4096 is the driver's
_HELD = const(256)  # raw is newer than value: the reportCycle has not ended
_WRITTEN = const(512)  # the desired value was written and has not read back yet
_UNREAD = const(1024)  # the device refuses to let it be read
_UNMET = const(2048)  # the desired value cannot be applied

_FAILURES = const(1792)  # Device.flags: how often in a row it did not answer, up to seven times


class Mapper:
    """Polls the devices of one bus. `driver` is the bus, `twin` is told what happens.

    `motelet.attach` gives it devices and takes them back: the task, None at first, is there while it has any.
    """

    def __init__(self, loop, log, twin, driver):
        self.devices = []
        self.driver = driver
        self.task = None
        self.loop = loop
        self.clock = loop.clock
        self.log = log
        self.twin = twin

    def apply(self, prop):
        """The desired text of `prop` has changed."""
        prop.flags = (prop.flags | APPLY) & ~_WRITTEN
        prop.due = self.clock.ticks_ms()
        self.task.wake()

    def run(self, task):
        """The task of the bus."""
        driver = self.driver
        driver.close()  # a run that failed may have left it open, and what it was to write unwritten
        for device in self.devices:
            for prop in device.properties:
                if prop.desired:
                    prop.flags |= APPLY
        driver.task = task
        data = None
        while self.devices:
            if not data:
                prop = self._next()
                wait = self.clock.ticks_diff(prop.due, self.clock.ticks_ms()) if prop else 1
                if wait > 0:
                    if prop:
                        task.sleep(wait)
                    yield
                    driver.step()
                    continue
            driver.begin(prop, data)
            result = driver.step()
            while result is None:
                task.sleep(driver.wait())
                yield
                result = driver.step()
            data = self._done(prop, result, data)
        driver.close()
        self.task = None

    def _next(self):
        """The property that is due first, None if there is none to be read."""
        first = None
        for device in self.devices:
            for prop in device.properties:
                if prop.spec.visitor and (not first or self.clock.ticks_diff(prop.due, first.due) < 0):
                    first = prop
        return first

    def _done(self, prop, result, data):
        """Act on the result of a read (data is None) or a write; returns what is to be written now."""
        device = prop.device
        if device.mapper is not self:
            return None
        if result >= SILENT:
            borrow("mappers.seldom").failed(self, prop, result, data)
            return None
        if result == CHANGED:
            prop.flags |= _HELD  # at once: the driver says so once, and what follows may fail
        if device.flags & _FAILURES or device.reason or device.state != "online":
            self._answered(device)
        if data:
            borrow("mappers.seldom").written(self, prop, result)
            return None
        clock = self.clock
        at = prop.due
        prop.due = clock.ticks_add(at, prop.spec.collect_ms)
        now = clock.ticks_ms()
        if clock.ticks_diff(now, prop.due) >= 0:
            at = now
            prop.due = clock.ticks_add(at, prop.spec.collect_ms)
        flags = prop.flags
        if result == REFUSED:
            if not flags & _UNREAD:
                borrow("mappers.seldom").unread(self, prop)
            return None
        if not flags & _HELD:
            prop.flags = flags & ~_UNREAD
        elif clock.ticks_diff(at, prop.report_due) >= 0:
            prop.report_due = clock.ticks_add(at, prop.spec.report_ms)
            self.report(prop)
        elif clock.ticks_diff(prop.report_due, prop.due) < 0:
            prop.due = prop.report_due  # the end of the cycle is not to be missed
        if flags & ~prop.flags & _UNREAD:
            self._answered(device)  # what was wrong with it may have been this
        if prop.desired and (flags & APPLY or flags & _WRITTEN and (result == CHANGED or not flags & _UNMET)):
            return borrow("mappers.seldom").settle(self, prop)
        return None

    def _answered(self, device):
        """The device is there: say so if that, or what was wrong with it, is news."""
        device.flags &= ~_FAILURES
        if device.state == "online":
            if not device.reason or device.flags & UNUSABLE:
                return
            for prop in device.properties:
                if prop.flags & (_UNREAD | _UNMET):
                    return
        borrow("mappers.seldom").online(self, device)

    def report(self, prop):
        """Tell the twin what was read last."""
        try:
            value = self.driver.value(prop)
        except ValueError as error:
            if not prop.flags & _UNREAD:
                borrow("mappers.seldom").fault(self, prop, _UNREAD, str(error))
        else:
            self.twin.reported(prop, value)
            prop.flags &= ~(_HELD | _UNREAD)
