"""The store's two places on an ESP32, a partition and a folder, on both interpreters."""

import os
import sys

import esp_doubles
from nor import Nor

from motelet.kvlog import Store
from tests_util import raises

esp_doubles.install()
from motelet.ports.esp32.folder import FolderFlash  # noqa: E402
from motelet.ports.esp32.partition import PartitionFlash  # noqa: E402

SIZE = 8 * 4096


def test_a_store_on_a_partition_outlives_a_restart():
    chip = esp_doubles.reset_chip()
    esp_doubles.partition("motelet", 9)
    store = Store(PartitionFlash("motelet", SIZE))
    store.mount()
    for number in range(300):
        store.put("key", b"%d" % number)
    chip.restart()
    store = Store(PartitionFlash("motelet", SIZE))
    store.mount()
    assert store.get("key") == b"299" and not store.damaged
    # What is behind it is somebody else's.
    assert max(chip.partitions["motelet"][1]) < SIZE // esp_doubles.PIECE


def test_the_double_is_nor_flash():
    esp_doubles.reset_chip()
    esp_doubles.partition("motelet", 8)
    flash = PartitionFlash("motelet", SIZE)
    flash.prog(64, b"\xf0" * 32)
    flash.prog(64, b"\x0f" * 32)
    buf = bytearray(32)
    flash.read(64, buf)
    assert buf == bytes(32)
    flash.erase(0)
    flash.read(64, buf)
    assert buf == b"\xff" * 32
    raises(OSError, flash.erase, 8)


def test_partitions_there_are_not():
    esp_doubles.reset_chip()
    esp_doubles.partition("motelet", 8)
    raises(OSError, PartitionFlash, "vfs", SIZE)
    for size, block in ((0, 4096), (SIZE + 4096, 4096), (SIZE - 1, 4096), (SIZE, 512)):
        raises(ValueError, PartitionFlash, "motelet", size, block)


class Folder:
    """A folder for a store, gone afterwards."""

    def __enter__(self):
        letters = "".join(["%02x" % byte for byte in os.urandom(8)])
        self.path = "/tmp/motelet-%s-%s" % (sys.implementation.name, letters)
        return self.path

    def __exit__(self, *_):
        for name in os.listdir(self.path):
            os.remove(self.path + "/" + name)
        os.rmdir(self.path)


def test_a_store_in_a_folder_outlives_a_restart():
    with Folder() as path:
        flash = FolderFlash(path, SIZE)
        store = Store(flash)
        store.mount()
        for number in range(300):
            store.put("key", b"%d" % number)
        flash.close()
        store = Store(FolderFlash(path, SIZE))
        store.mount()
        assert store.get("key") == b"299" and not store.damaged
        assert max([os.stat(path + "/" + name)[6] for name in os.listdir(path)]) <= 4096
        store.flash.close()


def test_a_folder_behaves_as_flash_does():
    with Folder() as path:
        flash = FolderFlash(path, SIZE)
        model = Nor(8)
        seed = 1
        buf, expected = bytearray(96), bytearray(96)
        ends = [0] * 8
        for _ in range(400):
            seed = seed * 1103515245 + 12345 & 0x7FFFFFFF
            block = (seed >> 8) % 8
            if seed % 7 == 0 or ends[block] >= 4096 - 96:
                flash.erase(block)
                model.erase(block)
                ends[block] = 0
            else:
                at = ends[block] + 32 * (seed % 3)  # a store leaves gaps
                data = bytes([seed >> 16 & 127]) * 32
                flash.prog(block * 4096 + at, data)
                model.prog(block * 4096 + at, data)
                ends[block] = at + 32
            if seed % 5 == 0:
                flash.sync()
            at = (seed >> 4) % 8 * 4096 + (seed >> 12) % 4000
            flash.read(at, buf)
            model.read(at, expected)
            assert buf == expected
        flash.close()
    raises(ValueError, FolderFlash, path, 100)
    raises(OSError, FolderFlash, path + "/not/there", SIZE)
