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
  or a write that the device refuses, make it "online" with the reason; its other properties go on.
- A device that does not answer is tried again after 1 s, 2 s, 4 s .. 60 s, each device by itself while the
  others on its bus go on. After three times in a row it is "offline" with the reason; a bus that
  cannot be opened counts against every device on it. The first answer makes it "online", and the desired
  values are applied again.

The driver of a bus
    Driver.bus(device) -> key  what tells its bus from others, hashable; ValueError for a malformed config
    Driver(port, loop, key)
    attach(device, devices)    check device.config and each prop.visitor and replace them by what is compact,
                               shared with the `devices` that are there already; ValueError
    task                       set before anything else: the task to be woken by the bus
    begin(prop, data)          begin to write data, which `encode` made, or to read if it is None; a bus that
                               is not open is opened
    step() -> result           go on. None: not done, call again after wait() ms or when woken. Called with
                               nothing begun it takes what comes uninvited. The results are SAME (or written),
                               CHANGED (prop.raw is new), REFUSED (the device is there and says no),
                               SILENT (the device is not there), DOWN (nor is the bus)
    wait() -> ms
    value(prop) -> value       what prop.raw means; ValueError if it means nothing
    encode(prop, value) -> bytes  what prop.raw would be; ValueError if it cannot be
    close()                    at once, idempotent; what was begun is forgotten
    health                     text: why the last result was REFUSED, SILENT or DOWN, else ""

