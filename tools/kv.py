"""`motelet kv`: look into the flash image of a gateway without changing it.

The image is read into RAM and mounted there, so everything here sees what the gateway would see after
a power cut at this moment, and the file stays as it is, even while a gateway runs on it. Secrets are
encrypted; with the gateway's key (`--key-file`) they are read too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from motelet.kvlog import Store, StoreError
from motelet.ports.unix.cpython import Aes
from motelet.tools.cli import UserError

MAGIC = b"mkv1"
BLOCK_SIZES = (4096, 8192, 16384, 32768, 65536, 2048)
SEQUENCE_AT = 4
UNIT_AT = 18
BLOCKS_AT = 20
KEY_SIZE = 32


class ImageFlash:
    """The flash of `motelet.kvlog` in RAM."""

    def __init__(self, image: bytes, block_size: int, prog_size: int) -> None:
        self.image = bytearray(image)
        self.block_size = block_size
        self.prog_size = prog_size
        self.blocks = len(image) // block_size

    def read(self, offset: int, buf: memoryview) -> None:
        buf[:] = self.image[offset : offset + len(buf)]

    def prog(self, offset: int, buf: memoryview) -> None:
        self.image[offset : offset + len(buf)] = buf

    def erase(self, block: int) -> None:
        start = block * self.block_size
        self.image[start : start + self.block_size] = b"\xff" * self.block_size

    def sync(self) -> None:
        """RAM is as durable as it gets."""


class Vault:
    """What a store opens sealed values with (`motelet.kvseal`): a copy of the gateway's key."""

    aes = Aes

    def __init__(self, path: Path) -> None:
        self._path = path

    def secret_key(self) -> bytes:
        key = self._path.read_bytes()
        if len(key) != KEY_SIZE:
            raise ValueError(f"{self._path} is no key of {KEY_SIZE} bytes")
        return key


def open_image(path: Path, key_file: Path | None) -> tuple[Any, list[tuple[int, int]]]:
    """Mount a copy of the image: the store, and (block, page) of each damage. UserError for no store.

    `key_file` holds the key of its Secrets, None without one.
    """
    image = path.read_bytes()
    block_size, prog_size = geometry(image, path)
    store = Store(ImageFlash(image, block_size, prog_size))
    if key_file is not None:
        store.vault = Vault(key_file)
    damage: list[tuple[int, int]] = []
    store.on_damage = lambda block, page: damage.append((block, page))
    store.mount()
    return store, damage


def geometry(image: bytes, path: Path) -> tuple[int, int]:
    """Block and program size, from the first block header found."""
    for block_size in BLOCK_SIZES:
        if len(image) % block_size:
            continue
        for start in range(0, len(image), block_size):
            header = image[start : start + BLOCKS_AT + 4]
            blocks = int.from_bytes(header[BLOCKS_AT : BLOCKS_AT + 4], "little")
            if header.startswith(MAGIC) and blocks * block_size == len(image):
                return block_size, int.from_bytes(header[UNIT_AT : UNIT_AT + 2], "little")
    raise UserError(f"{path} is not an image of a motelet store")


def values(store: Any, prefix: str) -> Iterator[tuple[str, bytes | None]]:
    """Keys in order, each with its value, None when that is damaged or cannot be decrypted."""
    for key in sorted(store.keys(prefix)):
        yield key, value_of(store, key)


def value_of(store: Any, key: str) -> bytes | None:
    """The value, None when there is none, or it is damaged or encrypted; UserError for a bad key file."""
    try:
        value: bytes | None = store.get(key)
    except StoreError as error:
        if store.vault is not None:
            raise UserError(str(error)) from error
        return None
    return value


