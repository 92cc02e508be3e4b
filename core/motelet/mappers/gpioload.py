"""Pins, what a device needs before it is polled: its configuration checked and packed. Borrowed.

protocol.configData: nothing.

visitors.configData, one of
    pin             name of a digital pin: a board's (see its page), on Linux "gpiochip0/17".
                    direction "in" (the default) or "out"; pull "up" or "down"; inverted: true is low
    adc             name of an analogue input. The value is 0 to 1 of its range, times scale, plus offset
    pwm             name of an output of pulses, frequency in Hz (1000). The value is 0 to 1, the part of the
                    time that it is high, times scale, plus offset
"""

from motelet import borrow

_devfield = borrow("devfield")
_rare = borrow("mappers.directrare")

_OUT = 1
_FULL = 65535


def bus(device, keys):
    """The key of the one bus there is."""
    return ("gpio",)


def driver(key):
    """The class of the driver."""
    from motelet.mappers.gpio import Driver

    return Driver


def attach(driver, device, devices):
    """Pack each visitor (see `gpio`). ValueError."""
    _rare.pack(driver, device, devices, _visitor)


def _visitor(where, fields, prop):
    kinds = [kind for kind in ("pin", "adc", "pwm") if kind in fields]
    if len(kinds) != 1:
        raise ValueError(where + ": one of pin, adc and pwm is needed")
    kind = kinds[0]
    name = _devfield.field(where, fields, kind, str)
    if kind == "pin":
        if prop.type not in ("BOOLEAN", "INT"):
            raise ValueError("%s: type %s is not possible for a pin" % (where, prop.type))
        options = {"mode": _devfield.field(where, fields, "direction", str, "in")}
        if options["mode"] not in ("in", "out"):
            raise ValueError("%s: direction %s is neither in nor out" % (where, options["mode"]))
        pull = _devfield.field(where, fields, "pull", str, "")
        if pull not in ("", "up", "down"):
            raise ValueError("%s: pull %s is neither up nor down" % (where, pull))
        if pull:
            options["pull"] = pull
        inverted = _devfield.field(where, fields, "inverted", bool, False)
        return (kind, name, options, 1 if inverted else 0), 1, False, 1, 1, 0
    options = {}
    if kind == "pwm":
        options["freq"] = _devfield.number(where, fields, "frequency", 1, 40000000, default=1000)
    return ((kind, name, options, 0), 2, False) + _rare.scaled(where, fields, _FULL)
