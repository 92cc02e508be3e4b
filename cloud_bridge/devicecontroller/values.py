"""Values of properties between their three shapes: a board's, KubeEdge's text, and a DeviceModel's limits.

KubeEdge has every value as a text. A board has numbers, and its mapper decides what they mean; so a
desired text is only checked here, and only a reported value is turned into text.
"""

import base64
import binascii
import math
import struct
from decimal import Decimal

TYPES = ("INT", "FLOAT", "DOUBLE", "BOOLEAN", "STRING", "BYTES")
NUMBERS = ("INT", "FLOAT", "DOUBLE")

_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1
_TWIN_TYPES = {"INT": "int", "FLOAT": "float", "DOUBLE": "float", "BOOLEAN": "boolean"}
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "INT": (int,),
    "FLOAT": (int, float),
    "DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "STRING": (str,),
    "BYTES": (bytes,),
}

Value = int | float | bool | str | bytes


def twin_type(kind: str) -> str:
    """The name that a KubeEdge twin has for a DeviceModel's type; it knows no double and no bytes."""
    return _TWIN_TYPES.get(kind, "string")


def type_of(value: Value) -> str:
    """The DeviceModel type that a reported value is of when nothing else is known of its property."""
    return next(kind for kind, types in _PYTHON_TYPES.items() if type(value) in types and kind != "FLOAT")


def to_text(kind: str, value: Value) -> str:
    """The text of a reported value of the type `kind`. Raises ValueError when it is not of that type.

    Numbers are the shortest decimal that reads back as the same value, without an exponent; that of a
    FLOAT in 32 bits. Bytes are in base64.
    """
    if type(value) not in _PYTHON_TYPES[kind]:
        raise ValueError(f"a {type(value).__name__} is not of type {kind}")
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return _float_text(_nearest_32(value) if kind == "FLOAT" else repr(value))
        case bytes():
            return base64.b64encode(value).decode("ascii")
    return value


def parse(kind: str, text: str) -> int | float | None:
    """Check that `text` is a value of the type `kind`; the number that it is, None if it is none.

    Raises ValueError with the reason.
    """
    if kind == "INT":
        return _parse_int(text)
    if kind in NUMBERS:
        return _parse_float(text)
    if kind == "BOOLEAN" and text not in ("true", "false"):
        raise ValueError(f'"{text}" is neither "true" nor "false"')
    if kind == "BYTES":
        try:
            base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise ValueError(f'"{text}" is not base64') from error
    return None


def _parse_int(text: str) -> int:
    # int() alone takes "1_000", " 1" and digits of any script.
    if not text.isascii() or not text.removeprefix("-").isdigit() or len(text) > 20:
        raise ValueError(f'"{text}" is not a whole number')
    number = int(text)
    if not _INT_MIN <= number <= _INT_MAX:
        raise ValueError(f'"{text}" does not fit 64 bits')
    return number


def _parse_float(text: str) -> float:
    try:
        number = float(text) if text.isascii() and "_" not in text and text.strip() == text else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f'"{text}" is not a number')
    return number


def _nearest_32(value: float) -> str:
    """The shortest decimal that means the same 32-bit float as `value` does."""
    if not math.isfinite(value):
        return repr(value)
    wanted = struct.pack("f", value)  # what is too large becomes infinite
    texts = (f"{value:.{digits}g}" for digits in range(1, 10))
    return next(text for text in texts if struct.pack("f", float(text)) == wanted)


def _float_text(text: str) -> str:
    """The decimal `text` without exponent and without a fraction of zero, as Go formats it with ``f``."""
    special = {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}
    if text in special:
        return special[text]
    plain = format(Decimal(text), "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain
