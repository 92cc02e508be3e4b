"""What the devices of the node are: specs that come, change and go, and the records of their commands.

Functions of a DeviceTwin, apart from it because a board borrows this module (`motelet.borrow`) for
each object that comes.
"""

from hashlib import sha256

from motelet import borrow
from motelet.device import DIRTY, INFLIGHT, REJECTED, TO_CLOUD, UNUSABLE, Device
from motelet.devicetwin import find
from motelet.kvlog import StoreError
from motelet.messages import DELETE, PUT, READY

DEVICES_MAX = 64
_RECORDS = ".twin/"


def handle(twin, inbox):
    """Act on a message of MetaManager."""
    if inbox.kind == PUT:
        _put(twin, inbox.a, inbox.b)
    elif inbox.kind == DELETE:
        _delete(twin, inbox.a)
    elif inbox.kind == READY:
        twin.ready = True
        _prune(twin)


def _put(twin, resource, content):
    devices = twin.devices
    try:
        device = borrow("devload").load(resource, content, devices.values())
        if device.id not in devices and len(devices) >= DEVICES_MAX:
            raise ValueError("more than %d devices" % DEVICES_MAX)
    except ValueError as error:
        _refuse(twin, resource, str(error))
        return
    old = devices.get(device.id)
    if old is not None:
        _inherit(device, old)
        if old.mapper is not None:
            twin.detach(old)
        if old.flags & UNUSABLE:
            twin.state(device, device.state, "")
    devices[device.id] = device
    _index(twin)
    if twin.local is not None:
        borrow("devicetwin.joining").joined(twin.local, device, old)
    try:
        twin.attach(device)
    except ValueError as error:
        # Without a driver a device may still have a mapper that speaks MQTT.
        twin.log.warning("devicetwin", "no mapper", "device", device.id, "error", error)
        if twin.local is None:
            twin.state(device, "offline", str(error))
    twin.wake()


def _refuse(twin, resource, reason):
    """Say what is wrong with an object; the last good spec of its device, if there is one, stays."""
    twin.log.error("devicetwin", "device refused", "resource", resource, "reason", reason)
    try:
        device = Device(resource)
    except ValueError:
        return  # not even a name to report under
    known = twin.devices.get(device.id)
    if known is not None:
        known.flags &= ~UNUSABLE
        twin.state(known, known.state, reason)
        known.flags |= UNUSABLE
    elif len(twin.devices) < DEVICES_MAX:
        # An empty device carries the reason to the cloud.
        twin.devices[device.id] = device
        _index(twin)
        twin.state(device, "offline", reason)


def _inherit(device, old):
    """Keep what is known of a device whose spec changed, where property name and type stay."""
    device.state = old.state
    device.reason = old.reason
    device.time_ms = old.time_ms
    device.ref = old.ref
    # A mapper that reaches the device reads it all again, and what it reads is reported.
    read = old.mapper is not None and old.state == "online"
    if device.flags & TO_CLOUD and old.state != "unknown":
        device.flags |= DIRTY
    for was in old.properties:
        prop = find(device, was.name)
        if prop is None or prop.type != was.type:
            continue
        prop.value = was.value
        prop.time_ms = was.time_ms
        prop.ref = was.ref
        if was.observed is not None:  # an attribute costs memory
            prop.observed = was.observed
        if prop.flags & TO_CLOUD and was.value is not None:
            if not read or was.flags & (DIRTY | INFLIGHT | REJECTED):
                prop.flags |= DIRTY


def _delete(twin, resource):
    parts = resource.split("/")
    device = twin.devices.pop(parts[0] + "/" + parts[-1], None)
    if device is None:
        return
    if device.mapper is not None:
        twin.detach(device)
    _index(twin)
    for key in list(twin.store.keys(_RECORDS + device.id + "/")):
        twin.store.delete(key)
    if twin.local is not None:
        borrow("devicetwin.joining").left(twin.local, device)


def _prune(twin):
    """Drop the records of devices that went while the power did."""
    for key in list(twin.store.keys(_RECORDS)):
        parts = key.split("/")
        if parts[1] + "/" + parts[2] not in twin.devices:
            twin.store.delete(key)


def _index(twin):
    items = []
    for device in twin.devices.values():
        items.append(device)
        items.extend(device.properties)
    twin.items = items


def _command(prop):
    """-> bytes that differ when the command does: the desired value and its metadata."""
    digest = sha256(prop.desired.encode())
    for key in sorted(prop.metadata):
        digest.update(("\0%s\0%s" % (key, prop.metadata[key])).encode())
    return digest.digest()[:8]


def once(twin, prop):
    """Make the record that DeviceTwin.once promises."""
    key = _RECORDS + prop.device.id + "/" + prop.name
    command = _command(prop)
    if twin.store.get(key) == command:
        return False
    try:
        twin.store.put(key, command)
    except StoreError as error:
        twin.log.error("devicetwin", "command not written", "property", key, "error", error)
        return None
    return True
