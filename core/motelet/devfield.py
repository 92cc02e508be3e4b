"""Checks the fields of a Device, for what makes Devices and for mappers. Borrowed, apart from both: together
they would be in memory twice while a device is given to its mapper.

All that is refused is a ValueError, whose text says where and what.
"""

from motelet.device import Spec


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


def share(spec, devices):
    """The Spec equal to `spec` that a property of `devices` has, or else spec, its name shared if need be."""
    for device in devices:
        for prop in device.properties:
            known = prop.spec
            if known == spec:
                return known
            if known.name == spec.name and known.name is not spec.name:
                spec = Spec(known.name, *spec[1:])
    return spec
