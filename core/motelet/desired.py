"""What a desired value means. Borrowed: it changes seldom (`motelet.borrow`).

minimum and maximum bound what is written. What a device reports is reported, whatever it is.
"""

from motelet.device import READ_WRITE


def convert(prop):
    """The desired value of `prop` in its type, checked against accessMode, minimum and maximum.

    int, float (finite), bool, str or bytes. Raises ValueError.
    """
    kind = prop.type
    text = prop.desired
    where = f"{prop.device.id} {prop.name}: desired {text}"
    if not prop.flags & READ_WRITE:
        raise ValueError(where + " of a ReadOnly property")
    if kind in ("STRING", "BYTES"):
        return text if kind == "STRING" else text.encode()
    if kind == "BOOLEAN":
        value = text.lower()
        if value not in ("true", "false", "1", "0"):
            raise ValueError(where + " is not a BOOLEAN")
        return value in ("true", "1")
    try:
        value = int(text) if kind == "INT" else float(text)
    except ValueError:
        raise ValueError(f"{where} is not of type {kind}")
    if value - value != 0:  # infinite, or not a number
        raise ValueError(where + " is not finite")
    low, high = prop.limits or (None, None)
    if low is not None and value < low:
        raise ValueError(f"{where} is below minimum {low}")
    if high is not None and value > high:
        raise ValueError(f"{where} is above maximum {high}")
    return value
