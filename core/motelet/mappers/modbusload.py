"""Modbus, what a device needs before it is polled: its configuration checked and packed. Borrowed.

protocol.configData, KubeEdge's names (flat, or nested in `tcp` and `com` as older mappers had them):
    communicateMode  "TCP" or "RTU"; absent: RTU if there is a serial port, else TCP
    slaveID          1 if absent, but on a serial line it has to be there
    timeout          milliseconds until an answer is given up, 1000 if absent
    ip, port         port 502 if absent
    serialPort (or serialName), baudRate (9600), dataBits (8), parity (none, even, odd), stopBits (1)

visitors.configData, where the property lies in the device:
    register         CoilRegister, DiscreteInputRegister, HoldingRegister or InputRegister
    offset, limit    first register (or bit, of the first two) counted from 0, and how many. limit absent
                     or 0 is what the type needs: 4 for a DOUBLE, 2 for a FLOAT, else 1
    scale            value = what is in the register * scale; absent or 0 is 1
    isSwap           exchange the two bytes of each register
    isRegisterSwap   reverse the order of the registers
Without a swap the first register is the most significant one. Coils are packed eight a byte, the first one
lowest.
"""

from micropython import const

from motelet import borrow
from motelet.cbor import Reader
from motelet.device import Spec

_devfield = borrow("devfield")
_field = _devfield.field
_number = _devfield.number

_TIMEOUT_MS_DEFAULT = const(1000)
_TIMEOUT_MS_MAX = const(60000)

# As in modbus
_SWAP = const(1)
_REGISTER_SWAP = const(2)
_SIGNED = const(4)

_REGISTERS = ("CoilRegister", "DiscreteInputRegister", "HoldingRegister", "InputRegister")  # functions 1..4
# Most bits or registers a request may have, by function; what can be written is held to the limit of that.
_LIMITS = (1968, 2000, 123, 125)


def bus(device, keys):
    """The key of the bus that `device` is on, while those of `keys` are in use. ValueError.

    (host, port) or (path, baud rate, parity, stop bits). A serial port has one setting at a time.
    """
    where = device.id
    config = _config(device)
    path = _field(where, config, "serialPort", str, config.get("serialName", ""))
    mode = _field(where, config, "communicateMode", str, "RTU" if path else "TCP").upper()
    if mode == "TCP":
        return _field(where, config, "ip", str), _number(where, config, "port", 1, 65535, default=502)
    parity = _field(where, config, "parity", str, "none")[:1].upper()
    if mode != "RTU" or not path or parity not in ("N", "E", "O"):
        raise ValueError(where + ": communicateMode, serialPort or parity is malformed")
    _number(where, config, "dataBits", 8, 8, default=8)
    baud_rate = _number(where, config, "baudRate", 300, 4000000, default=9600)
    key = path, baud_rate, parity, _number(where, config, "stopBits", 1, 2, default=1)
    for other in keys:
        if other[0] == path and len(other) == len(key) and other != key:
            raise ValueError("%s: serialPort %s is in use with other settings: %d %s %d" % ((where,) + other))
    return key


def _config(device):
    """configData with what is nested laid flat. ValueError."""
    config = device.config.get("configData") or {}
    for nested in ("tcp", "com"):
        config.update(_field(device.id, config, nested, dict, {}))
    return config


def driver(key):
    """The class of the driver for the bus `key`; of TCP and RTU, only what is used gets loaded."""
    if len(key) > 2:
        from motelet.mappers.modbusrtu import Driver
    else:
        from motelet.mappers.modbus import Driver
    return Driver


def attach(driver, device, devices):
    """Pack device.config and each visitor (see `modbus`); make room for the answers. ValueError."""
    config = _config(device)
    low, high, default = (1, 247, None) if driver.serial else (0, 255, 1)
    unit = _number(device.id, config, "slaveID", low, high, default=default)
    timeout_ms = _number(device.id, config, "timeout", 1, _TIMEOUT_MS_MAX, default=_TIMEOUT_MS_DEFAULT)
    at = 0
    for prop in device.properties:
        spec = prop.spec
        if spec.visitor:
            visitor = _visitor(prop, at)
            spec = Spec(*spec[:3], visitor, *spec[4:])
            prop.spec = _devfield.share(spec, devices)
            at += visitor[3]
            driver.tx += bytes(max(visitor[3] + 16 - len(driver.tx), 0))
            driver.rx += bytes(max(visitor[3] + 32 - len(driver.rx), 0))
    device.config = unit << 16 | timeout_ms
    device.raw = bytearray(at)


def _visitor(prop, at):
    """Check the CBOR of prop.visitor and make the tuple of it, its bytes lying at `at`."""
    where = prop.device.id + " " + prop.name
    reader = Reader()
    reader.open(prop.visitor, 0, len(prop.visitor))
    config = _field(where, reader.value(), "configData", dict)
    register = _field(where, config, "register", str)
    if register not in _REGISTERS:
        raise ValueError(where + ": unknown register " + register)
    function = _REGISTERS.index(register) + 1
    kind = prop.type
    limit_max = _LIMITS[function - 1]
    limit = _number(where, config, "limit", 1, limit_max, default={"DOUBLE": 4, "FLOAT": 2}.get(kind, 1))
    offset = _number(where, config, "offset", 0, 65536 - limit, default=0)
    size = limit * 2 if function > 2 else (limit + 7) // 8
    if kind not in ("STRING", "BYTES") and size not in (1, 2, 4, 8):
        raise ValueError("%s: limit %d is not possible for type %s" % (where, limit, kind))
    order = _SWAP if _field(where, config, "isSwap", bool, False) else 0
    if _field(where, config, "isRegisterSwap", bool, False):
        order |= _REGISTER_SWAP
    if function > 2 and prop.limits and (prop.limits[0] or 0) < 0:
        order |= _SIGNED
    multiply = _field(where, config, "scale", (int, float), 1) or 1
    divide = 1
    if -1 < multiply < 1:
        # A tenth is no binary fraction: 213 / 10 is 21.3, 213 * 0.1 is not.
        divide = 1 / multiply
        multiply = 1
        if abs(divide - round(divide)) < 1e-6 * abs(divide):
            divide = round(divide)
    elif abs(multiply) < 1e9 and multiply == int(multiply):
        multiply = int(multiply)  # so that large values stay exact
    return function, offset, limit, size, order, multiply, divide, at
