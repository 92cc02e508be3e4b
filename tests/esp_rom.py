"""An ESP32 in its boot loader at the end of a PTY, for the real esptool to talk to, and firmware for it.

It plays the loader in ROM and the one that esptool uploads (which is taken and not run), by Espressif's
serial protocol (https://docs.espressif.com/projects/esptool, "Serial Protocol"): SLIP frames of direction,
command, size, checksum or value, and data. The flash is NOR: programming clears bits, erasing sets them.
"""

from __future__ import annotations

import hashlib
import os
import select
import struct
import threading
import time
import tty
import zlib
from dataclasses import dataclass
from pathlib import Path

from motelet.tools.image.partitions import Partition, read_csv
from motelet.tools.lint import ROOT
from motelet.tools.setup import firmware

TABLE = ROOT / "boards" / "ESP32_GENERIC" / "partitions-stock.csv"
SECTOR = 4096
_END, _ESCAPE = b"\xc0", b"\xdb"
_MAGIC_AT = 0x40001000
_USER_COMMAND = 1 << 18
_READ_ID = 0x9F
_SYNC, _READ, _WRITE, _SECURITY = 0x08, 0x0A, 0x09, 0x14
_MEM_DATA, _MEM_END = 0x07, 0x06
_BEGIN, _DATA, _MD5, _ERASE = 0x10, 0x11, 0x13, 0xD0
_PLAIN = (0x0B, 0x0D, 0x0F, 0x05, 0x02, 0x04, 0x12)  # SPI parameters, baud rate, ..: taken as they come


def table(partitions: dict[str, Partition]) -> bytes:
    """ESP-IDF's binary form."""
    return b"".join(
        struct.pack(
            "<2sBBII16sI",
            b"\xaa\x50",
            each.type,
            each.subtype,
            each.offset,
            each.size,
            each.label.encode(),
            0,
        )
        for each in partitions.values()
    )


def firmware_file(path: Path, chip: str = "ESP32", version: str = "v1.26.0 on 2025-08-09") -> Path:
    """A file with what is read of a firmware, and noise."""
    offset = firmware.CHIPS[chip].offset
    content = bytearray(bytes(range(256)) * 1024)
    content[0] = 0xE9
    content[12:14] = struct.pack("<H", firmware.CHIPS[chip].number)
    entries = table(read_csv(TABLE))
    at = 0x8000 - offset
    content[at : at + len(entries) + 32] = entries + b"\xeb\xeb" + bytes(30)
    content[0x20000:0x20020] = version.encode().ljust(32, b"\0")
    path.write_bytes(content)
    return path


@dataclass(frozen=True)
class Chip:
    """What tells one chip from another: `magic` in ROM or an id, and where its SPI registers are."""

    magic: int
    number: int | None
    spi: int
    user2: int
    data: int


CHIPS = {
    "ESP32": Chip(0x00F01D83, None, 0x3FF42000, 0x24, 0x80),
    "ESP32-S3": Chip(0x9, 9, 0x60002000, 0x20, 0x58),
    "ESP32-C3": Chip(0x1B31506F, 5, 0x60002000, 0x20, 0x58),
}


