"""Flash that wears out, and failures in the middle of a call."""

from nor import Nor

from motelet.kvlog import Store, StoreError, StoreFull
from tests_util import raises


def make(blocks=8, prog_size=32):
    store = Store(Nor(blocks, prog_size))
    store.mount()
    return store


def again(store):
    other = Store(store.flash)
    other.mount()
    return other


KEYS = ("k0", "k1", "other", "large")
OLD = [b"57" * 40, b"58" * 40, None, None]
NEW = [b"new", None, b"new", b"l" * 600]


class Failing:
    """A flash that raises `error` at its operation number `at`, counting those named in `what`."""

    def __init__(self, flash, what, at, error):
        self.flash = flash
        self.what = what
        self.left = at
        self.error = error
        self.block_size = flash.block_size
        self.blocks = flash.blocks
        self.prog_size = flash.prog_size

    def _pass(self, what):
        if what in self.what:
            self.left -= 1
            if self.left == -1:
                raise self.error

    def read(self, offset, buf):
        self._pass("read")
        self.flash.read(offset, buf)

    def prog(self, offset, buf):
        self._pass("prog")
        self.flash.prog(offset, buf)

    def erase(self, block):
        self._pass("erase")
        self.flash.erase(block)

    def sync(self):
        self._pass("sync")
        self.flash.sync()


def test_a_stuck_block_is_noticed_and_retired():
    store = make()
    store.flash.stuck.add(3)
    for i in range(400):
        store.put("k%d" % (i % 5), b"%d" % i * 25)
    assert store.retired == 1
    erases = store.flash.erases_of[3]
    for _ in range(2):
        store = again(store)
        assert store.retired == 1
    for i in range(400):
        store.put("k%d" % (i % 5), b"%d" % i * 25)
    assert store.flash.erases_of[3] == erases
    assert store.get("k4") == b"399" * 25 and store.damaged == 0


def test_a_block_that_sticks_while_it_is_written():
    store = make()
    store.put("before", b"b" * 100)
    store.flash.stuck.add(store._head)
    store.put("after", b"a" * 100)
    assert store.retired == 1 and store.get("before") == b"b" * 100
    store.step()  # which notes it on flash, if no put comes before
    other = again(store)
    assert other.get("before") == b"b" * 100 and other.get("after") == b"a" * 100 and other.retired == 1


def test_a_block_whose_header_does_not_take():
    store = make()
    flash = store.flash
    store.flash = Failing(flash, ("prog",), 0, OSError(5))
    store._end = store._per
    store.put("a", b"1")
    assert store.retired == 1
    store.flash = flash
    assert again(store).get("a") == b"1"


def test_dead_flash_stays_readable():
    store = make()
    store.put("a", b"1")
    store.flash.dead = True
    assert raises(StoreError, store.put, "b", b"2").code in ("flash", "full")
    assert store.get("a") == b"1" and store.get("b") is None
    other = again(store)
    assert other.get("a") == b"1"
    raises(StoreFull, other.put, "b", b"2")
    empty = Nor(8)
    empty.dead = True
    other = Store(empty)
    other.mount()
    assert list(other.keys()) == []
    raises(StoreError, other.put, "b", b"2")
    assert other.step() is False


def test_every_operation_may_fail_once():
    for error in (OSError(5), MemoryError()):
        for at in range(40):
            store = make()
            for i in range(60):
                store.put("k%d" % (i % 3), b"%d" % i * 40)
            flash = store.flash
            store.flash = Failing(flash, ("read", "prog", "erase", "sync"), at, error)
            try:
                store.batch([("k0", b"new"), ("k1", None), ("other", b"new"), ("large", b"l" * 600)])
                done = True
            except (StoreError, MemoryError):
                done = False
            store.flash = flash
            if store.damaged:
                continue  # It was a read that failed: its record is lost, and said to be.
            seen = [store.get(key) for key in KEYS]
            assert seen == NEW or (seen == OLD and not done), (at, error, seen)
            store.put("k2", b"last")
            other = again(store)
            assert [other.get(key) for key in KEYS] == seen, (at, error, seen)
            assert other.get("k2") == b"last"


def test_a_put_that_failed_is_void_though_it_was_programmed():
    store = make()
    store.put("a", b"old")
    flash = store.flash
    store.flash = Failing(flash, ("sync",), 0, OSError(5))
    assert raises(StoreError, store.put, "a", b"new").code == "flash"
    store.flash = flash
    assert store.get("a") == b"old"
    store.put("b", b"1")
    other = again(store)
    assert other.get("a") == b"old" and other.get("b") == b"1"
