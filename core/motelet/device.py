"""What a board knows of its devices: the effective Device of the cloud, in as few bytes as possible.

A board holds many properties and a small heap, so this is not the YAML as dictionaries:

- What the spec says of a property is a Spec, a tuple, which devices of one model share. A Property is what
  differs: MicroPython keeps attributes in a table of 8 bytes each that grows in steps (.. 6, 8, 10, 12, 17),
  so a Property has 6, and gets the others when they are first set.
- A time in milliseconds is an object of 32 bytes, so the times of a device are in one array, a number
  for the link lies in the upper bits of `flags`, and the bytes last read lie in one bytearray a device.
- What only a driver can read stays encoded until the driver turns it into something smaller
  (`motelet.mappers`).

`motelet.devload` makes Devices of what the cloud sent, `motelet.desired` values of desired texts.
"""

from array import array
from collections import namedtuple

from micropython import const

# Property.flags and Device.flags. Bits from 256 to 4096 belong to motelet.mappers.
READ_WRITE = const(1)  # accessMode ReadWrite
TO_CLOUD = const(2)  # reportToCloud
MOMENTARY = const(4)  # a desired value is a command: written at most once, not kept up
APPLY = const(8)  # the desired value waits to be compared with the device, and written if it differs
DIRTY = const(16)  # the newest value is not with the cloud yet
INFLIGHT = const(32)  # the newest value was sent and is not acknowledged yet
REJECTED = const(128)  # the cloud would not have the newest value when it was sent
UNUSABLE = const(
    64
)  # of a Device: its newest spec cannot be used, `reason` says why; it is served by the last good one

_REF_SHIFT = const(13)  # a number for the link is from here up
_FLAGS = const(8191)  # and the flags are below

# name, type: as in KubeEdge. index: which of device.times is the property's. visitor: CBOR of KubeEdge's
# `visitors` map, until the driver replaces it by its own compact form; None: nothing to be polled. limits:
# (minimum, maximum) as numbers, each None if open; None when there are neither. Cycles in milliseconds.
Spec = namedtuple("Spec", ("name", "type", "index", "visitor", "limits", "collect_ms", "report_ms"))


def _get_ref(item):
    return item.flags >> _REF_SHIFT


def _set_ref(item, ref):
    item.flags = item.flags & _FLAGS | ref << _REF_SHIFT


def _get_time(item):
    return item.device.times[item.index] or None


def _set_time(item, time_ms):
    item.device.times[item.index] = time_ms or 0


class Property:
    """One property of a device: what was read, what is wanted; and, read-only, the fields of its `spec`.

    value      what the twin holds: int, float, bool, str or bytes; None before the first report
    time_ms    when value was read, milliseconds since 1970 UTC, None before the first report
    desired    text of the desired value, or None; metadata: its map, kept for MOMENTARY only
    observed   text of the desired value last seen in the device, or None
    due        clock ticks (ms) of the next read; report_due: before these nothing is reported again
    ref        number of this property on the present connection to the cloud, 0 for none
    """

    desired = metadata = observed = None
    ref = property(_get_ref, _set_ref)
    time_ms = property(_get_time, _set_time)

    def __init__(self, device, spec, flags):
        self.spec = spec
        self.device = device
        self.flags = flags
        self.due = self.report_due = 0
        self.value = None

    def __getattr__(self, name):
        return getattr(self.spec, name)


class Device:
    """A device: `id` is "namespace/name"; `state` is "unknown", "online" or "offline", with a `reason`.

    config     the `protocol` of its spec, a map, until the driver replaces it by its compact form
    mapper     what polls it; None: nobody
    raw        bytearray: what it answered last, as it was on the wire, laid out by the driver
    times      array of milliseconds since 1970 UTC: of the state, then of each property; 0 is never
    device     itself, so that a Device and a Property have their times in one place
    time_ms, ref: as those of a Property.
    """

    index = 0
    ref = Property.ref
    time_ms = Property.time_ms

    def __init__(self, resource):
        parts = resource.split("/")
        if len(parts) != 3 or parts[1] != "device" or not parts[0] or not parts[2]:
            raise ValueError("not a device: " + resource)
        self.id = parts[0] + "/" + parts[2]
        self.device = self
        self.properties = ()
        self.flags = TO_CLOUD
        self.state = "unknown"
        self.reason = ""
        self.config = self.mapper = self.raw = None
        self.times = array("Q", bytes(8))

    @property
    def resource(self):
        """ "namespace/device/name". Made of the id: it is wanted once in a connection."""
        return self.id.replace("/", "/device/")
