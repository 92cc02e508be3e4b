"""The buses and pins of the settings, as MicroPython's objects. Borrowed: they are opened seldom.

    "pins": {"uart1":  {"tx": 17, "rx": 16, "de": 4},
             "i2c0":   {"scl": 22, "sda": 21, "freq": 100000},
             "relay":  {"pin": 26}, ...}

A device names its bus as on a Linux gateway it would name a path: `serialPort: uart1`. The boards' own
(boards/<NAME>/pins.json) are what the settings start with.
"""

import machine

KINDS = ("i2c", "onewire", "adc", "pwm", "pin")
_PIN = {  # the words of a port for a pin's mode and pull (ports/README.md)
    "in": machine.Pin.IN,
    "out": machine.Pin.OUT,
    "up": machine.Pin.PULL_UP,
    "down": machine.Pin.PULL_DOWN,
}


def serial(settings, name, baudrate, parity, stopbits):
    """A stream on the UART `name`. ValueError for settings there are not, OSError without such a line."""
    if parity not in ("N", "E", "O") or stopbits not in (1, 2) or not 300 <= baudrate <= 5000000:
        raise ValueError("%d baud, parity %s, %s stop bits" % (baudrate, parity, stopbits))
    pins = _find(settings, name, "uart")
    uart = machine.UART(
        int(name[4:]),
        baudrate,
        bits=8,
        parity=None if parity == "N" else 0 if parity == "E" else 1,
        stop=stopbits,
        tx=pins["tx"],
        rx=pins["rx"],
        timeout=0,
    )
    from motelet.ports.esp32.uart import Uart

    return Uart(uart, machine.Pin(pins["de"], machine.Pin.OUT, value=0) if "de" in pins else None)


def open_bus(settings, kind, name, options):
    """-> the object of machine or onewire for `name`, one of KINDS; `options` are the constructor's.

    ValueError for a kind there is not or options that are refused, OSError when there is no such bus.
    """
    if kind not in KINDS:
        raise ValueError("no bus of kind " + kind)
    pins = dict(_find(settings, name, "i2c" if kind == "i2c" else ""))
    if kind == "i2c":
        for end in ("scl", "sda"):
            pins[end] = machine.Pin(pins[end])
        pins.update(options)
        return machine.I2C(int(name[3:]), **pins)
    number = pins.pop("pin")
    pins.update(options)
    if kind == "adc":
        return machine.ADC(machine.Pin(number), **pins)
    if kind == "pwm":
        return machine.PWM(machine.Pin(number), **pins)
    if kind == "onewire":
        import onewire

        return onewire.OneWire(machine.Pin(number))
    return machine.Pin(number, **{key: _PIN.get(value, value) for key, value in pins.items()})


def _find(settings, name, prefix):
    pins = settings.get("pins", {}).get(name)
    if pins is None or not name.startswith(prefix):
        raise OSError(2, "no %s in the settings' pins" % name)  # ENOENT
    return pins
