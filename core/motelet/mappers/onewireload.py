"""1-Wire, what a device needs before it is polled: its configuration checked and packed. Borrowed.

protocol.configData:
    bus             name of the wire: a board's (see its page), on Linux the folder of the kernel's driver,
                    "/sys/bus/w1/devices"
    rom             the thermometer's code, 16 hexadecimal digits as `search` gives them, family 28 first

visitors.configData:
    scale, offset   value = degrees Celsius * scale + offset
"""

from binascii import unhexlify

from motelet import borrow

_devfield = borrow("devfield")
_rare = borrow("mappers.directrare")

_FAMILY = 0x28
_STEPS = 16  # a degree


def bus(device, keys):
    """The key of the wire that `device` is on. ValueError."""
    return "onewire", _devfield.field(device.id, device.config.get("configData") or {}, "bus", str)


def driver(key):
    """The class of the driver."""
    from motelet.mappers.onewire import Driver

    return Driver


def attach(driver, device, devices):
    """Pack device.config and each visitor (see `onewire`). ValueError."""
    text = _devfield.field(device.id, device.config.get("configData") or {}, "rom", str)
    try:
        rom = unhexlify(text)
    except ValueError:
        rom = b""
    from motelet.mappers.onewire import crc8

    if len(rom) != 8 or rom[0] != _FAMILY or crc8(rom):
        raise ValueError("%s: rom %s is not the code of a DS18B20" % (device.id, text))
    _rare.pack(
        driver, device, devices, lambda where, fields, _: (0, 2, True) + _rare.scaled(where, fields, _STEPS)
    )
    device.config = rom
