"""What a MicroPython firmware file for an ESP32 says of itself: chip, version, partitions.

An image of ESP-IDF begins with e9; bytes 12 and 13 are the chip's number (esp_image_header_t). The file
starts at the flash offset where the chip's ROM looks for its bootloader.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

from motelet.tools.cli import UserError
from motelet.tools.image.partitions import Partition, PartitionError, in_firmware

VERSION_MIN = (1, 24, 0)  # the first whose modules have all that core uses
_VERSION = re.compile(rb"v(\d+)\.(\d+)\.(\d+)[\w.+-]* on 20\d\d-\d\d-\d\d")
_MAGIC = 0xE9
_CHIP_AT = 12


@dataclass(frozen=True)
class Chip:
    """`number` is what images of it say, `offset` where its firmware begins in flash."""

    name: str
    number: int
    offset: int


CHIPS = {
    chip.name: chip for chip in (Chip("ESP32", 0, 0x1000), Chip("ESP32-S3", 9, 0), Chip("ESP32-C3", 5, 0))
}


@dataclass(frozen=True)
class Firmware:
    """A file that was read: `version` as MicroPython prints it, `partitions` by label."""

    path: Path
    chip: Chip
    version: str
    partitions: dict[str, Partition]


def read(path: Path) -> Firmware:
    """Read and check the file. UserError naming what is wrong with it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    if len(data) < 0x10000 or data[0] != _MAGIC:
        raise UserError(f"{path}: no firmware image for an ESP32 (.bin)")
    (number,) = struct.unpack_from("<H", data, _CHIP_AT)
    chip = next((each for each in CHIPS.values() if each.number == number), None)
    if chip is None:
        raise UserError(f"{path}: for chip number {number}, which is none of {', '.join(CHIPS)}")
    found = _VERSION.search(data)
    if found is None:
        raise UserError(f"{path}: no version of MicroPython in it")
    version = tuple(int(part) for part in found.groups())
    if version < VERSION_MIN:
        least = ".".join(map(str, VERSION_MIN))
        raise UserError(f"{path}: MicroPython {'.'.join(map(str, version))}, at least {least} is needed")
    try:
        table = in_firmware(data, chip.offset)
    except PartitionError as error:
        raise UserError(f"{path}: {error}") from error
    return Firmware(path, chip, found[0].decode(), table)
