"""`motelet image`: compile what a board is given, build its images, and say how large everything is."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from motelet.tools.cli import EXIT_FAILURE, UserError
from motelet.tools.image import index
from motelet.tools.image.build import Image, build
from motelet.tools.lint import ROOT

BOARDS = ROOT / "boards"
LIMITS = BOARDS / "limits.json"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `motelet image`."""
    parser.add_argument("board", metavar="BOARD", help=f"one of {', '.join(names())}")
    parser.add_argument("--output", type=Path, help="folder to write (default build/image/BOARD)")


def names() -> list[str]:
    """The boards that take an image."""
    return sorted(path.parent.name for path in BOARDS.glob("*/partitions.csv"))


def run(args: argparse.Namespace) -> int:
    """Build; returns 1 when something is larger than its limit."""
    if args.board not in names():
        raise UserError(f"{args.board} takes no image: {', '.join(names())} do")
    folder = args.output or ROOT / "build" / "image" / args.board
    folder.mkdir(parents=True, exist_ok=True)
    image = build(BOARDS / args.board, folder)
    files = {name: (folder / "lib" / name).read_bytes() for name in image.files}
    parts = index.write(files, folder / "index")
    (folder / "ledger.json").write_text(json.dumps(ledger(image, parts), indent=1) + "\n")
    for name, size in parts.items():
        print(f"{name:24} {size:8} bytes")
    for name, size in figures(image).items():
        print(f"{name:24} {size:8} bytes of {limits()[name]}")
    print(f"{folder}: both images mount; index/ is for mpremote mip, ledger.json has every file")
    return EXIT_FAILURE if excesses(image) else 0


def figures(image: Image) -> dict[str, int]:
    """What boards/limits.json limits, in bytes."""
    return {"mpy_bytes": image.mpy_bytes, "romfs_bytes": image.romfs, "littlefs_bytes": image.littlefs}


def limits() -> dict[str, int]:
    """The limits that CI holds."""
    known: dict[str, int] = json.loads(LIMITS.read_text())
    return known


def excesses(image: Image) -> list[str]:
    """What is larger than its limit."""
    return [name for name, size in figures(image).items() if size > limits()[name]]


def ledger(image: Image, parts: dict[str, int]) -> dict[str, dict[str, int]]:
    """Every file, every part and every image with its size in bytes."""
    return {"images": figures(image), "parts": parts, "files": dict(image.files)}
