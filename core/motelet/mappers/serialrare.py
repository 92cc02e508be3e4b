"""Instruments with lines of text, what their bus seldom does: write and explain. Borrowed."""

from motelet.mappers.serial import meaning, total


def line(text, terminator, checksum):
    """The bytes of a line: text, checksum, end."""
    data = text.encode()
    if checksum:
        data += (b"%04X" if checksum == "crc16" else b"%02X") % total(checksum, data, len(data))
    return data + terminator


def encode(prop, value):
    """The line that sets `value`. ValueError if there is none, or the value would end the line."""
    _, _, template, _, _, multiply, add, _ = prop.spec.visitor
    terminator, checksum, _ = prop.device.config
    where = prop.device.id + " " + prop.name + ": "
    if not template:
        raise ValueError(where + "there is no write to set it with")
    kind = prop.type
    if kind == "BOOLEAN":
        text = "1" if value else "0"
    elif kind in ("INT", "FLOAT", "DOUBLE"):
        value = (value - add) / multiply if add or multiply != 1 else value
        text = str(round(value) if kind == "INT" else value)
    else:
        text = value if kind == "STRING" else str(value, "utf-8")
        for letter in text:
            if letter < " ":
                raise ValueError(where + "a control character in the desired value")
    return line(template.replace("{value}", text), terminator, checksum)


def held(prop, data):
    """Whether the line `data` would set what was read last."""
    try:
        return encode(prop, meaning(prop)) == data
    except ValueError:
        return False


def reason(driver):
    """Why the last result of `driver` was REFUSED, SILENT or DOWN."""
    return driver.error
