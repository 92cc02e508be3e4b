"""What a board is given, in bytes of flash, and the heap of a gateway whose code runs in place from ROMFS."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

from motelet.tools.bench import interpreters, world
from motelet.tools.bench.figures import Figure
from motelet.tools.image import build, command


def measure() -> Iterator[Figure]:
    """`image.mpy_bytes.<board>`, `image.romfs_bytes.<board>`, and `core.heap_romfs_bytes`.

    The last is `core.heap_connected_bytes`, the same gateway with the same devices, from ROMFS.
    """
    for board in command.names():
        folder = interpreters.ROOT / "image" / board
        folder.mkdir(parents=True, exist_ok=True)
        image = build.build(command.BOARDS / board, folder)
        yield Figure(f"image.mpy_bytes.{board}", image.mpy_bytes, "bytes", len(image.files))
        yield Figure(f"image.romfs_bytes.{board}", image.romfs, "bytes")
    yield Figure("core.heap_romfs_bytes", _heap(), "bytes")


def _heap() -> int:
    folder = interpreters.ROOT / "gateway-romfs"
    shutil.rmtree(folder, ignore_errors=True)
    with world.running(folder, tls=True) as peers:
        config = folder / "gateway.json"
        config.write_text(json.dumps(peers.config))
        rom = folder / "rom.img"
        lib = folder / "lib"
        shutil.copytree(interpreters.board_files() / "motelet", lib / "motelet")
        build.write_romfs(lib, rom)
        with interpreters.running(interpreters.command64("rom_probe", str(rom), str(config))) as answers:
            return next(int(each["bytes"]) for each in answers if each.get("figure") == "heap_connected")
