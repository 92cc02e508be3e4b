"""Runs on MicroPython: each operation of a store with less and less of the heap to be had, down to nothing.

tests/store/test_memory.py starts it. Prints, for each operation, how often there was not enough memory.
"""

import gc
import sys

from motelet.kvlog import Store

STEP = 80  # bytes of memory more each time
LEVELS_MAX = 400
ENOUGH = 6  # so often in a row it must have been enough
BLANK = b"\xff" * 256


class RamFlash:
    block_size = 4096
    blocks = 8
    prog_size = 32

    def __init__(self):
        self.content = bytearray(self.blocks * self.block_size)
        self.view = memoryview(self.content)
        for block in range(self.blocks):
            self.erase(block)

    def read(self, offset, buf):
        buf[:] = self.view[offset : offset + len(buf)]

    def prog(self, offset, buf):
        self.view[offset : offset + len(buf)] = buf

    def erase(self, block):
        for at in range(block * self.block_size, (block + 1) * self.block_size, len(BLANK)):
            self.view[at : at + len(BLANK)] = BLANK

    def sync(self):
        pass


def stream(store):
    writer = store.writer("large", 900)
    try:
        for _ in range(3):
            writer.write(b"s" * 300)
    except MemoryError:
        writer.abort()
        raise
    writer.commit()


def several(store):
    store.batch([("k0", b"b"), ("k1", None), ("new", b"b" * 50), ("large", b"b" * 700)])


def many(store):
    for _ in range(40):
        store.put("k0", b"m" * 120)


BEFORE = {"k0": b"117" * 40, "k1": b"118" * 40, "k2": b"119" * 40, "large": b"0" * 700}
OPERATIONS = (
    ("put", lambda store: store.put("k0", b"p" * 80), {"k0": b"p" * 80}),
    ("puts", many, {"k0": b"m" * 120}),
    ("new", lambda store: store.put("new", b"n" * 80), {"new": b"n" * 80}),
    ("large", lambda store: store.put("large", b"l" * 800), {"large": b"l" * 800}),
    ("delete", lambda store: store.delete("k1"), {"k1": None}),
    ("batch", several, {"k0": b"b", "k1": None, "new": b"b" * 50, "large": b"b" * 700}),
    ("stream", stream, {"large": b"s" * 900}),
    ("step", lambda store: store.step(), {}),
    ("get", lambda store: list(map(store.get, store.keys())), {}),
)


def mounted(flash):
    store = Store(flash)
    store.mount()
    return store


def prepared(flash):
    store = mounted(flash)
    store.put("large", b"0" * 700)
    for i in range(120):
        store.put("k" + str(i % 3), str(i).encode() * 40)


def fill(hog):
    """Take all memory there is, in pieces that `hog` keeps."""
    at = 0
    for size in (4096, 512, 64, 16):
        try:
            while True:
                hog[at] = bytearray(size)
                at += 1
        except MemoryError:
            pass


def short(action, store, left, hog):
    """Do it with so many bytes to be had; False when they were too few."""
    gc.collect()
    hog[-1] = bytearray(left)
    fill(hog)
    try:
        hog[-1] = None
        action(store)
        return True
    except MemoryError:
        return False
    finally:
        for at in range(len(hog)):
            hog[at] = None
        gc.collect()


def found(store):
    return {key: store.get(key) for key in list(store.keys())}


def check(name, action, changes, flash, image, hog):
    after = dict(BEFORE)
    after.update(changes)
    after = dict([(key, after[key]) for key in after if after[key] is not None])
    failures = row = left = 0
    while row < ENOUGH:
        left += STEP
        assert left < STEP * LEVELS_MAX, name
        flash.view[:] = image
        store = mounted(flash)
        done = short(action, store, left, hog)
        seen = found(store)
        partly = name == "puts" and seen["k0"] == after["k0"]
        assert seen == after or (not done and (seen == BEFORE or partly)), (name, left, done, seen)
        action(store)
        assert found(store) == after, (name, left)
        assert found(mounted(flash)) == after, (name, left)
        row = row + 1 if done else 0
        failures += not done
    print(name, failures)


def main():
    flash = RamFlash()
    prepared(flash)
    image = bytes(flash.content)
    hog = [None] * 9000
    for name, action, changes in OPERATIONS:
        check(name, action, changes, flash, image, hog)


main()
sys.exit(0)
