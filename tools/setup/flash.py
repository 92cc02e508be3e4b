"""`motelet flash`: write MicroPython, and the code as a file system, to the flash of a board, with esptool.

The board is looked at before anything is written, and what would be lost is asked for. Each file is verified
first and written only where it differs, and verified afterwards; so a run whose cable was pulled goes on when
the cable is back, or when the same command is given again.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from motelet.tools.cli import UserError
from motelet.tools.image.build import littlefs_image
from motelet.tools.setup import firmware, ports
from motelet.tools.setup.firmware import Firmware

ESPTOOL = [sys.executable, "-m", "esptool"]
BAUD = 460800
TRIES = 10  # broken connections in one run, before it is given up
_PAUSE_S = 1.0
_CHIP = re.compile(r"Connected to (ESP32\S*) on ")  # its line "Chip type" names the package: ESP32-D0WDQ6
_SIZE = re.compile(r"flash size: (\d+)MB")


@dataclass(frozen=True)
class Piece:
    """A file and where it goes; `loses` is what a person loses by it."""

    offset: int
    path: Path
    loses: str


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `motelet flash`."""
    parser.add_argument(
        "--firmware", type=Path, required=True, metavar="FILE", help="MicroPython's .bin file"
    )
    parser.add_argument("--files", type=Path, metavar="DIR", help="the code, build/image/BOARD/lib")
    parser.add_argument("--port", help="serial port (default: the one board on USB)")
    parser.add_argument(
        "--erase", action="store_true", help="erase all of the flash first, settings and store too"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask before erasing")
    parser.add_argument("--dry-run", action="store_true", help="print the commands, and do nothing")


def run(args: argparse.Namespace) -> int:
    """Flash; returns 0 when the board holds what was asked for, verified."""
    image = firmware.read(args.firmware)
    with tempfile.TemporaryDirectory() as folder:
        pieces = _pieces(image, args.files, Path(folder))
        if args.dry_run:
            _print(args.port or "PORT", image, pieces, args.erase)
            return 0
        port = ports.find(args.port)
        _check_board(port, image)
        if args.erase:
            _ask(args.yes, ["everything on the board: settings, store, files"])
            _retried(port, [*_esptool(port, image), "erase-flash"])
        wrong = [piece for piece in pieces if not _verified(port, image, piece)]
        if not args.erase:
            _ask(args.yes, [piece.loses for piece in wrong])
        for piece in wrong:
            _retried(port, _write(port, image, piece))
            if not _verified(port, image, piece):
                raise UserError(f"{port}: the flash does not hold what was written to {piece.offset:#x}")
    print(f"{port}: MicroPython {image.version}; {len(wrong)} of {len(pieces)} files written, verified")
    return 0


def _pieces(image: Firmware, files: Path | None, folder: Path) -> list[Piece]:
    pieces = [Piece(image.chip.offset, image.path, "the firmware that is on the board")]
    if files is not None:
        place = image.partitions.get("vfs")
        if place is None:
            raise UserError(f"{image.path}: no partition vfs to put files in")
        content = folder / "vfs.img"
        content.write_bytes(littlefs_image(files, place.size))
        pieces.append(Piece(place.offset, content, "the files on the board"))
    return pieces


def _check_board(port: str, image: Firmware) -> None:
    """UserError unless the board on `port` is one for `image`."""
    told = _retried(port, [*ESPTOOL, "--port", port, "flash-id"], quiet=True)
    chip, size = _CHIP.search(told), _SIZE.search(told)
    if chip is None or size is None:
        raise UserError(f"{port}: esptool does not say which chip it is:\n{told}")
    if chip[1] != image.chip.name:
        raise UserError(f"{image.path} is for {image.chip.name}, the board on {port} is {chip[1]}")
    end = max(each.offset + each.size for each in image.partitions.values())
    if end > int(size[1]) << 20:
        raise UserError(f"{image.path} needs {end >> 20} MB of flash, the board has {size[1]}")
    print(f"{port}: {chip[1]}, {size[1]} MB; {image.path.name}: MicroPython {image.version}")


def _ask(yes: bool, loses: list[str]) -> None:
    """Ask whether all of `loses` may go. UserError if not, or if nobody is there to say so."""
    if not loses or yes:
        return
    if not sys.stdin.isatty():
        raise UserError(f"this erases {' and '.join(loses)}: --yes says that it may")
    if input(f"this erases {' and '.join(loses)}. Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UserError("nothing was erased")


def _esptool(port: str, image: Firmware) -> list[str]:
    chip = image.chip.name.lower().replace("-", "")
    return [*ESPTOOL, "--chip", chip, "--port", port, "--baud", str(BAUD)]


def _write(port: str, image: Firmware, piece: Piece) -> list[str]:
    return [*_esptool(port, image), "write-flash", hex(piece.offset), str(piece.path)]


def _verify(port: str, image: Firmware, piece: Piece) -> list[str]:
    return [*_esptool(port, image), "verify-flash", hex(piece.offset), str(piece.path)]


def _verified(port: str, image: Firmware, piece: Piece) -> bool:
    """Whether the flash holds the file already."""
    told = _retried(port, _verify(port, image, piece), quiet=True, differs="digest mismatch")
    return "digest mismatch" not in told


def _retried(port: str, command: list[str], quiet: bool = False, differs: str | None = None) -> str:
    """Run esptool, again after a broken connection; -> what it printed, if `quiet`.

    Otherwise its progress is shown as it comes. `differs` is an answer that is none of a failure. UserError
    when it fails and the board stays reachable, or fails too often.
    """
    for _ in range(TRIES):
        ports.wait(port)
        done = subprocess.run(
            command, stdout=subprocess.PIPE if quiet else None, stderr=subprocess.STDOUT, text=True
        )
        told = done.stdout or ""
        if done.returncode == 0 or (differs is not None and differs in told):
            return told
        print(f"esptool failed ({done.returncode}), trying again\n{told[-400:]}", file=sys.stderr)
        time.sleep(_PAUSE_S)
    raise UserError(f"{port}: gave up after {TRIES} tries of: {shlex.join(command)}")


def _print(port: str, image: Firmware, pieces: list[Piece], erase: bool) -> None:
    print(f"# {image.path.name}: {image.chip.name}, MicroPython {image.version}")
    commands = [[*ESPTOOL, "--port", port, "flash-id"]]
    if erase:
        commands.append([*_esptool(port, image), "erase-flash"])
    for piece in pieces:
        commands += [_write(port, image, piece), _verify(port, image, piece)]
    for command in commands:
        print(shlex.join(command))
