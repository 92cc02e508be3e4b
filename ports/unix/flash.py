"""A file in the place of a flash chip, for gateways on Linux and macOS and for tests of whole processes.

`prog` and `erase` hand their bytes to the operating system: they survive the end of the process, in
order. `sync` is what makes them survive a power cut, and the store calls it once for each durable operation.
The file is not locked: one process owns it.
"""

import os
import sys

_BLANK = b"\xff" * 64


class FileFlash:
    """The flash of `motelet.kvlog`: see there. OSError when the file fails, ValueError for odd sizes."""

    def __init__(self, path, size, block_size=4096, prog_size=32):
        if size <= 0 or size % block_size:
            raise ValueError("size %d is not a multiple of the block size %d" % (size, block_size))
        if block_size % len(_BLANK) or block_size % prog_size:
            raise ValueError("block size %d" % block_size)
        self.block_size = block_size
        self.blocks = size // block_size
        self.prog_size = prog_size
        try:
            self._file = open(path, "r+b", 0)
        except OSError:
            # Not there yet: "a" creates without emptying what another process may have made meanwhile.
            open(path, "ab").close()
            self._file = open(path, "r+b", 0)
        self._fill(size)

    def _fill(self, size):
        """Grow a new or cut-off file with erased flash."""
        at = self._file.seek(0, 2)
        while at < size:
            at += self._file.write(_BLANK[: min(len(_BLANK), size - at)])
        self.sync()

    def read(self, offset, buf):
        self._file.seek(offset)
        if self._file.readinto(buf) != len(buf):
            raise OSError(5, "short read at %d" % offset)

    def prog(self, offset, buf):
        self._file.seek(offset)
        if self._file.write(buf) != len(buf):
            raise OSError(5, "short write at %d" % offset)

    def erase(self, block):
        self._file.seek(block * self.block_size)
        for _ in range(self.block_size // len(_BLANK)):
            if self._file.write(_BLANK) != len(_BLANK):
                raise OSError(5, "short write in block %d" % block)

    def close(self):
        self._file.close()

    if sys.implementation.name == "micropython":

        def sync(self):
            self._file.flush()  # fsync, in MicroPython's unix port

    else:

        def sync(self):
            os.fsync(self._file.fileno())
