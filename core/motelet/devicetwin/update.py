"""Twin updates: what applications tell of properties, and ask of them (dealTwinUpdate, dealTwinSync).

An update is kept as a record in the store before it is answered. Versions have two parts, cloud and
edge: each local change adds one to the edge's, and a cloud_updated from somebody who knows less than
the edge is refused.

Conflicts, each with one answer; tests/core/test_devicetwin_conflicts.py has a test for each row.

| row | what is there                 | what comes                      | what holds                        |
|-----|-------------------------------|---------------------------------|-----------------------------------|
| 1   | a value of a twin/update      | another twin/update             | the later arrival; timestamps of  |
|     |                               |                                 | clients are not looked at         |
| 2   | anything                      | an update, one property of it   | what was there, of all of them    |
|     |                               | bad                             |                                   |
| 3   | the desired value of the      | an application's expected value | the application's, until that of  |
|     | Device                        |                                 | the Device changes                |
| 4   | an application's expected     | a restart, then the Device      | as row 3: the record says which   |
|     | value                         |                                 | desired value it overruled        |
| 5   | an actual value of an         | one of the other                | the later; each is reported with  |
|     | application, or of a mapper   |                                 | its time                          |
| 6   | a version of the edge         | a twin/cloud_updated behind it  | the edge's; it is reported to the |
|     |                               |                                 | cloud again                       |
| 7   | a version of the edge         | a twin/cloud_updated not behind | the update's, with its versions   |
|     |                               | it                              |                                   |
| 8   | expected and actual           | a twin/cloud_updated, one of    | the edge's, both                  |
|     |                               | both behind                     |                                   |
| 9   | an optional property          | null, and later a value         | the value; versions go on         |
|     |                               |                                 | counting                          |
| 10  | a property that is not        | null                            | what was there                    |
|     | optional                      |                                 |                                   |
| 11  | an expected value             | one that the driver would       | what was there, and code 400      |
|     |                               | refuse                          |                                   |
| 12  | a record                      | a spec without that property    | the record, for MQTT only: the    |
|     |                               |                                 | cloud takes what its Device lists |
"""

import json

from micropython import const

from motelet import borrow
from motelet.device import APPLY
from motelet.devicetwin import find
from motelet.devicetwin.payload import UNMARSHAL, VALUE_SIZE_MAX, begin, end, error, parse
from motelet.devicetwin.twin import delta, derived, document, name_to, view
from motelet.kvlog import StoreError

PROPERTIES_MAX = 64  # records of one device
KEY_SIZE_MAX = 128
TRIES_MAX = 100  # of an update, while the store makes room
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.,:/@#"
_NO_DEVICE = "update rejected due to the device is not existed"
_NO_TWIN = "Update twin error, key:twin does not exist"
_BAD_KEY = (
    "The key of twin must only include upper or lowercase letters, number, english, and special letter"
    " - _ . , : / @ # and the length of key should be less than 128 bytes"
)
_BAD_VALUE = "The length of value should be at most 512 bytes"

# The parts of a record that devicetwin.twin describes.
_EXPECTED = const(0)
_ACTUAL = const(4)
_TIME = const(1)
_CLOUD = const(2)
_EDGE = const(3)
_TYPE = const(8)
_OPTIONAL = const(9)
_BASE = const(10)
_DELETED = const("deleted")


def _keep(comm, device, changes):
    """Make records durable, all or none, then let them count. Raises StoreError."""
    pairs = []
    for name, _, new, _ in changes:
        pairs.append((".twin/%s/=%s" % (device.id, name), json.dumps(new).encode()))
    if len(pairs) == 1:
        comm.twin.store.put(pairs[0][0], pairs[0][1])
    else:
        comm.twin.store.batch(pairs)
    kept = comm.records.setdefault(device.id, {})
    for name, _, new, _ in changes:
        kept[name] = new


