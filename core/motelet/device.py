"""What a board knows of its devices: the effective Device of the cloud, in as few bytes as possible.

A board holds many properties and a small heap, so this is not the YAML as dictionaries: a Property is one
object of 17 slots (the step at which MicroPython's attribute table would grow next is 18), what is equal
among devices of one model is held once, and what only a driver can read stays encoded until the driver
turns it into something smaller (`motelet.mappers`).

`load` makes a Device from the CBOR item of a PUT (the field names are KubeEdge's v1beta1 ones), `convert`
makes a typed value of the text of a desired value. Both raise ValueError, whose text names the device, the
property and the field: it is shown to the user as it is.

Choices, where KubeEdge leaves room:
- collectCycle and reportCycle are milliseconds; absent or 0 is 1000, as in its mapper framework.
- reportToCloud absent is true: a value is kept from the cloud only by an explicit false.
- an empty desired value is no desired value.
- minimum and maximum bound what is written. What a device reports is reported, whatever it is.
"""

from micropython import const

from motelet.cbor import Reader

# Property.flags and Device.flags. Bits from 256 up belong to motelet.mappers, whatever the driver.
READ_WRITE = const(1)  # accessMode ReadWrite
TO_CLOUD = const(2)  # reportToCloud
MOMENTARY = const(4)  # a desired value is a command: written at most once, not kept up
APPLY = const(8)  # the desired value waits to be compared with the device, and written if it differs
DIRTY = const(16)  # the newest value is not with the cloud yet
INFLIGHT = const(32)  # the newest value was sent and is not acknowledged yet

_CYCLE_MS_DEFAULT = const(1000)
_CYCLE_MS_MIN = const(10)
_CYCLE_MS_MAX = const(86400000)  # a day; the clock of a board wraps after twelve
_PROPERTIES_MAX = const(64)
_NAME_SIZE_MAX = const(128)

TYPES = ("INT", "FLOAT", "DOUBLE", "BOOLEAN", "STRING", "BYTES")


class Property:
    """One property of a device: what it is, what was read, what is wanted.

    limits     (minimum, maximum) as numbers, each None if open; None when there are neither
    visitor    CBOR of KubeEdge's `visitors` map, until the driver replaces it by its own compact form
    raw        bytearray: what the device answered last, as it was on the wire; None before the first read
    value      what the twin holds: int, float, bool, str or bytes; None before the first report
    time_ms    when value was read, milliseconds since 1970 UTC
    desired    text of the desired value, or None; metadata: its map, kept for MOMENTARY only
    observed   text of the desired value last seen in the device, or None
    due        clock ticks (ms) of the next read; report_due: before these nothing is reported again
    ref        number of this property on the present connection to the cloud, 0 for none
    """

    def __init__(self, device, name, kind, flags):
        self.device = device
        self.name = name
        self.type = kind
        self.flags = flags
        self.collect_ms = self.report_ms = _CYCLE_MS_DEFAULT
        self.due = self.report_due = self.ref = 0
        self.limits = self.visitor = self.raw = self.value = self.time_ms = None
        self.desired = self.metadata = self.observed = None


class Device:
    """A device: `id` is "namespace/name"; `state` is "unknown", "online" or "offline", with a `reason`.

    config is the configData of its protocol (a dict) until the driver replaces it by its compact form;
    mapper is what polls it (None: nobody); failures counts the answers that did not come, in a row.
    """

    def __init__(self, resource):
        parts = resource.split("/")
        if len(parts) != 3 or parts[1] != "device" or not parts[0] or not parts[2]:
            raise ValueError("not a device: " + resource)
        self.id = parts[0] + "/" + parts[2]
        self.resource = resource
        self.properties = []
        self.flags = TO_CLOUD
        self.state = "unknown"
        self.protocol = self.reason = ""
        self.config = self.mapper = self.time_ms = None
        self.ref = self.failures = 0


def field(where, fields, key, kind, default=None):
    """The field `key` of a map, a `kind`; `default` when it is absent or null (None: it is required)."""
    value = fields.get(key)
    if value is None:
        value = default
    problem = "missing" if value is None else "" if isinstance(value, kind) else "malformed"
    if problem:
        raise ValueError(f"{where}: {key} is {problem}")
    return value


def number(where, fields, key, low, high, *, default=None):
    """The whole number `key` of a map, low..high, also as text (KubeEdge's examples quote ports).

    0 is `default` too where it is too low: that is what an absent number is in Go.
    """
    value = field(where, fields, key, (int, str), default)
    try:
        value = int(value)
    except ValueError:
        raise ValueError(f"{where}: {key} is not a number: {value}")
    if value == 0 and low > 0 and default:
        return default
    if not low <= value <= high:
        raise ValueError(f"{where}: {key} {value} is not in {low}..{high}")
    return value


def share(value, attribute, devices):
    """The object equal to `value` that a property of `devices` has as `attribute`, or value itself."""
    for device in devices:
        for prop in device.properties:
            other = getattr(prop, attribute)
            if type(other) is type(value) and other == value:
                return other
    return value


