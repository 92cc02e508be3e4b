"""A device joins the node, its spec changes, or it leaves: what applications on MQTT hear of it. Borrowed."""

import json

from micropython import const

from motelet import borrow
from motelet.device import APPLY
from motelet.devicetwin import find
from motelet.kvlog import StoreError

# The parts of a record that devicetwin.twin describes.
_EXPECTED = const(0)
_ACTUAL = const(4)
_TIME = const(1)
_CLOUD = const(2)
_TYPE = const(8)
_BASE = const(10)
_DELETED = const("deleted")


def joined(comm, device, old):
    """The spec of a device came (`old` None) or changed; before its mapper gets it."""
    if old is None:
        _restore(comm, device)
        if comm.twin.ready:
            borrow("devicetwin.membership").updated(comm, device, True)
    _merge(comm, device, old)


def left(comm, device):
    comm.records.pop(device.id, None)
    borrow("devicetwin.membership").updated(comm, device, False)


def _restore(comm, device):
    """Read what was told of a device from the store; it may not have reached the cloud."""
    prefix = ".twin/%s/=" % device.id
    for key in comm.twin.store.keys(prefix):
        name = key[len(prefix) :]
        if not name:
            borrow("devicetwin.device").restore(comm, device)
            continue
        known = json.loads(comm.twin.store.get(key))
        comm.records.setdefault(device.id, {})[name] = known
        prop = find(device, name)
        if prop is not None and known[_ACTUAL] is not None:
            prop.value = known[_ACTUAL]
            prop.time_ms = known[_ACTUAL + _TIME]
            comm.twin.mark(prop)


def _merge(comm, device, old):
    """A spec came: bring together what it asks for and what applications asked for. Publish what is new."""
    twin = borrow("devicetwin.twin")
    kept = comm.records.get(device.id, {})
    changes = []
    for prop in device.properties:
        known = kept.get(prop.name)
        if known is None:
            last = twin.derived(find(old, prop.name)) if old else None
            if old and prop.desired != (last and last[_EXPECTED]):
                changes.append((prop.name, last, twin.derived(prop), 0))
        elif known[_BASE] != prop.desired:
            changes.append(_overrule(comm, device, prop, known))
        elif known[_TYPE] != _DELETED and (known[_EXPECTED] or None) != prop.desired:
            prop.desired = known[_EXPECTED] or None
            prop.flags = prop.flags | APPLY if prop.desired else prop.flags & ~APPLY
    if changes:
        twin.document(comm, device.id, None, changes)
        twin.delta(comm, device)


def _overrule(comm, device, prop, known):
    """The Device has another desired value; it takes the place of what was expected. -> the change"""
    new = known[:]
    new[_EXPECTED] = new[_BASE] = prop.desired
    new[_EXPECTED + _TIME] = comm.twin.epoch_ms()
    new[_EXPECTED + _CLOUD] += 1
    try:
        comm.twin.store.put(".twin/%s/=%s" % (device.id, prop.name), json.dumps(new).encode())
    except StoreError as bad:
        comm.twin.log.error("devicetwin", "twin not kept", "device", device.id, "error", bad)
    else:
        comm.records[device.id][prop.name] = new
    return prop.name, known, new, 0