def update(comm, device_id, payload, sync):
    """dealTwinUpdate, and with `sync` dealTwinSync: an application tells values, or asks for some.

    -> True when nothing was done and it is to be called again, for the store has to make room first.
    """
    if comm.eventbus is not None and comm.eventbus.broker.steady is None:
        _hasten(comm, comm.eventbus)
    event_id = ""
    try:
        try:
            message = parse(payload)
        except ValueError:
            raise ValueError(UNMARSHAL)
        event_id = message["event_id"]
        twins = _twins(message)
        device = comm.twin.devices.get(device_id)
        if device is None:
            error(comm, device_id, "twin/update", event_id, 404, _NO_DEVICE)
            return
        changes = _changes(comm, device, twins, sync)
        _keep(comm, device, changes)
    except ValueError as bad:
        error(comm, device_id, "twin/update", event_id, 400, str(bad))
        return
    except StoreError as bad:
        comm._tries += 1
        if bad.code == "busy" and comm._tries < TRIES_MAX:
            return True
        comm._tries = 0
        error(comm, device_id, "twin/update", event_id, 500, str(bad))
        return
    comm._tries = 0
    if not sync:
        out = begin(comm, event_id)
        out.write('"twin":{')
        for name, _, new, fields in changes:
            name_to(out, name, name == changes[0][0])
            view(out, new, fields & 1, fields & 2)
        out.write("}")
        end(comm, out, "device/", device_id, "/twin/update/result")
    if changes:
        document(comm, device_id, event_id, changes)
    _apply(comm, device, changes)
    delta(comm, device)


def _hasten(comm, eventbus):
    """Have updates like this one dealt with at once from the next one on, where there is memory for it."""
    try:
        from motelet.devicetwin.steady import Steady

        eventbus.broker.steady = Steady(comm, eventbus).update
    except MemoryError as error:
        comm.eventbus = None
        comm.twin.log.warning("devicetwin", "updates go the long way", "error", error)


def _twins(message):
    """-> the "twin" of an update, every part of it of the type it must have. Raises ValueError."""
    twins = message.get("twin")
    if twins is None:
        raise ValueError(_NO_TWIN)
    if not isinstance(twins, dict):
        raise ValueError(UNMARSHAL)
    for name in twins:
        if not 0 < len(name) <= KEY_SIZE_MAX:
            raise ValueError(_BAD_KEY)
        for letter in name:
            if letter not in _ALPHABET:
                raise ValueError(_BAD_KEY)
        twin = twins[name]
        if twin is None:
            continue
        _check_parts(twin)
    return twins


def _check_parts(twin):
    """Raise ValueError unless what an update says of one property is of the types it must have."""
    if not isinstance(twin, dict) or not isinstance(twin.get("optional", True), bool):
        raise ValueError(UNMARSHAL)
    for part, version in (("expected", "expected_version"), ("actual", "actual_version")):
        if twin.get(part) is not None:
            value = _dict(twin, part).get("value")
            if not isinstance(value, str):
                raise ValueError(UNMARSHAL)
            # Encoded only where it could be too long.
            if len(value) > VALUE_SIZE_MAX // 4 and len(value.encode()) > VALUE_SIZE_MAX:
                raise ValueError(_BAD_VALUE)
        if version in twin:
            version = _dict(twin, version)
            if not isinstance(version.get("cloud", 0), int) or not isinstance(version.get("edge", 0), int):
                raise ValueError(UNMARSHAL)
    if "metadata" in twin and not isinstance(_dict(twin, "metadata").get("type", ""), str):
        raise ValueError(UNMARSHAL)


def _dict(fields, name):
    value = fields.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(UNMARSHAL)
    return value


def _changes(comm, device, twins, sync):
    """-> [(name, record before, new record, which fields were given)]. Raises ValueError for a bad one."""
    changes = []
    new_names = 0
    for name in sorted(twins):
        known = comm.records.get(device.id, {}).get(name) or derived(find(device, name))
        new_names += known is None
        if len(comm.records.get(device.id, ())) + new_names > PROPERTIES_MAX:
            raise ValueError("more than %d properties" % PROPERTIES_MAX)
        twin = twins[name]
        prop = find(device, name)
        try:
            change = _change(known, twin, prop, comm.twin.epoch_ms(), sync)
        except ValueError:
            if not sync:
                raise
            change = None  # the edge's own goes up instead
            if prop is not None and prop.value is not None:
                comm.twin.mark(prop)
        if change is not None:
            changes.append((name, known) + change)
    return changes


