"""When the image on the board was built: where a clock that was never set starts. Borrowed."""

import sys

from micropython import const

_DAYS = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)
_DAY_MS = const(86400000)


def built_ms():
    """-> ms since 1970: of the image (`make image` writes motelet/built.py), else the firmware's own date."""
    try:
        from motelet.built import EPOCH_S

        return EPOCH_S * 1000
    except ImportError:
        return of_version(sys.version)


def of_version(text):
    """-> ms since 1970 of `sys.version`: "..; MicroPython v1.26.0 on 2025-08-09". ValueError without one."""
    year, month, day = [int(part) for part in text[text.rfind(" on ") + 4 :][:10].split("-")]
    days = (year - 1970) * 365 + (year - 1969) // 4 + _DAYS[month - 1] + day - 1
    if month > 2 and year % 4 == 0:
        days += 1
    return days * _DAY_MS