def inspect(args: argparse.Namespace) -> int:
    """Print the keys with the sizes of their values, and how full and how worn the store is."""
    store, _ = open_image(args.image, args.key_file)
    flash = store.flash
    rows = [
        (key, store.length(key), digest(value) if value is not None else None)
        for key, value in values(store, args.prefix)
        if value is not None or key in store
    ]
    if args.json:
        print(json.dumps([{"key": key, "size": size, "sha256": sha256} for key, size, sha256 in rows]))
        return 0
    width = max([len(key) for key, _, _ in rows], default=3)
    print(f"{'KEY':<{width}}  {'SIZE':>8}  SHA256")
    for key, size, sha256 in rows:
        print(f"{key:<{width}}  {size:>8}  {sha256[:16] if sha256 else 'encrypted'}")
    in_use = store.used * flash.prog_size
    print(f"{len(rows)} keys; {in_use} bytes in use, {store.spare} of {flash.blocks} blocks free")
    wear = newest_sequence(flash) / flash.blocks
    print(f"{store.retired} blocks retired, {store.damaged} records damaged, {wear:.1f} erases a block")
    return 0


def newest_sequence(flash: ImageFlash) -> int:
    """The highest sequence of a block: how many blocks were ever opened."""
    size = flash.block_size
    heads = [bytes(flash.image[block * size : block * size + 8]) for block in range(flash.blocks)]
    return max(int.from_bytes(head[SEQUENCE_AT:], "little") for head in heads if head.startswith(MAGIC))


def digest(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()


def verify(args: argparse.Namespace) -> int:
    """Read everything; exit status 1 when anything is damaged."""
    store, damage = open_image(args.image, args.key_file)
    count = sum(1 for _ in values(store, ""))
    for block, page in damage:
        print(f"damaged: block {block}, page {page}")
    print(f"{count} keys, {store.damaged} damaged, {store.retired} blocks retired")
    return 1 if store.damaged else 0


def export(args: argparse.Namespace) -> int:
    """Write one value to standard output or a file, or all values as files below a folder."""
    store, _ = open_image(args.image, args.key_file)
    if args.key is not None:
        value = value_of(store, args.key)
        if value is None:
            why = "does not hold" if args.key not in store else "holds encrypted or damaged:"
            raise UserError(f"{args.image} {why} {args.key}")
        if args.to is None:
            sys.stdout.buffer.write(value)
        else:
            args.to.write_bytes(value)
        return 0
    if args.to is None:
        raise UserError("say which --key to print, or a folder with --to for all of them")
    for number, (key, value) in enumerate(values(store, args.prefix)):
        if value is not None:
            write_value(args.to, key, value, number)
    return 0


def write_value(folder: Path, key: str, value: bytes, number: int) -> None:
    """Write `value` below `folder` under its key; a key that is no plain path gets a number for a name."""
    parts = key.split("/")
    if any(part in ("", ".", "..") or "\0" in part or len(part.encode()) > 255 for part in parts):
        parts = [f"key-{number}"]
    target = folder.joinpath(*parts)
    if target.is_dir() or any(parent.is_file() for parent in target.parents):
        target = folder / f"key-{number}"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(value)
    print(f"{key} -> {target}")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `motelet kv`."""
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for function, summary in (
        (inspect, "list keys, sizes and digests"),
        (verify, "read everything and say what is damaged"),
        (export, "write values out"),
    ):
        command = commands.add_parser(function.__name__, help=summary, description=function.__doc__)
        command.add_argument("image", type=Path, help="the flash image or the gateway's store file")
        command.add_argument(
            "--key-file", type=Path, help="the key of its Secrets, the gateway's file CONFIG.json.key"
        )
        command.set_defaults(function=function)
        if function is not verify:
            command.add_argument("--prefix", default="", help="only keys that start so")
        if function is inspect:
            command.add_argument("--json", action="store_true", help="for other programs")
        if function is export:
            command.add_argument("--key", help="this key only")
            command.add_argument("--to", type=Path, help="file (with --key) or folder")


def run(args: argparse.Namespace) -> int:
    """Do what `configure` parsed; returns the exit status."""
    return int(args.function(args))
