"""What a board is given, in bytes of flash."""

from __future__ import annotations

from collections.abc import Iterator

from motelet.tools.bench import interpreters
from motelet.tools.bench.figures import Figure
from motelet.tools.image import build, command


def measure() -> Iterator[Figure]:
    """`image.mpy_bytes.<board>` and `image.romfs_bytes.<board>`."""
    for board in command.names():
        folder = interpreters.ROOT / "image" / board
        folder.mkdir(parents=True, exist_ok=True)
        image = build.build(command.BOARDS / board, folder)
        yield Figure(f"image.mpy_bytes.{board}", image.mpy_bytes, "bytes", len(image.files))
        yield Figure(f"image.romfs_bytes.{board}", image.romfs, "bytes")
