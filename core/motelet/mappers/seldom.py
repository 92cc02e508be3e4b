"""What a Mapper does seldom: write, and tell that something is wrong or well again. Borrowed.

The functions are those of a Mapper, the rules are in `motelet.mappers`.
"""

from micropython import const

from motelet import borrow
from motelet.device import APPLY, MOMENTARY
from motelet.mappers import DOWN, REFUSED

# As in motelet.mappers
_HELD = const(256)
_WRITTEN = const(512)
_UNREAD = const(1024)
_UNMET = const(2048)
_FAILURES_SHIFT = const(8)
_FAILURES_MAX = const(7)

_FAILURES_OFFLINE = const(3)
_BACKOFF_MS = const(1000)
_BACKOFF_DOUBLINGS = const(6)
_BACKOFF_MAX_MS = const(60000)
_ASK_AGAIN_MS = const(50)  # until a command is on record


def settle(mapper, prop):
    """Compare the device with the desired value; returns what has to be written, None if nothing has."""
    flags = prop.flags
    prop.flags = flags & ~(APPLY | _WRITTEN)
    codec = mapper.driver.seldom()
    try:
        data = codec.encode(prop, borrow("desired").convert(prop))
    except ValueError as error:
        fault(mapper, prop, _UNMET, str(error))
        return None
    if flags & MOMENTARY:
        go = mapper.twin.once(prop)
        if go is None:
            prop.flags = flags
            prop.due = mapper.clock.ticks_add(mapper.clock.ticks_ms(), _ASK_AGAIN_MS)
        return data if go else None
    if codec.held(prop, data):
        prop.flags &= ~_UNMET
        if flags & _HELD:
            mapper.report(prop)
        mapper.twin.applied(prop)
        if flags & _UNMET:
            mapper._answered(prop.device)
    elif flags & APPLY:
        return data
    else:
        prop.flags |= _WRITTEN
        fault(mapper, prop, _UNMET, "%s: desired %s does not read back" % (prop.name, prop.desired))
    return None


def written(mapper, prop, result):
    """The device has answered to what was written."""
    if result == REFUSED:
        codec = mapper.driver.seldom()
        reason = codec.reason(mapper.driver)
        fault(mapper, prop, _UNMET, "%s: desired %s: %s" % (prop.name, prop.desired, reason))
        if hasattr(codec, "passing") and codec.passing(mapper.driver):
            prop.flags |= APPLY  # of a command `once` knows
            return
    elif not prop.flags & MOMENTARY:
        prop.flags = (prop.flags | _WRITTEN) & ~_UNMET
    elif not prop.flags & APPLY:  # else it is another command by now
        mapper.twin.applied(prop)
    prop.due = mapper.clock.ticks_ms()


def unread(mapper, prop):
    """The device refuses to let `prop` be read."""
    fault(mapper, prop, _UNREAD, prop.name + ": " + mapper.driver.seldom().reason(mapper.driver))


def fault(mapper, prop, flag, reason):
    """The device is there and one property is not as it should be: said once."""
    if not prop.flags & flag:
        prop.flags |= flag
        mapper.log.warning("mapper", reason, "device", prop.device.id, "property", prop.name)
        mapper.twin.state(prop.device, "online", reason)


def online(mapper, device):
    """The device is there, and nothing is wrong with it that is known."""
    for prop in device.properties:
        if device.state == "offline":
            prop.flags &= ~(_UNREAD | _UNMET | _WRITTEN)
            if prop.desired:
                prop.flags |= APPLY
        elif prop.flags & (_UNREAD | _UNMET):
            return
    mapper.log.info("mapper", "device is online", "device", device.id)
    mapper.twin.state(device, "online", "")


def failed(mapper, prop, result, data):
    """The device of `prop` has not answered, or, DOWN, the bus is not there. data: what was to be written."""
    if data:
        prop.flags |= APPLY  # reading will tell; for a command `once` does
    reason = mapper.driver.seldom().reason(mapper.driver)
    for device in mapper.devices if result == DOWN else (prop.device,):
        _failed(mapper, device, reason)


def _failed(mapper, device, reason):
    mapper.log.debug("mapper", "no answer", "device", device.id, "reason", reason)
    failures = device.flags >> _FAILURES_SHIFT & _FAILURES_MAX
    delay = min(_BACKOFF_MS << min(failures, _BACKOFF_DOUBLINGS), _BACKOFF_MAX_MS)
    if failures < _FAILURES_MAX:
        failures += 1
        device.flags += 1 << _FAILURES_SHIFT
    due = mapper.clock.ticks_add(mapper.clock.ticks_ms(), delay)
    for prop in device.properties:
        prop.due = due
        if prop.flags & _HELD:
            mapper.report(prop)
    if failures >= _FAILURES_OFFLINE and device.state != "offline":
        mapper.log.warning("mapper", "device is offline", "device", device.id, "reason", reason)
        mapper.twin.state(device, "offline", reason)
