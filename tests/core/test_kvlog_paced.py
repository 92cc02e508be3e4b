"""A store with a task that keeps its house: no put and no step takes more than one erase."""

import gc
from random import getrandbits, seed

from nor import Nor

from motelet.kvlog import Store, StoreError, StoreFull
from tests_util import IS_MICROPYTHON, raises

_BLOCKS = 11


class Keeper:
    """The task that calls `step`, once for each time that it was woken."""

    def __init__(self, store):
        self.store = store
        self.woken = 0

    def wake(self):
        self.woken += 1

    def turn(self):
        if self.woken:
            self.woken = 0
            before = self.store.flash.erases
            if self.store.step():
                self.woken = 1
            assert self.store.flash.erases - before <= 1


def near_full(blocks, room, prog_size=32):
    """A store that is full but for `room` pages, of values that do not change."""
    gc.collect()
    store = Store(Nor(blocks, prog_size))
    store.mount()
    i = 0
    while store.used + room < store._limit:
        store.put(".static/%d" % i, b"s" * (getrandbits(9) % 560))
        i += 1
    while store.step():
        pass
    store.task = Keeper(store)
    return store


def put(store, key, value, tries):
    """Put with so many tries at most, the keeper's turn between them. -> how many were refused."""
    for count in range(tries):
        before = store.flash.erases
        try:
            store.put(key, value)
        except StoreFull:
            raise
        except StoreError as error:
            refused = error.code
        else:
            refused = ""
        assert store.flash.erases - before <= 1, (key, len(value), store.flash.erases - before)
        if not refused:
            return count
        assert refused == "busy" and store.task.woken
        store.task.turn()
    raise AssertionError("busy without end")


def test_bursts_near_full():
    total = 0
    for number in range(1 if IS_MICROPYTHON else 3):
        store = None
        seed(number)
        store = near_full(_BLOCKS, 145)
        before = store.flash.erases
        busy = 0
        for i in range(150):
            size = (100, 300, 560, 1024, 1280)[getrandbits(8) % 5]
            value = b"%03d" % i * (size // 3)
            busy += put(store, "default/configmap/c", value, 40)
            if i % 3 == 0:
                put(store, ".twin/%d" % (i % 5), b"%03d" % i * 30, 40)
            if i % 7 == 0:
                erases = store.flash.erases
                store.delete(".twin/%d" % (i % 5))
                assert store.flash.erases - erases <= 1
        assert store.flash.erases - before > 40, number
        total += busy
        again = Store(store.flash)
        again.mount()
        assert not again.damaged and set(again.keys()) == set(store.keys())
        again = None
    assert total, "never busy"


def test_records_that_are_small_are_never_refused():
    """But for stores so small that a single block more or less is all there is to gain."""
    blocks, tries = (_BLOCKS, 2) if IS_MICROPYTHON else (32, 1)
    seed(4)
    store = near_full(blocks, 110)
    before = store.flash.erases
    for i in range(1200):
        assert (
            put(store, ".twin/default/lamp/=%d" % (i % 7), b"%03d" % i * (getrandbits(7) % 112), tries)
            < tries
        )
    assert store.flash.erases - before > 100


def test_a_batch_of_several_blocks_is_taken_once_they_are_erased():
    store = near_full(_BLOCKS, 400)
    items = [("default/device/%d" % i, b"%02d" % i * 150) for i in range(24)]
    before = store.flash.erases
    assert raises(StoreError, store.batch, items).code == "busy"
    assert store.flash.erases == before and not list(store.keys("default/"))
    for _ in range(10):
        store.task.turn()
    erases = store.flash.erases
    store.batch(items)
    assert store.flash.erases - erases <= 1
    for _ in range(10):
        store.task.turn()
    erases = store.flash.erases
    store.batch([(key, b"new" + value) for key, value in items])  # its blocks are kept erased from now on
    assert store.flash.erases - erases <= 1
    again = Store(store.flash)
    again.mount()
    assert again.get("default/device/7") == b"new" + b"07" * 150


def test_what_is_refused_changes_nothing_and_asking_again_is_enough():
    """Each call makes as much room as one erase does, whether the task has its turn or not."""
    store = near_full(_BLOCKS, 140)
    refused = written = 0
    while refused < 5:
        value = b"%04d" % written * 320
        tries = 0
        while tries >= 0:
            before = store.flash.erases
            said = ""
            try:
                store.put("big", value)
            except StoreError as error:
                said = error.code + str(error)
            if not said:
                tries = -1
                written += 1
            else:
                assert said.startswith("busy") and "try again" in said and tries < 40
                assert (store.get("big") or b"")[:4] == (b"%04d" % (written - 1) if written else b"")
                tries += 1
                refused += 1
            assert store.flash.erases - before <= 1
        assert written < 2000
    assert store.delete("big")


def test_a_value_that_does_not_fit_is_full_and_not_busy():
    store = near_full(_BLOCKS, 30)
    raises(StoreFull, store.put, "new", b"x" * 4096)
    raises(StoreFull, store.writer, "new", 4096)
    raises(StoreFull, store.batch, [("a", b"1" * 500), ("b", b"2" * 500)])
    assert "new" not in store and "a" not in store
