"""Kubernetes' quantities: ``64Ki``, ``1.5M``, ``131072``, ``250m``."""

from decimal import Decimal, InvalidOperation

_POWERS = {
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
_UNITS = {"": Decimal(1), "m": Decimal("0.001"), **{unit: Decimal(each) for unit, each in _POWERS.items()}}


def amount_of(quantity: object) -> Decimal:
    """The number. Raises ValueError."""
    text = str(quantity).strip()
    number = text.rstrip("kKMGTim")
    unit = text[len(number) :]
    try:
        value = Decimal(number) * _UNITS[unit]
    except (InvalidOperation, KeyError) as error:
        raise ValueError(f'"{text}" is no quantity') from error
    if not value.is_finite() or not 0 <= value < 2**63:
        raise ValueError(f'"{text}" is out of range')
    return value


def bytes_of(quantity: object) -> int:
    """Whole bytes, rounded up. Raises ValueError."""
    return int(amount_of(quantity).to_integral_value(rounding="ROUND_CEILING"))