def _change(known, twin, prop, now, sync):
    """-> (new record, fields given) of one property, None when nothing changes. Raises ValueError."""
    if twin is None or sync and _dict(twin, "metadata").get("type") == _DELETED:
        if known is None:
            raise ValueError("the request body is wrong")
        if not known[_OPTIONAL] or known[_TYPE] == _DELETED:
            return None
        new = known[:]
        new[_TYPE] = _DELETED
        for at in (_EXPECTED, _ACTUAL):
            if new[at] is not None:
                _count(new, at, twin or {}, sync)
                new[at] = new[at + _TIME] = None
        return new, 0
    if known is None or known[_TYPE] == _DELETED:
        new = known[:] if known else [None, None, 0, 0, None, None, 0, 0, "", True, None]
        new[_EXPECTED] = new[_BASE] = prop.desired if prop else None
        new[_TYPE] = _dict(twin, "metadata").get("type") or (prop.type.lower() if prop else "string")
        new[_OPTIONAL] = twin.get("optional", True)
        fields = 4
    else:
        new = known[:]
        fields = 0
        if new[_OPTIONAL] and not twin.get("optional", True):
            new[_OPTIONAL] = False
            fields = 4
    for part, at, bit in (("expected", _EXPECTED, 1), ("actual", _ACTUAL, 2)):
        if twin.get(part) is not None:
            value = twin[part]["value"]
            check(new[_TYPE].lower(), value)
            _count(new, at, twin, sync)
            new[at] = value
            new[at + _TIME] = now
            fields |= bit
    if fields & 1 and prop is not None:
        _check_expected(prop, new[_EXPECTED])
    return (new, fields) if fields else None


def _count(record, at, twin, sync):
    """Count a change in the version of the value at `at`. Raises ValueError for one that is behind."""
    if not sync:
        record[at + _EDGE] += 1
        return
    version = twin.get("actual_version" if at else "expected_version")
    if version is None:
        raise ValueError("version not allowed be nil while syncing")
    if record[at + _CLOUD] > version.get("cloud", 0) or record[at + _EDGE] > version.get("edge", 0):
        raise ValueError("not allowed to sync due to version conflict")
    record[at + _CLOUD] = version.get("cloud", 0)
    record[at + _EDGE] = version.get("edge", 0)


def check(kind, value):
    """Raise ValueError when `value` (text) is not of the type `kind` (KubeEdge's, or a DeviceModel's)."""
    if kind in ("", "string", "bytes", _DELETED):
        return
    if kind == "boolean":
        if value not in ("true", "false"):
            raise ValueError("the bool value must be true or false")
    elif kind in ("int", "integer"):
        digits = value[1:] if value[:1] in ("-", "+") else value
        if not digits.isdigit() or len(value) > 20 or not -(1 << 63) <= int(value) < 1 << 63:
            raise ValueError("the value is not int or integer")
    elif kind in ("float", "double"):
        try:
            float(value if value.strip() == value and "_" not in value else "")
        except ValueError:
            raise ValueError("the value is not float")
    else:
        raise ValueError("the value type is not allowed")


def _check_expected(prop, value):
    """Raise ValueError when the driver of a property in this process would refuse `value`."""
    if prop.device.mapper is not None and value:
        before = prop.desired
        prop.desired = value
        try:
            borrow("desired").convert(prop)
        finally:
            prop.desired = before


def _apply(comm, device, changes):
    """What an application told: for the cloud, and for the driver of the device if it has one."""
    for name, _, new, fields in changes:
        prop = find(device, name)
        if prop is None:
            continue
        if fields & 1:
            prop.desired = new[_EXPECTED] or None
            if prop.desired is None:
                prop.flags &= ~APPLY
                prop.observed = None
            elif device.mapper is not None:
                device.mapper.apply(prop)
            else:
                prop.observed = prop.desired
        if fields & 2:
            prop.value = new[_ACTUAL]
            prop.time_ms = new[_ACTUAL + _TIME]
            if prop.value == prop.desired:
                prop.observed = prop.desired
        if prop.value is not None:
            comm.twin.mark(prop)