def load(resource, content, others=()):
    """Make the Device `resource` ("ns/device/name") of `content` (bytes: CBOR of an effective Device).

    The properties are decoded one at a time: the transient memory is that of the largest. What equals a part
    of `others` (Devices) is shared with them. Raises ValueError.
    """
    device = Device(resource)
    reader = Reader()
    reader.open(content, 0, len(content))
    for _ in range(reader.map()):
        key = reader.text()
        if key == "protocol":
            protocol = field(device.id, {key: reader.value()}, key, dict)
            device.protocol = field(device.id, protocol, "protocolName", str)
            device.config = field(device.id, protocol, "configData", dict, {})
        elif key == "properties":
            for _ in range(reader.array()):
                device.properties.append(_property(device, reader, content, others))
                if len(device.properties) > _PROPERTIES_MAX:
                    raise ValueError(f"{device.id}: more than {_PROPERTIES_MAX} properties")
        elif key == "stateReport":
            report = field(device.id, {key: reader.value()}, key, dict)
            if not field(device.id, report, "reportToCloud", bool, True):
                device.flags = 0
        else:
            reader.skip()
    if not reader.at_end() or not device.protocol:
        raise ValueError(device.id + (": no protocol" if reader.at_end() else ": bytes after its end"))
    return device


def _property(device, reader, content, others):
    """Decode the property at the reader."""
    fields = {}
    visitor = None
    for _ in range(reader.map()):
        key = reader.text()
        start = reader.pos
        fields[key] = reader.value()
        if key == "visitors":
            visitor = bytes(content[start : reader.pos])
    name = field(device.id, fields, "name", str)
    where = device.id + " " + name
    if not 0 < len(name) <= _NAME_SIZE_MAX:
        raise ValueError(where + ": name is empty or too long")
    for other in device.properties:
        if other.name == name:
            raise ValueError(where + ": name is used twice")
    kind = field(where, fields, "type", str)
    access = field(where, fields, "accessMode", str, "ReadOnly")
    if kind not in TYPES or access not in ("ReadWrite", "ReadOnly"):
        raise ValueError(f"{where}: unknown type {kind} or accessMode {access}")
    prop = Property(device, share(name, "name", others), TYPES[TYPES.index(kind)], 0)
    prop.visitor = visitor
    if access == "ReadWrite":
        prop.flags |= READ_WRITE
    if field(where, fields, "reportToCloud", bool, True):
        prop.flags |= TO_CLOUD
    low, high = _CYCLE_MS_MIN, _CYCLE_MS_MAX
    prop.collect_ms = number(where, fields, "collectCycle", low, high, default=_CYCLE_MS_DEFAULT)
    prop.report_ms = number(where, fields, "reportCycle", low, high, default=_CYCLE_MS_DEFAULT)
    limits = (_limit(where, fields, "minimum"), _limit(where, fields, "maximum"))
    if limits != (None, None):
        prop.limits = share(limits, "limits", others)
    visitors = field(where, fields, "visitors", dict, {})
    if field(where, field(where, visitors, "configData", dict, {}), "momentary", bool, False):
        prop.flags |= MOMENTARY
    desired = field(where, fields, "desired", dict, {})
    prop.desired = field(where, desired, "value", str, "") or None
    if prop.desired:
        prop.flags |= APPLY
        if prop.flags & MOMENTARY:
            prop.metadata = field(where, desired, "metadata", dict, {})
    return prop


def _limit(where, fields, key):
    """A bound as a number: an int where the text is one, so that large ones stay exact."""
    text = field(where, fields, key, str, "")
    try:
        return int(text) if text else None
    except ValueError:
        try:
            return float(text)
        except ValueError:
            raise ValueError(f"{where}: {key} is not a number: {text}")


def convert(prop):
    """The desired value of `prop` in its type, checked against accessMode, minimum and maximum.

    int, float (finite), bool, str or bytes. Raises ValueError.
    """
    kind = prop.type
    text = prop.desired
    where = f"{prop.device.id} {prop.name}: desired {text}"
    if not prop.flags & READ_WRITE:
        raise ValueError(where + " of a ReadOnly property")
    if kind in ("STRING", "BYTES"):
        return text if kind == "STRING" else text.encode()
    if kind == "BOOLEAN":
        value = text.lower()
        if value not in ("true", "false", "1", "0"):
            raise ValueError(where + " is not a BOOLEAN")
        return value in ("true", "1")
    try:
        value = int(text) if kind == "INT" else float(text)
    except ValueError:
        raise ValueError(f"{where} is not of type {kind}")
    if value - value != 0:  # infinite, or not a number
        raise ValueError(where + " is not finite")
    low, high = prop.limits or (None, None)
    if low is not None and value < low:
        raise ValueError(f"{where} is below minimum {low}")
    if high is not None and value > high:
        raise ValueError(f"{where} is above maximum {high}")
    return value
