"""A whole connected gateway's heap, and what it allocates while nothing changes, at both object sizes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

from motelet.tools.bench import interpreters, world
from motelet.tools.bench.figures import Figure
from motelet.tools.cli import UserError
from motelet.tools.image import build


def measure() -> Iterator[Figure]:
    """`core.heap_connected[_32]_bytes`, `core.heap_started[_32]_bytes` and `core.alloc_*[_32]_bytes`.

    And `core.heap_romfs_bytes`, which is `core.heap_connected_bytes`, the same gateway with the same devices,
    where the code runs in place from ROMFS and is not loaded from the file system.

    Started is before the link is up and the first device has come: the modules without their data.
    At 64 bits over TLS in a heap of 128 KiB; at 32 bits without TLS, which that interpreter lacks.
    The bytes of `core.alloc_*` are those of all n rounds together.
    """
    yield from _run("", tls=True)
    yield Figure("core.heap_romfs_bytes", _romfs(), "bytes")
    yield from _run("_32", tls=False)


def _run(suffix: str, tls: bool) -> Iterator[Figure]:
    folder = interpreters.ROOT / f"gateway{suffix}"
    shutil.rmtree(folder, ignore_errors=True)
    with world.running(folder, tls) as peers:
        command = interpreters.command64 if tls else interpreters.command32
        # Not as an argument: MicroPython takes none of more than 255 characters.
        config = folder / "gateway.json"
        config.write_text(json.dumps(peers.config))
        before = peers.field.requests
        with interpreters.running(command("start_probe", str(config))) as answers:
            figures = list(_figures(answers, peers.manifests))
        polls = sum(n for name, _, n in figures if name == "alloc_unchanged_poll")
        if peers.field.requests - before < polls * world.DEVICES * world.PROPERTIES:
            raise UserError("the gateway did not read its devices as often as it was made to")
    names = dict.fromkeys(name for name, _, _ in figures)
    for name in names:
        values = [value for each, value, _ in figures if each == name]
        rounds = sum(n for each, _, n in figures if each == name)
        yield Figure(f"core.{name}{suffix}_bytes", max(values), "bytes", rounds, max(values) - min(values))


def _romfs() -> int:
    folder = interpreters.ROOT / "gateway-romfs"
    shutil.rmtree(folder, ignore_errors=True)
    with world.running(folder, tls=True) as peers:
        config, rom, lib = folder / "gateway.json", folder / "rom.img", folder / "lib"
        config.write_text(json.dumps(peers.config))
        shutil.copytree(interpreters.board_files() / "motelet", lib / "motelet")
        build.write_romfs(lib, rom)
        with interpreters.running(interpreters.command64("rom_probe", str(rom), str(config))) as answers:
            return next(int(each["bytes"]) for each in answers if each.get("figure") == "heap_connected")


def _figures(answers: Iterator[dict[str, Any]], manifests: world.Manifests) -> Iterator[tuple[str, int, int]]:
    """What the probe prints: name, bytes, rounds. Gives it a new desired value each time it wants one."""
    desired = 201
    for answer in answers:
        if "wanted" in answer:
            manifests.device(1, desired)
            desired += 1
        else:
            yield answer["figure"], int(answer["bytes"]), int(answer["n"])
