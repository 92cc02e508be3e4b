"""What a bus of `direct` seldom does: write and explain. Borrowed."""


def encode(prop, value):
    """The bytes, big-endian, that mean `value`. ValueError if they cannot be written or do not hold it."""
    _, size, signed, multiply, divide, add, _ = prop.spec.visitor
    where = prop.device.id + " " + prop.name + ": "
    kind = prop.type
    if kind in ("STRING", "BYTES"):
        data = value.encode() if kind == "STRING" else value
        if len(data) > size:
            raise ValueError("%sdesired value is longer than %d bytes" % (where, size))
        return data + bytes(size - len(data))
    if kind != "BOOLEAN":
        value = (value - add) * divide / multiply
    low = -(1 << 8 * size - 1) if signed else 0
    # A product may be infinite, and that is not to be rounded.
    if not abs(value) < 2e19 or not low <= round(value) < low + (1 << 8 * size):
        raise ValueError("%sdesired %s does not fit %d bytes" % (where, prop.desired, size))
    return (round(value) & (1 << 8 * size) - 1).to_bytes(size, "big")


def held(prop, data):
    """Whether `data` is what was read last."""
    at = prop.spec.visitor[6]
    return prop.device.raw[at : at + len(data)] == data


def reason(driver):
    """Why the last result of `driver` was REFUSED, SILENT or DOWN."""
    return driver.error


def pack(driver, device, devices, visitor):
    """Replace each visitor by what visitor(where, fields, prop) makes of its configData, less its place.

    -> nothing; device.raw gets its room. ValueError.
    """
    from motelet import borrow
    from motelet.cbor import Reader
    from motelet.device import Spec

    devfield = borrow("devfield")
    at = 0
    for prop in device.properties:
        spec = prop.spec
        if not spec.visitor:
            continue
        where = device.id + " " + prop.name
        reader = Reader()
        reader.open(spec.visitor, 0, len(spec.visitor))
        fields = devfield.field(where, reader.value(), "configData", dict)
        packed = visitor(where, fields, prop) + (at,)
        prop.spec = devfield.share(Spec(*spec[:3], packed, *spec[4:]), devices)
        at += packed[1]
        driver.rx += bytes(max(packed[1] - len(driver.rx), 0))
    device.raw = bytearray(at)


def scaled(where, fields, divide=1):
    """The multiply, divide and add of a visitor's `scale` and `offset`; `divide` is the sensor's own."""
    multiply = fields.get("scale", 1)
    add = fields.get("offset", 0)
    for name, value in (("scale", multiply), ("offset", add)):
        if not isinstance(value, (int, float)) or value is True:
            raise ValueError("%s: %s is not a number" % (where, name))
    multiply = multiply or 1
    if -1 < multiply < 1:
        # A tenth is no binary fraction: 213 / 10 is 21.3, 213 * 0.1 is not.
        divide = divide / multiply
        multiply = 1
        if abs(divide - round(divide)) < 1e-6 * abs(divide):
            divide = round(divide)
    return multiply, divide, add
