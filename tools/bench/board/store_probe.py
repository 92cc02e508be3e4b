"""Runs on MicroPython: what the store costs in bytes, erases, time and memory, on a flash in RAM.

Prints JSON objects, one a line: {"figure": name, "value": x, "unit": unit, "n": n}, and {"puts_us": [..]}.
"""

import gc
import time

from motelet.kvlog import Store

BLOCK = 4096
KEYS = 20
VALUE = b"x" * 100
UPDATES = 4000
TIMED = 2000
MANY = 1000
_BLANK = b"\xff" * 256


class RamFlash:
    """The flash of `motelet.kvlog`, programmed 32 bytes at a time; counts what it is asked."""

    block_size = BLOCK
    prog_size = 32

    def __init__(self, blocks):
        self.blocks = blocks
        self._content = memoryview(bytearray(blocks * BLOCK))
        self.programmed = self.erases = 0
        for block in range(blocks):
            self._clear(block)

    def _clear(self, block):
        for at in range(block * BLOCK, (block + 1) * BLOCK, len(_BLANK)):
            self._content[at : at + len(_BLANK)] = _BLANK

    def read(self, offset, buf):
        buf[:] = self._content[offset : offset + len(buf)]

    def prog(self, offset, buf):
        self.programmed += len(buf)
        self._content[offset : offset + len(buf)] = buf

    def erase(self, block):
        self.erases += 1
        self._clear(block)

    def sync(self):
        pass


def name(number):
    """As KubeEdge's: the mean of 20 has 45 bytes."""
    return "default/device/thermometer-%02d-north-building%s" % (number % 100, "xx" * (number % 2)) + (
        "-%d" % (number // 100) if number > 99 else ""
    )


def say(figure, value, unit, n=1):
    print('{"figure": "%s", "value": %s, "unit": "%s", "n": %d}' % (figure, value, unit, n))


def mounted(flash):
    store = Store(flash)
    store.mount()
    return store


def updates():
    """100-byte updates of 20 keys on 64 blocks, once every block has been used."""
    flash = RamFlash(64)
    store = mounted(flash)
    for number in range(2500):
        store.put(name(number % KEYS), VALUE)
    programmed = flash.programmed
    erases = flash.erases
    for number in range(UPDATES):
        store.put(name(number % KEYS), VALUE)
    say("kv.bytes_per_update", (flash.programmed - programmed) / UPDATES, "bytes", UPDATES)
    say("kv.erases_per_update", (flash.erases - erases) / UPDATES, "erases", UPDATES)
    names = [name(number) for number in range(KEYS)]
    times = []
    for number in range(TIMED):
        start = time.ticks_us()
        store.put(names[number % KEYS], VALUE)
        times.append(time.ticks_diff(time.ticks_us(), start))
    print('{"puts_us": %s}' % times)


def many():
    """1,000 keys: how long a start takes, and what each key of the index keeps."""
    flash = RamFlash(128)
    store = mounted(flash)
    for number in range(KEYS):
        store.put(name(number), VALUE)
    gc.collect()
    before = gc.mem_alloc()
    for number in range(KEYS, MANY):
        store.put(name(number), VALUE)
    gc.collect()
    say("kv.index_bytes_per_key", (gc.mem_alloc() - before) / (MANY - KEYS), "bytes", MANY - KEYS)
    store = None
    gc.collect()
    start = time.ticks_us()
    store = mounted(flash)
    say("kv.mount_ms", time.ticks_diff(time.ticks_us(), start) / 1000, "ms")
    if len(list(store.keys())) != MANY or store.damaged:
        raise SystemExit(1)


updates()
many()
