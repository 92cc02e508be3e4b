"""Partition tables of ESP32 chips: MicroPython's CSV form, and the binary form within a firmware file.

The binary form is ESP-IDF's: entries of 32 bytes (magic aa 50, type, subtype, offset, size, label of 16,
flags), at 0x8000 of the flash, an MD5 entry behind them (magic eb eb).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

TABLE_AT = 0x8000
TABLE_SIZE = 0xC00
_ENTRY = struct.Struct("<2sBBII16sI")
_MAGIC = b"\xaa\x50"
SECTOR = 0x1000
APP_ALIGNMENT = 0x10000
_TYPES = {"app": 0, "data": 1}
_SUBTYPES = {"factory": 0, "ota_0": 0x10, "ota_1": 0x11, "ota": 0, "phy": 1, "nvs": 2, "fat": 0x81}


class PartitionError(ValueError):
    """A table that cannot be used; the text says which entry and why."""


@dataclass(frozen=True)
class Partition:
    """One entry: `type` and `subtype` as numbers, `offset` and `size` in bytes of flash."""

    label: str
    type: int
    subtype: int
    offset: int
    size: int


def read_csv(path: Path) -> dict[str, Partition]:
    """The table of `path` by label, checked. Raises PartitionError naming file and line."""
    table = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        fields = [field.strip() for field in line.partition("#")[0].split(",")]
        if not any(fields):
            continue
        try:
            label, kind, subtype, offset, size = fields[:5]
            subtypes = int(_SUBTYPES.get(subtype, -1))
            number_of = subtypes if subtypes >= 0 else int(subtype, 0)
            table.append(Partition(label, _TYPES[kind], number_of, int(offset, 0), int(size, 0)))
        except (ValueError, KeyError) as error:
            raise PartitionError(f"{path}:{number}: {line.strip()}: {error!r}") from error
    return checked(table)


def in_firmware(firmware: bytes, flash_offset: int) -> dict[str, Partition]:
    """The table within a firmware file that is written to `flash_offset`. Raises PartitionError."""
    start = TABLE_AT - flash_offset
    table = []
    for at in range(start, start + TABLE_SIZE, _ENTRY.size):
        entry = firmware[at : at + _ENTRY.size]
        if len(entry) < _ENTRY.size or entry[:2] != _MAGIC:
            break
        _, kind, subtype, offset, size, label, _ = _ENTRY.unpack(entry)
        table.append(Partition(label.rstrip(b"\0").decode("ascii", "replace"), kind, subtype, offset, size))
    if not table:
        raise PartitionError(f"no partition table at {start:#x} of the firmware file")
    return checked(table)


def checked(table: list[Partition]) -> dict[str, Partition]:
    """The table by label. Raises PartitionError where entries overlap, repeat or lie at an odd place."""
    end = 0
    for each in sorted(table, key=lambda each: each.offset):
        alignment = APP_ALIGNMENT if each.type == _TYPES["app"] else SECTOR
        if each.offset % alignment or each.size % SECTOR or each.size <= 0:
            raise PartitionError(
                f"partition {each.label} at {each.offset:#x} of {each.size:#x} is not aligned"
            )
        if each.offset < max(end, TABLE_AT + SECTOR):
            raise PartitionError(f"partition {each.label} at {each.offset:#x} overlaps what is before it")
        end = each.offset + each.size
    labels = {each.label: each for each in table}
    if len(labels) != len(table):
        raise PartitionError("two partitions have one label")
    return labels
