"""The store on a partition of its own: NOR flash as it is, without a file system's copies in between."""

from esp32 import Partition
from micropython import const

_ERASE = const(6)  # the block device protocol's "erase a block"
_SIZE = const(3)  # in what Partition.info() gives
_SECTOR = const(4096)  # what the chip erases at once
_EIO = const(5)


class PartitionFlash:
    """The flash of `motelet.kvlog` on the first `size` bytes of the data partition `label`.

    OSError when there is no such partition or the chip fails; ValueError for sizes it does not have.
    """

    def __init__(self, label, size, block_size=4096, prog_size=32):
        found = Partition.find(Partition.TYPE_DATA, label=label)
        if not found:
            raise OSError(2, "no partition " + label)
        there = found[0].info()[_SIZE]
        if size <= 0 or size % block_size or size > there or block_size != _SECTOR:
            raise ValueError("%d bytes by %d on partition %s of %d" % (size, block_size, label, there))
        self.block_size = block_size
        self.blocks = size // block_size
        self.prog_size = prog_size
        self._partition = found[0]

    # With an offset nothing is erased before it is written.

    def read(self, offset, buf):
        self._partition.readblocks(offset // self.block_size, buf, offset % self.block_size)

    def prog(self, offset, buf):
        self._partition.writeblocks(offset // self.block_size, buf, offset % self.block_size)

    def erase(self, block):
        if self._partition.ioctl(_ERASE, block):
            raise OSError(_EIO, "block %d" % block)

    def sync(self):
        """The chip has done what it was told when it returns."""

    def close(self):
        """There is nothing to give back."""
