"""The flash on a file, and a store on it, on both interpreters."""

import os
import sys

from motelet.kvlog import Store
from motelet.ports.unix.flash import FileFlash
from tests_util import raises

SIZE = 8 * 4096


class TemporaryFile:
    def __enter__(self):
        letters = "".join(["%02x" % byte for byte in os.urandom(8)])
        self.path = "/tmp/motelet-%s-%s.img" % (sys.implementation.name, letters)
        return self.path

    def __exit__(self, *_):
        try:
            os.remove(self.path)
        except OSError:
            assert not self.path


def test_a_new_file_is_erased_flash():
    with TemporaryFile() as path:
        flash = FileFlash(path, SIZE)
        assert (flash.blocks, flash.block_size, flash.prog_size) == (8, 4096, 32)
        buf = bytearray(64)
        flash.read(SIZE - 64, buf)
        assert buf == b"\xff" * 64
        assert os.stat(path)[6] == SIZE
        flash.close()


def test_program_erase_and_open_again():
    with TemporaryFile() as path:
        flash = FileFlash(path, SIZE)
        flash.prog(4096 + 32, b"x" * 64)
        flash.sync()
        flash.close()
        flash = FileFlash(path, SIZE)
        buf = bytearray(66)
        flash.read(4096 + 31, buf)
        assert buf == b"\xff" + b"x" * 64 + b"\xff"
        flash.erase(1)
        flash.read(4096 + 31, buf)
        assert buf == b"\xff" * 66
        flash.close()


def test_a_file_cut_short_grows_and_keeps_what_it_has():
    with TemporaryFile() as path:
        with open(path, "wb") as file:
            file.write(b"kept")
        flash = FileFlash(path, SIZE)
        buf = bytearray(5)
        flash.read(0, buf)
        assert buf == b"kept\xff" and os.stat(path)[6] == SIZE
        flash.close()


def test_refused():
    with TemporaryFile() as path:
        open(path, "wb").close()
        raises(ValueError, FileFlash, path, 0)
        raises(ValueError, FileFlash, path, SIZE + 1)
        raises(ValueError, FileFlash, path, 1000, 100)
        raises(ValueError, FileFlash, path, SIZE, 4096, 96)
        raises(OSError, FileFlash, path + "/not/a/folder", SIZE)
        flash = FileFlash(path, SIZE)
        raises(OSError, flash.read, SIZE - 4, bytearray(8))
        flash.close()


class Counting(FileFlash):
    syncs = 0

    def sync(self):
        self.syncs += 1
        super().sync()


class Ordered(FileFlash):
    """Notes "sync" and the first byte of what is programmed: a record's kind."""

    def prog(self, offset, buf):
        self.events.append(buf[0])
        super().prog(offset, buf)

    def sync(self):
        self.events = getattr(self, "events", [])
        self.events.append("sync")
        super().sync()


def test_what_a_record_relies_on_is_synced_before_it():
    with TemporaryFile() as path:
        flash = Ordered(path, SIZE)
        store = Store(flash)
        store.mount()
        store.put("large", b"x")
        flash.events.clear()
        store.put("large", b"x" * 1000)
        assert flash.events == [4, 4, "sync", 3, "sync"]  # chunks, stream record
        flash.close()


def test_a_durable_operation_syncs_once():
    with TemporaryFile() as path:
        flash = Counting(path, SIZE)
        store = Store(flash)
        store.mount()
        store.put("a", b"0")
        before = flash.syncs
        for i in range(20):
            store.put("a", b"%d" % i)
        store.delete("a")
        assert flash.syncs - before == 21
        store.batch([("a", b"1"), ("b", b"2")])
        assert flash.syncs - before == 22
        flash.close()
        store = Store(FileFlash(path, SIZE))
        store.mount()
        assert store.get("b") == b"2"
        store.flash.close()
