"""Twin: expected and actual values of properties, as applications on MQTT see them (KubeEdge's TwinModule).

Here is how they look, and what is published of devices that have their mappers in this process. Asking
for twins is `devicetwin.request`, telling them `devicetwin.update`, and what a new spec does to them
`devicetwin.joining`. Borrowed, until `update` loads it for good.

A record is a list, small in RAM and as JSON in the store: see the indices. What an application has
told is kept as a record; the twin of any other property is derived from the Property.
"""

import json

from micropython import const

from motelet import borrow

# A record: expected and actual follow each other as value, time, cloud version, edge version.
_EXPECTED = const(0)
_ACTUAL = const(4)
_TIME = const(1)
_EDGE = const(3)
_TYPE = const(8)
_OPTIONAL = const(9)
# At 10 is the desired value of the Device when `expected` was set.
_DELETED = const("deleted")  # the type of what was deleted


# -- payloads ---------------------------------------------------------------------------------


def view(out, record, expected=True, actual=True):
    """Write the JSON of a record to `out`, null for none."""
    if record is None or record[_TYPE] == _DELETED:
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
        json.dump(record[at + _TIME], out)
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
    answers = borrow("devicetwin.payload")
    out = answers.begin(comm, event_id)
    out.write('"twin":{')
    for change in changes:
        name_to(out, change[0], change is changes[0])
        out.write('{"last":')
        view(out, change[1])
        out.write(',"current":')
        view(out, change[2])
        out.write("}")
    out.write("}")
    answers.end(comm, out, "device/", device_id, "/twin/update/document")


def delta(comm, device):
    """Publish where the device is not as expected, if so."""
    kept = comm.records.get(device.id, ())
    expected = None
    for name in kept:
        expected = expected or kept[name][_EXPECTED]
    for prop in device.properties:
        expected = expected or prop.desired
    if not comm.online or not expected:
        return
    wanted = [pair for pair in records(comm, device) if pair[1][_EXPECTED] and pair[1][_TYPE] != _DELETED]
    differing = [pair for pair in wanted if pair[1][_EXPECTED] != pair[1][_ACTUAL]]
    if not differing:
        return
    answers = borrow("devicetwin.payload")
    out = answers.begin(comm, None)
    listed(out, wanted)
    out.write(',"delta":{')
    for pair in differing:
        name_to(out, pair[0], pair is differing[0])
        json.dump(pair[1][_EXPECTED], out)
    out.write("}")
    answers.end(comm, out, "device/", device.id, "/twin/update/delta")


def listed(out, pairs):
    """Write "twin": {..} with [(name, record)]."""
    out.write('"twin":{')
    for pair in pairs:
        name_to(out, pair[0], pair is pairs[0])
        view(out, pair[1])
    out.write("}")


# -- records ----------------------------------------------------------------------------------


def _text(value):
    """-> what a property's value (int, float, bool, str or bytes) is in a twin: values are text there."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (bytes, bytearray)):
        return str(value, "utf-8")
    return str(value)


def derived(prop):
    """-> the record a Property amounts to that no application has touched, None without any value."""
    if prop is None or prop.value is None and prop.desired is None:
        return None
    value = None if prop.value is None else _text(prop.value)
    return [prop.desired, None, 0, 0, value, prop.time_ms, 0, 0, prop.type.lower(), True, prop.desired]


def records(comm, device):
    """-> [(name, record)] of the device, sorted by name."""
    kept = comm.records.get(device.id, {})
    pairs = list(kept.items())
    for prop in device.properties:
        if prop.name not in kept:
            known = derived(prop)
            if known is not None:
                pairs.append((prop.name, known))
    return sorted(pairs)


def tell(comm):
    """Publish what was read of one device since; else what one to be said again is not as expected."""
    news = comm._news
    if not news:
        device = comm.twin.devices.get(comm._again.pop())
        if device is not None:
            delta(comm, device)
        return
    device = news[0][0].device
    comm._news = [entry for entry in news if entry[0].device is not device]
    kept = comm.records.get(device.id, {})
    changes = []
    for prop, last, last_ms in news:
        # The newest value of each with the one that was published before.
        if prop.device is not device or prop.name in [change[0] for change in changes]:
            continue
        new = kept.get(prop.name)
        if new is not None:
            before = new[:]
            new[_ACTUAL] = _text(prop.value)
            new[_ACTUAL + _TIME] = prop.time_ms
            new[_ACTUAL + _EDGE] += 1
        else:
            new = derived(prop)
            before = new[:]
            before[_ACTUAL] = None if last is None else _text(last)
            before[_ACTUAL + _TIME] = last_ms
            if last is None and prop.desired is None:
                before = None
        changes.append((prop.name, before, new, 0))
    document(comm, device.id, None, changes)
    delta(comm, device)
