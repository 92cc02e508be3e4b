"""The store where several things go wrong at once."""

from nor import Nor

from motelet import kvblock, kvrepair
from motelet.kvlog import Store, StoreError, StoreFull
from tests_util import raises


def make(blocks=8):
    store = Store(Nor(blocks))
    store.mount()
    return store


def again(store):
    other = Store(store.flash)
    other.mount()
    return other


class Reading(Nor):
    """Read number `fails_at` is an OSError, and every other one between it and `fails_at + fails`."""

    fails_at = -1
    fails = 1
    reads = 0

    def read(self, offset, buf):
        self.reads += 1
        if 0 <= self.fails_at < self.reads <= self.fails_at + self.fails:
            raise OSError(5)
        super().read(offset, buf)

    def count(self, fails_at):
        self.reads = 0
        self.fails_at = fails_at


class Fading(Nor):
    """Programs of more than `size_max` bytes do not take while it is set."""

    size_max = 0

    def prog(self, offset, buf):
        super().prog(offset, buf)
        if self.size_max and len(buf) > self.size_max:
            self.flip(offset + 9, 1)


class Unsure(Store):
    """The n-th time that a record is loaded, it reads differently: as no record."""

    n = -1

    def _load(self, where):
        self.n -= 1
        return -1 if self.n == -1 else super()._load(where)


class HeadersFade(Nor):
    """So many block headers do not take."""

    left = 0

    def prog(self, offset, buf):
        super().prog(offset, buf)
        if self.left and offset % 4096 == 0:
            self.left -= 1
            self.flip(offset + 5)
            self.flip(offset + 32 + 5)


def test_a_worn_out_store_refuses_but_deletes():
    store = make(10)
    for i in range(24):
        store.put("k%d" % i, b"x" * 480)
    for block in (7, 8):
        kvrepair.retire(store, block)
    raises(StoreFull, store.put, "another", b"1")
    error = None
    for i in range(60):
        try:
            store.put("k%d" % (i % 24), b"%d" % i * 200)
        except StoreFull as caught:
            error = caught
    assert error
    store = again(store)
    assert store.retired == 2
    deleted = 0
    for key in list(store.keys()):
        deleted += store.delete(key)
    assert deleted == 24
    store.put("another", b"1")
    assert list(again(store).keys()) == ["another"]


def test_a_few_good_blocks_are_enough_for_a_small_log():
    store = make()
    store.put("a", b"1")
    for block in (4, 5, 6, 7):
        kvrepair.retire(store, block)
    for _ in range(12):
        store.step()
        store = again(store)
        assert store.get("a") == b"1" and store.retired == 4


def test_only_the_block_to_fall_back_on_is_left():
    store = make()
    store.put("a", b"1")
    for block in (4, 5, 6, 7):
        kvrepair.retire(store, block)
    kvrepair.settle(store)
    before = store._head
    store = again(store)  # replaces the head
    for block in range(8):
        if block not in (before, store._head):
            store.flash.stuck.add(block)
    store = again(store)
    assert store._head == before and store.get("a") == b"1"


def test_the_next_block_sticks_while_it_is_erased_ahead():
    store = make()
    store.flash.stuck.add(1)
    assert store.step() is False and store.retired == 1
    store.step()
    store.put("a", b"1")
    assert again(store).get("a") == b"1"


def test_headers_that_do_not_take():
    store = Store(HeadersFade(8))
    store.flash.left = 1
    store.mount()
    assert store.retired == 1
    store.put("a", b"1")
    assert again(store).get("a") == b"1"


def test_compaction_into_a_block_that_fails():
    store = Store(Fading(10))
    store.mount()
    store.put("kept", b"x" * 500)
    for i in range(60):
        store.put("k%d" % (i % 3), b"%d" % i * 30)
    store.flash.size_max = 400
    raises(StoreError, kvblock.compact, store, 64)
    store.flash.size_max = 0
    assert store.retired >= 4 and store.get("kept") == b"x" * 500
    assert raises(StoreError, full_of, store).code in ("full", "flash")


def full_of(store):
    for i in range(1000):
        store.put("k%d" % i, b"x" * 300)


def test_a_failing_block_that_is_also_damaged_is_retired_once():
    store = make(20)
    for i in range(100):
        store.put("k%d" % (i % 3), b"%d" % i * 30)
    kvrepair.retire(store, store._tail)
    store.flash.flip(store._names[1] * 32 + 9)
    assert store.get("k0") is None
    while store._tail != store._head:
        kvblock.compact(store, 64)
    assert store.retired == 1 and store.get("k1") == b"97" * 30


def test_a_log_of_one_block_has_nothing_to_compact():
    assert kvblock.compact(make(), 64) == 0


