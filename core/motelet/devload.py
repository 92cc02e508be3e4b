"""Makes Devices of what the cloud sent. Borrowed: configurations come seldom (`motelet.borrow`).

The field names are KubeEdge's v1beta1 ones. Everything here raises ValueError, whose text names the device,
the property and the field: it is shown to the user as it is.

Choices, where KubeEdge leaves room:
- collectCycle and reportCycle are milliseconds; absent or 0 is 1000, as in its mapper framework.
- reportToCloud absent is true: a value is kept from the cloud only by an explicit false.
- an empty desired value is no desired value.
"""

import gc
import sys
from array import array

from micropython import const

from motelet import borrow
from motelet.cbor import Reader
from motelet.device import APPLY, MOMENTARY, READ_WRITE, TO_CLOUD, Device, Property, Spec

_CYCLE_MS_DEFAULT = const(1000)
_CYCLE_MS_MIN = const(10)
_CYCLE_MS_MAX = const(86400000)  # a day; the clock of a board wraps after twelve
_PROPERTIES_MAX = const(64)
_NAME_SIZE_MAX = const(128)

_devfield = borrow("devfield")
_field = _devfield.field
_number = _devfield.number
_share = _devfield.share

TYPES = ("INT", "FLOAT", "DOUBLE", "BOOLEAN", "STRING", "BYTES")


def load(resource, content, others=()):
    """Make the Device `resource` ("ns/device/name") of `content` (bytes: CBOR of an effective Device).

    The properties are decoded one at a time: the transient memory is that of the largest. What equals a part
    of `others` (Devices) is shared with them. Raises ValueError.
    """
    device = Device(resource)
    properties = []
    reader = Reader()
    reader.open(content, 0, len(content))
    for _ in range(reader.map()):
        key = reader.text()
        if key == "protocol":
            device.config = _field(device.id, {key: reader.value()}, key, dict)
            _field(device.id, device.config, "protocolName", str)
            _field(device.id, device.config, "configData", dict, {})
        elif key == "properties":
            for _ in range(reader.array()):
                properties.append(_property(device, properties, reader, content, others))
                if sys.implementation.name == "micropython":
                    # What decoding leaves would lie between what stays, and no free block be large enough
                    # for the driver that is loaded next. CPython's heap does not care.
                    gc.collect()
                if len(properties) > _PROPERTIES_MAX:
                    raise ValueError(f"{device.id}: more than {_PROPERTIES_MAX} properties")
        elif key == "stateReport":
            report = _field(device.id, {key: reader.value()}, key, dict)
            if not _field(device.id, report, "reportToCloud", bool, True):
                device.flags = 0
        else:
            reader.skip()
    if not reader.at_end() or not device.config:
        raise ValueError(device.id + (": no protocol" if reader.at_end() else ": bytes after its end"))
    device.properties = tuple(properties)
    device.times = array("Q", bytes(8 + 8 * len(properties)))
    return device


def _property(device, properties, reader, content, others):
    """Decode the property at the reader, which follows `properties`."""
    fields = {}
    visitor = None
    for _ in range(reader.map()):
        key = reader.text()
        start = reader.pos
        fields[key] = reader.value()
        if key == "visitors":
            visitor = bytes(content[start : reader.pos])
    name = _field(device.id, fields, "name", str)
    where = device.id + " " + name
    if not 0 < len(name) <= _NAME_SIZE_MAX:
        raise ValueError(where + ": name is empty or too long")
    for other in properties:
        if other.name == name:
            raise ValueError(where + ": name is used twice")
    kind = _field(where, fields, "type", str)
    access = _field(where, fields, "accessMode", str, "ReadOnly")
    if kind not in TYPES or access not in ("ReadWrite", "ReadOnly"):
        raise ValueError(f"{where}: unknown type {kind} or accessMode {access}")
    low, high = _CYCLE_MS_MIN, _CYCLE_MS_MAX
    collect_ms = _number(where, fields, "collectCycle", low, high, default=_CYCLE_MS_DEFAULT)
    report_ms = _number(where, fields, "reportCycle", low, high, default=_CYCLE_MS_DEFAULT)
    limits = (_limit(where, fields, "minimum"), _limit(where, fields, "maximum"))
    if limits == (None, None):
        limits = None
    kind = TYPES[TYPES.index(kind)]
    spec = Spec(name, kind, len(properties) + 1, visitor, limits, collect_ms, report_ms)
    prop = Property(device, _share(spec, others), 0)
    if access == "ReadWrite":
        prop.flags |= READ_WRITE
    if _field(where, fields, "reportToCloud", bool, True):
        prop.flags |= TO_CLOUD
    visitors = _field(where, fields, "visitors", dict, {})
    if _field(where, _field(where, visitors, "configData", dict, {}), "momentary", bool, False):
        prop.flags |= MOMENTARY
    desired = _field(where, fields, "desired", dict, {})
    text = _field(where, desired, "value", str, "")
    if text:
        prop.desired = text
        prop.flags |= APPLY
        if prop.flags & MOMENTARY:
            prop.metadata = _field(where, desired, "metadata", dict, {})
    return prop


def _limit(where, fields, key):
    """A bound as a number: an int where the text is one, so that large ones stay exact."""
    text = _field(where, fields, key, str, "")
    try:
        return int(text) if text else None
    except ValueError:
        try:
            return float(text)
        except ValueError:
            raise ValueError(f"{where}: {key} is not a number: {text}")
