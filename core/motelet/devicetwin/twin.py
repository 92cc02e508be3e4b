"""Twin: expected and actual values of properties, as applications on MQTT see them (KubeEdge's TwinModule).

Here is what a board needs whose devices have their mappers in this process: their values are
published, and asked for (dealTwinGet). Telling values is `devicetwin.update`, loaded with the first
application that does.

A record is a list, small in RAM and as JSON in the store: see the indices. What an application has
told is kept as a record; the twin of any other property is derived from the Property.
"""

import json

from micropython import const

from motelet.device import APPLY
from motelet.devicetwin import find
from motelet.devicetwin.payload import DEVICE_PREFIX, parse, text

# A record: expected and actual follow each other as value, time, cloud version, edge version.
_EXPECTED = const(0)
_ACTUAL = const(4)
_TIME = const(1)
_EDGE = const(3)
_TYPE = const(8)
_OPTIONAL = const(9)
_BASE = const(10)  # the desired value of the Device when `expected` was set
DELETED = "deleted"


# -- payloads ---------------------------------------------------------------------------------


def view(out, record, expected=True, actual=True):
    """Write the JSON of a record to `out`, null for none."""
    if record is None or record[_TYPE] == DELETED:
        out.write("null")
        return
    out.write("{")
    if expected and record[_EXPECTED] is not None:
        _value(out, '"expected":{"value":', record, _EXPECTED)
    if actual and record[_ACTUAL] is not None:
        _value(out, '"actual":{"value":', record, _ACTUAL)
    out.write('"optional":true,' if record[_OPTIONAL] else '"optional":false,')
    out.write('"metadata":{"type":')
    json.dump(record[_TYPE], out)
    out.write("}}")


def _value(out, head, record, at):
    out.write(head)
    json.dump(record[at], out)
    if record[at + _TIME] is not None:
        out.write(',"metadata":{"timestamp":')
        out.write(str(record[at + _TIME]))
        out.write("}")
    out.write("},")


def name_to(out, name, first):
    """Write the key of an entry of a JSON object."""
    if not first:
        out.write(",")
    json.dump(name, out)
    out.write(":")


def document(comm, device_id, event_id, changes):
    """Publish what changed: [(name, record before, record now, fields)]."""
    if not comm.online:
        return
    out = comm.begin(event_id)
    out.write('"twin":{')
    for change in changes:
        name_to(out, change[0], change is changes[0])
        out.write('{"last":')
        view(out, change[1])
        out.write(',"current":')
        view(out, change[2])
        out.write("}")
    out.write("}")
    comm.end(out, DEVICE_PREFIX + device_id + "/twin/update/document")


def delta(comm, device):
    """Publish where the device is not as expected, if so."""
    if not comm.online:
        return
    wanted = [pair for pair in _records(comm, device) if pair[1][_EXPECTED] and pair[1][_TYPE] != DELETED]
    differing = [pair for pair in wanted if pair[1][_EXPECTED] != pair[1][_ACTUAL]]
    if not differing:
        return
    out = comm.begin(None)
    listed(out, wanted)
    out.write(',"delta":{')
    for pair in differing:
        name_to(out, pair[0], pair is differing[0])
        json.dump(pair[1][_EXPECTED], out)
    out.write("}")
    comm.end(out, DEVICE_PREFIX + device.id + "/twin/update/delta")


def listed(out, pairs):
    """Write "twin": {..} with [(name, record)]."""
    out.write('"twin":{')
    for pair in pairs:
        name_to(out, pair[0], pair is pairs[0])
        view(out, pair[1])
    out.write("}")


# -- records ----------------------------------------------------------------------------------


def _derived(prop):
    """-> the record a Property amounts to that no application has touched, None without any value."""
    if prop is None or prop.value is None and prop.desired is None:
        return None
    value = None if prop.value is None else text(prop.value)
    return [prop.desired, None, 0, 0, value, prop.time_ms, 0, 0, prop.type.lower(), True, prop.desired]


def record(comm, device, name):
    """-> the record of a property, None without one."""
    return comm.records.get(device.id, {}).get(name) or _derived(find(device, name))


def _records(comm, device):
    """-> [(name, record)] of the device, sorted by name."""
    kept = comm.records.get(device.id, {})
    pairs = list(kept.items())
    for prop in device.properties:
        if prop.name not in kept:
            derived = _derived(prop)
            if derived is not None:
                pairs.append((prop.name, derived))
    return sorted(pairs)


def merge(comm, device, old):
    """A spec came: bring together what it asks for and what applications asked for. Publish what is new."""
    kept = comm.records.get(device.id, {})
    changes = []
    for prop in device.properties:
        known = kept.get(prop.name)
        if known is None:
            last = _derived(find(old, prop.name)) if old else None
            if old and prop.desired != (last and last[_EXPECTED]):
                changes.append((prop.name, last, _derived(prop), 0))
        elif known[_BASE] != prop.desired:
            from motelet.devicetwin.update import overrule

            changes.append(overrule(comm, device, prop, known))
        elif known[_TYPE] != DELETED and (known[_EXPECTED] or None) != prop.desired:
            prop.desired = known[_EXPECTED] or None
            prop.flags = prop.flags | APPLY if prop.desired else prop.flags & ~APPLY
    if changes:
        document(comm, device.id, None, changes)
        delta(comm, device)


def reported(comm, prop, last, last_ms):
    """A mapper in this process has read `prop`, which was `last` before."""
    device = prop.device
    new = comm.records.get(device.id, {}).get(prop.name)
    if new is not None:
        before = new[:]
        new[_ACTUAL] = text(prop.value)
        new[_ACTUAL + _TIME] = prop.time_ms
        new[_ACTUAL + _EDGE] += 1
    elif not comm.online:
        return
    else:
        new = _derived(prop)
        before = new[:]
        before[_ACTUAL] = None if last is None else text(last)
        before[_ACTUAL + _TIME] = last_ms
        if last is None and prop.desired is None:
            before = None
    document(comm, device.id, None, [(prop.name, before, new, 0)])
    delta(comm, device)


def get(comm, device_id, payload):
    """dealTwinGet: answer with all that is known of the device."""
    try:
        event_id = parse(payload)["event_id"]
    except ValueError as error:
        reason = "Unmarshal twin info %s failed , err: %s" % (str(payload[:64])[2:-1], error)
        comm.error(device_id, "twin/get", "", 400, reason)
        return
    device = comm.twin.devices.get(device_id)
    if device is None:
        comm.error(device_id, "twin/get", event_id, 404, "Device %s not found while getting twin" % device_id)
        return
    out = comm.begin(event_id)
    listed(out, [pair for pair in _records(comm, device) if pair[1][_TYPE] != DELETED])
    comm.end(out, DEVICE_PREFIX + device_id + "/twin/get/result")