def test_a_length_that_leads_out_of_its_block_is_no_record():
    store = make()
    last = 2 * 128 - 1
    store.flash.flip(last * 32, 255 ^ 2)  # a value ...
    store.flash.flip(last * 32 + 4, 255 ^ 100)  # ... of 100 bytes
    store.flash.flip(last * 32 + 5, 255)
    assert store._load(last) == -1


def test_chunks_that_were_lost_are_dropped_with_their_value():
    store = make()
    store.put("large", b"y" * 1000)
    store.flash.flip(store._streams[1][0] * 32 + 30)
    for i in range(260):
        store.put("k%d" % (i % 3), b"%d" % i * 30)
    assert store._streams[1][0] == 0
    store.put("large", b"z")
    assert store.get("large") == b"z" and store._streams == {}


def test_a_read_that_fails_once_while_it_compacts():
    for at in range(0, 260, 3):
        store = Store(Reading(8))
        store.mount()
        for i in range(36):
            store.put("k%d" % (i % 3), b"%d" % i * 30)
        store.flash.count(at)
        kvblock.compact(store, 64)
        store.flash.count(-1)
        for i in range(3):
            assert store.get("k%d" % i) == b"%d" % (33 + i) * 30
        assert not store.damaged


def test_flash_that_does_not_answer_twice_is_a_lost_record_until_it_does():
    store = Store(Reading(8))
    store.mount()
    store.put("a", b"1")
    store.flash.fails = 2
    store.flash.count(0)
    assert store.get("a") is None and store.damaged == 1
    store.flash.count(-1)
    assert again(store).get("a") == b"1"


def test_a_read_that_fails_once_while_it_mounts():
    flash = Reading(8)
    for at in range(0, 330, 3):
        for name in ("_content", "erases_of"):
            setattr(flash, name, [None if name == "_content" else 0] * 64)
        store = Store(flash)
        store.mount()
        store.flash.stuck.add(1)
        store.put("large", b"y" * 1000)
        for i in range(36):
            store.put("k%d" % (i % 3), b"%d" % i * 30)
        store.flash.count(at)
        other = again(store)
        store.flash.count(-1)
        flash.stuck.clear()
        found = [other.get("k%d" % i) for i in range(3)]
        assert None not in found and not other.damaged, (at, found)
        other.put("new", b"1")
        assert again(other).get("new") == b"1"


def test_a_record_that_reads_differently_once_while_it_compacts():
    for n in range(200):
        store = Unsure(Nor(8))
        store.mount()
        for i in range(60):
            store.put("k%d" % (i % 3), b"%d" % i * 30)
        if n % 2:
            store._end = store._per  # the first copy has to open a block
        store.n = n // 2
        kvblock.compact(store, 64)
        found = [store.get("k%d" % i) for i in range(3)]
        assert None not in found or store.damaged, (n, found)


def test_a_record_that_reads_differently_once_while_it_mounts():
    for low in (False, True):
        n = 0
        while n >= 0:
            store = prepared(low)
            other = Unsure(store.flash)
            other.n = n
            other.mount()
            n = n + 1 if other.n < -1 else -1  # until the mount ends before that load
            other.n = -1
            if other.damaged:
                continue  # Taken for a loss, and said so.
            found = [other.get("k%d" % i) for i in range(3)]
            later = again(other)
            assert [later.get("k%d" % i) for i in range(3)] == found
            assert later.get("large") == other.get("large")


def prepared(low):
    """A store with a bit of everything at its end; with `low`, few blocks are left."""
    store = make(10)
    store.put("k0", b"0" * 100)
    for block in (5, 6, 7, 8) if low else (8,):
        kvrepair.retire(store, block)
    for i in range(60 if low else 3):
        store.put("k%d" % (i % 3), b"%d" % i * 30)
    store.put("large", b"y" * 600)
    store.put("gone", b"1")
    store.delete("gone")
    store.put("k1", b"last")
    if low:
        kvrepair.retire(store, 9)
        kvrepair.settle(store)
    return store


def test_a_batch_that_replaces_fits_a_full_store():
    store = make()
    while store.used + 11 <= store._limit:
        store.put("key/%d" % store.used, b"x" * 300)
    first, second = list(store.keys())[:2]
    store.batch([(first, b"y" * 300), (second, b"z" * 300)])
    assert again(store).get(first) == b"y" * 300


def test_a_put_gives_up_when_compaction_gains_nothing():
    store = make()
    for i in range(20):
        store.put("k%d" % i, b"x" * 300)
    store.used += 200000  # so much that no number of blocks is reserve enough
    store._tight = True
    raises(StoreFull, store.put, "k0", b"2")
    assert store.get("k0") == b"x" * 300 and store.delete("k0")


def test_a_record_that_no_block_takes():
    store = Store(Fading(12))
    store.mount()
    store.flash.size_max = 64
    assert raises(StoreError, store.put, "a", b"x" * 100).code == "flash"
    store.flash.size_max = 0
    assert store.get("a") is None and store.retired == 4
    store.put("a", b"1")
    assert again(store).get("a") == b"1"
