"""The store where the firmware has no partition for it: one file a block, in a folder of the file system.

littlefs copies what follows a change to the end of the file, so one large file would cost a copy of itself
at each write. A file that is a block long is appended to, which copies a part of a block at the most, and a
block that was erased has no file. The price over a partition is an erase at each synced write.
"""

import os

from micropython import const

_BLANK = b"\xff" * 64
_ENOENT = const(2)


class FolderFlash:
    """The flash of `motelet.kvlog` in the folder `path`, which is made. OSError, ValueError for odd sizes."""

    def __init__(self, path, size, block_size=4096, prog_size=32):
        if size <= 0 or size % block_size:
            raise ValueError("size %d is not a multiple of the block size %d" % (size, block_size))
        self.block_size = block_size
        self.blocks = size // block_size
        self.prog_size = prog_size
        self._path = path
        self._file = None  # of the block that is being written
        self._block = -1
        try:
            os.stat(path)
        except OSError:
            os.mkdir(path)

    def read(self, offset, buf):
        count = 0
        block = offset // self.block_size
        try:
            if block == self._block:
                self._file.seek(offset % self.block_size)
                count = self._file.readinto(buf)
            else:
                with open(self._name(block), "rb") as file:
                    file.seek(offset % self.block_size)
                    count = file.readinto(buf)
        except OSError as error:
            if error.errno != _ENOENT:
                raise
        for at in range(count, len(buf)):
            buf[at] = 255

    def prog(self, offset, buf):
        block = offset // self.block_size
        if block != self._block:
            self.close()
            # "a" makes a file without emptying one, but writes at its end only.
            open(self._name(block), "ab").close()
            self._file = open(self._name(block), "r+b")
            self._block = block
        offset %= self.block_size
        end = self._file.seek(0, 2)
        while end < offset:
            end += self._file.write(_BLANK[: min(len(_BLANK), offset - end)])
        self._file.seek(offset)
        self._file.write(buf)

    def erase(self, block):
        if block == self._block:
            self.close()
        try:
            os.remove(self._name(block))
        except OSError as error:
            if error.errno != _ENOENT:
                raise

    def sync(self):
        if self._file is not None:
            self._file.flush()

    def close(self):
        if self._file is not None:
            self._file.close()
            self._file = None
            self._block = -1

    def _name(self, block):
        return "%s/%d" % (self._path, block)
