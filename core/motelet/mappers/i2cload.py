"""I2C, what a device needs before it is polled: its configuration checked and packed. Borrowed.

protocol.configData:
    bus             name of the bus: a board's ("i2c0", see the board's page), on Linux "/dev/i2c-1"
    address         7 bits, a number or a text such as "0x76"
    frequency       of the bus in Hz, 100000 if absent; boards only, Linux has it in its device tree
    chip            absent: plain registers; else "bme280" or "ads1115"
    registerSize    bytes of a register's number, 1 (the default) or 2
    endianness      "big" (the default) or "little"

visitors.configData of plain registers:
    register        its number, a number or a text such as "0xF7"
    width           bytes, 1 to 8 (STRING and BYTES: to 32); absent: 1
    signed          two's complement; absent: unsigned
    scale, offset   value = register * scale + offset; absent: 1 and 0

of a chip:
    channel         bme280: "temperature" (Celsius), "pressure" (pascal), "humidity" (percent)
                    ads1115: "0" to "3", or a difference "0-1", "0-3", "1-3", "2-3"; volts
    gain            ads1115: the full scale in volts: 6.144, 4.096, 2.048 (default), 1.024, 0.512 or 0.256
    scale, offset   as above
"""

from motelet import borrow

_devfield = borrow("devfield")
_rare = borrow("mappers.directrare")

CHIPS = ("bme280", "ads1115")


def bus(device, keys):
    """The key of the bus that `device` is on, while those of `keys` are in use. ValueError."""
    where = device.id
    config = device.config.get("configData") or {}
    name = _devfield.field(where, config, "bus", str)
    frequency = _devfield.number(where, config, "frequency", 1000, 3400000, default=100000)
    key = "i2c", name, frequency
    for other in keys:
        if other[:2] == key[:2] and other != key:
            raise ValueError("%s: bus %s is in use at %d Hz" % (where, name, other[2]))
    return key


def driver(key):
    """The class of the driver for the bus `key`."""
    from motelet.mappers.i2c import Driver

    return Driver


def attach(driver, device, devices):
    """Pack device.config and each visitor (see `i2c`). ValueError."""
    where = device.id
    config = device.config.get("configData") or {}
    # 0x00-0x07 and 0x78-0x7f are reserved (UM10204, section 3.1.12).
    address = integer(where, config, "address", 0x08, 0x77)
    chip = _devfield.field(where, config, "chip", str, "")
    if chip and chip not in CHIPS:
        raise ValueError("%s: unknown chip %s, there are %s" % (where, chip, ", ".join(CHIPS)))
    size = _devfield.number(where, config, "registerSize", 1, 2, default=1)
    endianness = _devfield.field(where, config, "endianness", str, "big")
    if endianness not in ("big", "little"):
        raise ValueError("%s: endianness %s is neither big nor little" % (where, endianness))

    def register(where, fields, prop):
        width = _devfield.number(where, fields, "width", 1, 32, default=1)
        if width > 8 and prop.type not in ("STRING", "BYTES"):
            raise ValueError("%s: width %d is not possible for type %s" % (where, width, prop.type))
        number = integer(where, fields, "register", 0, 256**size - 1)
        signed = _devfield.field(where, fields, "signed", bool, False)
        return (number, width, signed) + _rare.scaled(where, fields)

    made = None
    if chip:
        module = __import__("motelet.mappers." + chip, None, None, (chip,))
        made = module.Chip()

        def register(where, fields, prop):  # noqa: F811: one of the two is what is packed with
            what, size, signed, divide = module.channel(where, fields)
            return (what, size, signed) + _rare.scaled(where, fields, divide)

    _rare.pack(driver, device, devices, register)
    device.config = address, 8 * size, endianness == "little", made


def integer(where, fields, key, low, high):
    """The whole number `key`, low..high, also as a text in hexadecimal. ValueError."""
    value = _devfield.field(where, fields, key, (int, str))
    try:
        number = int(value, 16 if value.lower().startswith("0x") else 10) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("%s: %s is not a number: %s" % (where, key, value))
    if not low <= number <= high or number is True:
        raise ValueError("%s: %s %s is not in %d..%d" % (where, key, value, low, high))
    return number