class Rom:
    """The board: `port` is there while its cable is. A context manager: inside it has power.

    Its cable is pulled for a while after so many compressed blocks of `pulls`; `commands` counts what came.
    """

    def __init__(
        self, folder: Path, chip: str = "ESP32", megabytes: int = 4, pulls: tuple[int, ...] = ()
    ) -> None:
        self.port = folder / "ttyUSB0"
        self.flash = bytearray(megabytes << 20)
        self.commands: dict[int, int] = {}
        self.pulled = 0
        self._chip = CHIPS[chip]
        self._pulls = list(pulls)
        self._id = 0x40EF | (20 + megabytes.bit_length() - 1) << 16  # Winbond, size as a power of two
        self._registers = {_MAGIC_AT: self._chip.magic}
        self._stub = False
        self._inflate = zlib.decompressobj()
        self._at = self._erased = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Rom:
        self._plug()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._unplug()

    def _plug(self) -> None:
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self._received = b""
        self.port.symlink_to(os.ttyname(self._slave))

    def _unplug(self) -> None:
        self.port.unlink()
        os.close(self._master)
        os.close(self._slave)

    def _run(self) -> None:
        while not self._stop.is_set():
            if not select.select([self._master], [], [], 0.05)[0]:
                continue
            self._received += os.read(self._master, 65536)
            while self._received.count(_END) >= 2:
                _, frame, self._received = self._received.split(_END, 2)
                frame = frame.replace(_ESCAPE + b"\xdc", _END).replace(_ESCAPE + b"\xdd", _ESCAPE)
                if len(frame) >= 8:
                    _, command, size, check = struct.unpack("<BBHI", frame[:8])
                    self._take(command, frame[8 : 8 + size], check)
                if self._pulls and self._pulls[0] == 0:
                    del self._pulls[0]
                    self.pulled += 1
                    self._unplug()
                    time.sleep(0.3)
                    self._plug()

    def _send(self, frame: bytes) -> None:
        frame = frame.replace(_ESCAPE, _ESCAPE + b"\xdd").replace(_END, _ESCAPE + b"\xdc")
        os.write(self._master, _END + frame + _END)

    def _answer(self, command: int, value: int = 0, data: bytes = b"", error: int = 0) -> None:
        data += bytes((error != 0, error)) + (b"" if self._stub else b"\0\0")
        self._send(struct.pack("<BBHI", 1, command, len(data), value) + data)

    def _take(self, command: int, data: bytes, check: int) -> None:
        self.commands[command] = self.commands.get(command, 0) + 1
        if command == _SYNC:  # after a reset, which a PTY cannot tell of
            self._stub = False
            for _ in range(8):
                self._answer(command, 0x20120707)
        elif command == _READ:
            self._answer(command, self._registers.get(struct.unpack("<I", data)[0], 0))
        elif command == _WRITE:
            self._write_register(*struct.unpack("<II", data[:8]))
            self._answer(command)
        elif command == _SECURITY and self._chip.number is not None:
            self._answer(command, data=bytes(12) + struct.pack("<II", self._chip.number, 0))
        elif command in (_MEM_DATA, _DATA) and self._checksum(data[16:]) != check:
            self._answer(command, error=7)
        elif command == _MEM_DATA or command in _PLAIN:
            self._answer(command)
        elif command == _MEM_END:
            self._answer(command)
            self._stub = True
            self._send(b"OHAI")
        elif self._stub and command in (_BEGIN, _DATA, _MD5, _ERASE):
            self._answer(command, data=self._stub_command(command, data))
        else:
            self._answer(command, error=5)

    def _write_register(self, at: int, value: int) -> None:
        chip = self._chip
        if at != chip.spi:
            self._registers[at] = value
        elif value & _USER_COMMAND and self._registers[chip.spi + chip.user2] & 0xFF == _READ_ID:
            self._registers[chip.spi + chip.data] = self._id

    def _stub_command(self, command: int, data: bytes) -> bytes:
        if command == _MD5:
            at, size = struct.unpack("<II", data[:8])
            return hashlib.md5(self.flash[at : at + size]).digest()
        if command == _ERASE:
            self.flash[:] = b"\xff" * len(self.flash)
        elif command == _BEGIN:
            self._inflate = zlib.decompressobj()
            self._at = self._erased = struct.unpack("<IIII", data[:16])[3]
        else:
            self._program(self._inflate.decompress(data[16:]))
            if self._pulls:
                self._pulls[0] -= 1
        return b""

    def _program(self, data: bytes) -> None:
        end = self._at + len(data)
        while self._erased < end:
            self.flash[self._erased : self._erased + SECTOR] = b"\xff" * SECTOR
            self._erased += SECTOR
        there = int.from_bytes(self.flash[self._at : end], "big")
        self.flash[self._at : end] = (there & int.from_bytes(data, "big")).to_bytes(len(data), "big")
        self._at = end

    @staticmethod
    def _checksum(data: bytes) -> int:
        check = 0xEF
        for byte in data:
            check ^= byte
        return check