The twin is called by reported(prop, value), applied(prop), once(prop) -> True (on record now: write), False
(was on record: do not) or None (ask again), and state(device, state, reason), which sets device.state and
device.reason.
"""

from micropython import const

from motelet.device import APPLY, MOMENTARY, convert

SAME = const(0)
CHANGED = const(1)
REFUSED = const(2)
SILENT = const(3)
DOWN = const(4)

_FAILURES_OFFLINE = const(3)

# Property.flags from 256 up
_HELD = const(256)  # raw is newer than value: the reportCycle has not ended
_WRITTEN = const(512)  # the desired value was written and has not read back yet
_UNREAD = const(1024)  # the device refuses to let it be read
_UNMET = const(2048)  # the desired value cannot be applied

_BACKOFF_MS = const(1000)
_BACKOFF_DOUBLINGS = const(6)
_BACKOFF_MAX_MS = const(60000)
_ASK_AGAIN_MS = const(50)  # until a command is on record


class Mapper:
    """Polls the devices of one bus. `driver` is the bus, `twin` is told what happens."""

    def __init__(self, loop, log, twin, driver):
        self.devices = []
        self.driver = driver
        self.task = None
        self._loop = loop
        self._clock = loop.clock
        self._log = log
        self._twin = twin

    def add(self, device):
        """Serve `device`, which was loaded for this, from now on.

        ValueError, naming device, property and field, if its config is malformed.
        """
        self.driver.attach(device, self.devices)
        for prop in device.properties:
            prop.due = prop.report_due = self._clock.ticks_ms()
        device.mapper = self
        self.devices.append(device)
        if self.task is None:
            self.task = self._loop.spawn("mapper", self.run)
        self.task.wake()

    def remove(self, device):
        """Leave `device` alone. The bus is closed when no other is added before the task runs."""
        device.mapper = None
        self.devices.remove(device)
        self.task.wake()

    def apply(self, prop):
        """The desired text of `prop` has changed."""
        prop.flags = (prop.flags | APPLY) & ~_WRITTEN
        prop.due = self._clock.ticks_ms()
        self.task.wake()

    def run(self, task):
        """The task of the bus."""
        driver = self.driver
        driver.close()  # a run that failed may have left it open
        driver.task = task
        data = None
        while self.devices:
            if not data:
                prop = self._next()
                wait = self._clock.ticks_diff(prop.due, self._clock.ticks_ms()) if prop else 1
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
                if prop.visitor and (not first or self._clock.ticks_diff(prop.due, first.due) < 0):
                    first = prop
        return first

    def _done(self, prop, result, data):
        """Act on the result of a read (data is None) or a write; returns what is to be written now."""
        device = prop.device
        if device.mapper is not self:
            return None
        if result >= SILENT:
            if data:
                prop.flags |= APPLY  # reading will tell; for a command `once` does
            for other in self.devices if result == DOWN else (device,):
                self._failed(other)
            return None
        self._answered(device)
        if data:
            if result == REFUSED:
                text = "%s: desired %s: %s" % (prop.name, prop.desired, self.driver.health)
                self._fault(prop, _UNMET, text)
            elif not prop.flags & MOMENTARY:
                prop.flags = (prop.flags | _WRITTEN) & ~_UNMET
            elif not prop.flags & APPLY:  # else it is another command by now
                self._twin.applied(prop)
            prop.due = self._clock.ticks_ms()
            return None
        now = self._clock.ticks_ms()
        at = prop.due
        if self._clock.ticks_diff(now, at) >= prop.collect_ms:
            at = now
        prop.due = self._clock.ticks_add(at, prop.collect_ms)
        if result == REFUSED:
            self._fault(prop, _UNREAD, prop.name + ": " + self.driver.health)
            return None
        prop.flags = flags = prop.flags | (_HELD if result == CHANGED else 0)
        if not flags & _HELD:
            prop.flags = flags & ~_UNREAD
        elif self._clock.ticks_diff(at, prop.report_due) >= 0:
            prop.report_due = self._clock.ticks_add(at, prop.report_ms)
            self._report(prop)
        elif self._clock.ticks_diff(prop.report_due, prop.due) < 0:
            prop.due = prop.report_due  # the end of the cycle is not to be missed
        if prop.desired and (flags & APPLY or flags & _WRITTEN and (result == CHANGED or not flags & _UNMET)):
            return self._settle(prop)
        return None

    def _report(self, prop):
        try:
            value = self.driver.value(prop)
        except ValueError as error:
            self._fault(prop, _UNREAD, str(error))
        else:
            prop.flags &= ~(_HELD | _UNREAD)
            self._twin.reported(prop, value)

    def _settle(self, prop):
        """Compare the device with the desired value; returns what has to be written, None if nothing has."""
        flags = prop.flags
        prop.flags = flags & ~(APPLY | _WRITTEN)
        try:
            data = self.driver.encode(prop, convert(prop))
        except ValueError as error:
            self._fault(prop, _UNMET, str(error))
            return None
        if flags & MOMENTARY:
            go = self._twin.once(prop)
            if go is None:
                prop.flags = flags
                prop.due = self._clock.ticks_add(self._clock.ticks_ms(), _ASK_AGAIN_MS)
            return data if go else None
        if data == prop.raw:
            prop.flags &= ~_UNMET
            if flags & _HELD:
                self._report(prop)
            self._twin.applied(prop)
        elif flags & APPLY:
            return data
        else:
            prop.flags |= _WRITTEN
            self._fault(prop, _UNMET, "%s: desired %s does not read back" % (prop.name, prop.desired))
        return None

    def _answered(self, device):
        """The device is there: say so if that, or what was wrong with it, is news."""
        device.failures = 0
        if device.state == "online" and not device.reason:
            return
        for prop in device.properties:
            if device.state == "offline":
                prop.flags &= ~(_UNREAD | _UNMET | _WRITTEN)
                if prop.desired:
                    prop.flags |= APPLY
            elif prop.flags & (_UNREAD | _UNMET):
                return
        self._log.info("mapper", "device is online", "device", device.id)
        self._twin.state(device, "online", "")

    def _failed(self, device):
        """The device has not answered."""
        error = self.driver.health
        self._log.debug("mapper", "no answer", "device", device.id, "reason", error)
        delay = min(_BACKOFF_MS << min(device.failures, _BACKOFF_DOUBLINGS), _BACKOFF_MAX_MS)
        device.failures += 1
        due = self._clock.ticks_add(self._clock.ticks_ms(), delay)
        for prop in device.properties:
            prop.due = due
            if prop.flags & _HELD:
                self._report(prop)
        if device.failures >= _FAILURES_OFFLINE and device.state != "offline":
            self._log.warning("mapper", "device is offline", "device", device.id, "reason", error)
            self._twin.state(device, "offline", error)

    def _fault(self, prop, flag, reason):
        """The device is there and one property is not as it should be: said once."""
        if not prop.flags & flag:
            prop.flags |= flag
            self._log.warning("mapper", reason, "device", prop.device.id, "property", prop.name)
            self._twin.state(prop.device, "online", reason)
