"""A device joins the node, its spec changes, or it leaves: what applications on MQTT hear of it. Borrowed."""

import json

from micropython import const

from motelet import borrow
from motelet.device import APPLY
from motelet.devicetwin import find
from motelet.devicetwin.twin import delta, derived, document

# The parts of a record that devicetwin.twin describes.
_EXPECTED = const(0)
_ACTUAL = const(4)
_TIME = const(1)
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
    kept = comm.records.get(device.id, {})
    changes = []
    for prop in device.properties:
        known = kept.get(prop.name)
        if known is None:
            last = derived(find(old, prop.name)) if old else None
            if old and prop.desired != (last and last[_EXPECTED]):
                changes.append((prop.name, last, derived(prop), 0))
        elif known[_BASE] != prop.desired:
            changes.append(borrow("devicetwin.update").overrule(comm, device, prop, known))
        elif known[_TYPE] != _DELETED and (known[_EXPECTED] or None) != prop.desired:
            prop.desired = known[_EXPECTED] or None
            prop.flags = prop.flags | APPLY if prop.desired else prop.flags & ~APPLY
    if changes:
        document(comm, device.id, None, changes)
        delta(comm, device)
