"""Modbus, what a bus seldom does: write, and explain. Borrowed; `modbus` tells how types lie in registers."""

from struct import pack

from micropython import const

from motelet.mappers.modbus import ordered

# As in modbus
_SIGNED = const(4)
_CLOSED = const(256)
_FAILURE = const(4)  # exception: server device failure

_EXCEPTIONS = (
    "illegal function,illegal data address,illegal data value,server device failure,acknowledge,"
    "server device busy,exception 7,memory parity error,exception 9,gateway path unavailable,"
    "gateway target device failed to respond"
)


def encode(prop, value):
    """The bytes that mean `value`. ValueError if the register is too small or only to be read."""
    kind = prop.type
    function, _, limit, size, order, multiply, divide, _ = prop.spec.visitor
    where = prop.device.id + " " + prop.name + ": "
    if function not in (1, 3):
        register = "DiscreteInputRegister" if function == 2 else "InputRegister"
        raise ValueError(where + register + " cannot be written")
    if kind in ("STRING", "BYTES"):
        data = value.encode() if kind == "STRING" else value
        if len(data) > size:
            raise ValueError("%sdesired value is longer than %d bytes" % (where, size))
        return ordered(data + bytes(size - len(data)), order)
    if kind != "BOOLEAN":
        value *= divide
        if multiply != 1:
            value /= multiply
    if kind in ("FLOAT", "DOUBLE") and size > 2:
        if abs(value) < (3.4028235e38 if size == 4 else 1.7976931e308):
            return ordered(pack(">f" if size == 4 else ">d", value), order)
    else:
        bits = limit if function == 1 else 8 * size
        low = -(1 << bits - 1) if order & _SIGNED else 0
        # A product may be infinite, and that is not to be rounded.
        if abs(value) < 2e19 and low <= round(value) < low + (1 << bits):
            value = round(value) & (1 << 8 * size) - 1
            return ordered(value.to_bytes(size, "big"), order)
    raise ValueError("%sdesired %s does not fit %d bytes" % (where, prop.desired, size))


def held(prop, data):
    """Whether `data` is what was read last."""
    at = prop.spec.visitor[7]
    return prop.device.raw[at : at + len(data)] == data


def request(tx, prop, data):
    """Lay `data`, to be written, out in tx behind the PDU's first five bytes -> function, word, end of it."""
    function, _, word, size, _, _, _, _ = prop.spec.visitor
    function = (function + 1) // 2 + (4 if word == 1 else 14)  # 5, 6, 15 or 16
    if function == 5:
        return function, 0xFF00 if data[0] else 0, 12
    if function == 6:
        return function, data[0] << 8 | data[1], 12
    tx[12] = size
    end = 13 + size
    tx[13:end] = data
    return function, word, end


def passing(driver):
    """Whether what the device REFUSED last may be taken another time."""
    return driver.error == _FAILURE


def reason(driver):
    """Why the last result of `driver` was REFUSED, SILENT or DOWN, "" when it was not."""
    error = driver.error
    if error is None or isinstance(error, str):
        return error or ""
    if error < 0:
        return "no answer within %d ms" % -error
    if error >= _CLOSED:
        return "connection closed" if error == _CLOSED else "malformed answer"
    names = _EXCEPTIONS.split(",")
    return names[error - 1] if 0 < error <= len(names) else "exception %d" % error
