"""A flash in RAM whose power can be cut at any of its operations, in each way that hurts.

Two kinds of flash are played. A NOR chip does what it is told in order, and the one operation that was cut
is left undone, half done, or *weak*: its bits read differently each time. A file keeps nothing in order:
what was not synced is there or not, 512 bytes at a time.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

BLANK = 0xFF
SECTOR_SIZE = 512

# How a program or erase is cut. "lost": nothing happened; "done": all of it, and then no power; "first" and
# "last": torn after one byte, and one byte before the end; "torn": after any byte (drawn from the seed);
# "half": in the middle; "weak": all of it, each bit unsure; "torn-weak": the part behind any byte unsure.
NOR_MODES = ("lost", "done", "first", "last", "torn", "half", "weak", "torn-weak")
# How a file is cut: each sector of each operation since the last sync is drawn, or all of it is lost.
FILE_MODES = ("unsynced-lost", "unsynced-some", "unsynced-most")


class PowerCutError(BaseException):
    """The power went. Not an Exception: no handler in the code under test may mistake it for a failure."""


class FlashRuleError(BaseException):
    """The store did what a flash does not allow: a bug by itself."""


@dataclass
class Journal:
    """The content before each operation since the last sync, so that a cut may undo it."""

    entries: list[tuple[int, bytes, bytes]] = field(default_factory=list)


class CutFlash:
    """The flash interface of `motelet.kvlog`.

    `arm(operation, mode, seed)` cuts the power at the operation of that index, counted from now.
    `operations` counts programs and erases (and syncs, of a file). `stuck` are blocks that fail from now on.
    """

    def __init__(self, blocks: int, prog_size: int, *, as_file: bool = False, block_size: int = 4096) -> None:
        self.block_size = block_size
        self.blocks = blocks
        self.prog_size = prog_size
        self.as_file = as_file
        self.image = bytearray([BLANK]) * (blocks * block_size)
        self.weak: dict[int, list[tuple[int, bytes, bytes]]] = {}  # block -> [(offset, low bits, high bits)]
        self.stuck: set[int] = set()
        self.journal = Journal()
        self.operations = 0
        self.erases = 0
        self.erases_of = [0] * blocks
        self.programmed = 0
        self._cut_at = -1
        self._mode = ""
        self._rng = random.Random(0)

    def clone(self) -> CutFlash:
        """The same flash with the power on and no cut armed."""
        other = CutFlash.__new__(CutFlash)
        other.__dict__.update(self.__dict__)
        other.image = bytearray(self.image)
        other.weak = {block: list(spots) for block, spots in self.weak.items()}
        other.stuck = set(self.stuck)
        other.journal = Journal(list(self.journal.entries))
        other.erases_of = list(self.erases_of)
        other._cut_at = -1
        return other

    def modes(self) -> tuple[str, ...]:
        return FILE_MODES if self.as_file else NOR_MODES

    def arm(self, operation: int, mode: str, seed: str) -> None:
        self.operations = 0
        self._cut_at = operation
        self._mode = mode
        self._rng = random.Random(seed)

    def count(self) -> None:
        """Count operations from now and cut at none."""
        self.operations = 0
        self._cut_at = -1

    def reseed(self, seed: str) -> None:
        """What weak bits read as from now on."""
        self._rng = random.Random(seed)

    def read(self, offset: int, buf: bytearray | memoryview) -> None:
        end = offset + len(buf)
        if offset < 0 or end > len(self.image):
            raise FlashRuleError(f"read of {len(buf)} bytes at {offset}")
        buf[:] = self.image[offset:end]
        if self.weak:
            for start, low, high in self.weak.get(offset // self.block_size, ()):
                self._read_weak(offset, buf, start, low, high)

    def _read_weak(
        self, offset: int, buf: bytearray | memoryview, start: int, low: bytes, high: bytes
    ) -> None:
        first = max(offset, start)
        last = min(offset + len(buf), start + len(low))
        # Often one bit in a few, now and then all of one side: both fool different checks.
        style = self._rng.random()
        for at in range(first, last):
            unsure = low[at - start] ^ high[at - start]
            drawn = self._rng.getrandbits(8)
            if style < 0.25:
                drawn = 0
            elif style < 0.5:
                drawn = 255
            elif style < 0.75:
                drawn |= self._rng.getrandbits(8) | self._rng.getrandbits(8)
            buf[at - offset] = low[at - start] | (unsure & drawn)

    def prog(self, offset: int, buf: bytes | bytearray | memoryview) -> None:
        size = len(buf)
        block = offset // self.block_size
        if size == 0 or offset % self.prog_size or size % self.prog_size:
            raise FlashRuleError(f"program of {size} bytes at {offset}")
        if block != (offset + size - 1) // self.block_size:
            raise FlashRuleError(f"program across blocks at {offset}")
        old = bytes(self.image[offset : offset + size])
        if old.count(BLANK) != size:
            raise FlashRuleError(f"program over programmed bytes at {offset}")
        for start, low, _ in self.weak.get(block, ()):
            if start < offset + size and offset < start + len(low):
                raise FlashRuleError(f"program over half-programmed bytes at {offset}")
        new = bytes(buf)
        if block in self.stuck:
            new = bytes([new[0] & 0xFE]) + new[1:]
        self.programmed += size
        self._operate(offset, old, new)

    def erase(self, block: int) -> None:
        if not 0 <= block < self.blocks:
            raise FlashRuleError(f"erase of block {block}")
        start = block * self.block_size
        old = bytes(self.image[start : start + self.block_size])
        new = bytes([BLANK]) * self.block_size
        if block in self.stuck:
            new = new[:-1] + b"\xfe"
        self.erases += 1
        self.erases_of[block] += 1
        self._operate(start, old, new)
        self.weak.pop(block, None)

    def sync(self) -> None:
        if self.as_file:
            self._maybe_cut(0, b"", b"")
            self.journal.entries.clear()

    def _operate(self, offset: int, old: bytes, new: bytes) -> None:
        self._maybe_cut(offset, old, new)
        self.image[offset : offset + len(new)] = new
        if self.as_file:
            self.journal.entries.append((offset, old, new))

    def _maybe_cut(self, offset: int, old: bytes, new: bytes) -> None:
        index = self.operations
        self.operations += 1
        if index != self._cut_at:
            return
        if self.as_file:
            if new:
                self.journal.entries.append((offset, old, new))
            self._cut_file()
        else:
            self._cut_nor(offset, old, new)
        self._cut_at = -1
        raise PowerCutError

    def _cut_nor(self, offset: int, old: bytes, new: bytes) -> None:
        size = len(new)
        erasing = size == self.block_size
        done = {"lost": 0, "done": size, "first": 1, "last": size - 1, "half": size // 2, "weak": 0}.get(
            self._mode
        )
        if done is None:
            done = self._rng.randrange(size + 1)
        self.image[offset : offset + done] = new[:done]
        if not self._mode.endswith("weak") or done == size:
            return
        low, high = (old, new) if erasing else (new, old)
        self.weak.setdefault(offset // self.block_size, []).append((offset + done, low[done:], high[done:]))
        # Reads are drawn between the two; the image itself only has to look unprogrammed to nobody.
        self.image[offset + done : offset + size] = low[done:]

    def _cut_file(self) -> None:
        kept = {"unsynced-lost": 0.0, "unsynced-some": 0.5, "unsynced-most": 0.9}[self._mode]
        entries = self.journal.entries
        for offset, old, _ in reversed(entries):
            self.image[offset : offset + len(old)] = old
        for offset, _, new in entries:
            at = offset
            while at < offset + len(new):
                end = min(offset + len(new), (at // SECTOR_SIZE + 1) * SECTOR_SIZE)
                if self._rng.random() < kept:
                    self.image[at:end] = new[at - offset : end - offset]
                at = end
        self.journal.entries.clear()
