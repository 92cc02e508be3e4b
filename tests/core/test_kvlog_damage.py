"""Flash that loses bits, or was never a store."""

from nor import Nor

from motelet.kvlog import Store, StoreFull
from tests_util import raises


def make(blocks=8, prog_size=32):
    store = Store(Nor(blocks, prog_size))
    store.mount()
    return store


def again(store):
    other = Store(store.flash)
    other.mount()
    return other


def locate(store, key):
    """Where the record of the key's value lies, in bytes."""
    return store._values[store._find(key.encode())] * store._unit


def test_a_flipped_bit_costs_the_record_it_hit_and_is_reported():
    store = make()
    for i in range(6):
        store.put("k%d" % i, b"%d" % i * 100)
    where = locate(store, "k2") + 30
    store.flash.flip(where, 16)
    seen = []
    store.on_damage = lambda block, page: seen.append((block, page))
    assert store.get("k2") is None and "k2" not in store and store.damaged == 1
    assert seen == [(where // 4096, (where - 30) % 4096 // 32)]
    other = again(store)
    assert other.damaged == 1 and other.get("k2") is None
    assert [other.get("k%d" % i) for i in (0, 1, 3, 4, 5)] == [b"%d" % i * 100 for i in (0, 1, 3, 4, 5)]


def test_a_flipped_bit_in_a_name_and_in_a_chunk():
    store = make()
    store.put("name", b"1")
    store.put("large", b"x" * 1000)
    store.put("fine", b"2")
    store.flash.flip(store._names[1] * 32 + 9, 1)
    store.flash.flip(store._streams[1][1] * 32 + 9, 1)
    assert store.get("name") is None and store.damaged == 1
    assert store.get("large") is None and store.damaged == 2
    raises(KeyError, store.readinto, "large", 900, bytearray(10))
    assert store.readinto("large", 0, bytearray(10)) == 10
    assert sorted(store.keys()) == ["fine", "large"]
    store.put("name", b"again")
    assert store.get("name") == b"again"


def test_damage_among_the_heads():
    store = make()
    store.put("large", b"x" * 1000)
    store.put("lost", b"1" * 50)
    store.put("fine", b"2")
    store.flash.flip(store._streams[1][0] * 32 + 9, 1)
    store.flash.flip(locate(store, "lost") + 9, 1)
    assert [(key, count) for key, _, count in store.heads(9)] == [("fine", 1)]
    assert store.damaged == 2


def test_a_damaged_name_is_left_out_of_the_keys():
    store = make()
    store.put("name", b"1")
    store.put("fine", b"2")
    store.flash.flip(store._names[1] * 32 + 9, 1)
    assert list(store.keys()) == ["fine"] and store.damaged == 1


def test_damage_found_by_compaction():
    store = make()
    store.put("lost", b"x" * 100)
    store.put("large", b"y" * 1000)
    store.put("name", b"z")
    store.flash.flip(locate(store, "lost") + 30, 1)
    store.flash.flip(store._streams[1][0] * 32 + 30, 1)
    store.flash.flip(store._names[3] * 32 + 9, 1)
    for i in range(260):
        store.put("k%d" % (i % 3), b"%d" % i * 30)
    assert store.damaged == 3
    assert store.get("lost") is None and store.get("large") is None and store.get("name") is None
    assert sorted(store.keys()) == ["k0", "k1", "k2", "large"]
    assert store.retired == 1  # the block they were in


def test_the_list_of_retired_blocks_is_damaged():
    store = make()
    store.flash.stuck.add(2)
    for i in range(150):
        store.put("k%d" % (i % 5), b"%d" % i * 25)
    assert store.retired == 1 and store._values[0]
    store.flash.flip(store._values[0] * 32 + 8, 2)
    for i in range(200):
        store.put("k%d" % (i % 5), b"%d" % i * 25)
    store.flash.stuck.clear()
    assert again(store).retired >= 1


def test_one_copy_of_a_header_is_enough():
    store = make()
    for i in range(60):
        store.put("k%d" % (i % 3), b"%d" % i * 30)
    for block in range(8):
        store.flash.flip(block * 4096 + 5, 1)
    other = again(store)
    assert other.get("k2") == b"59" * 30 and other.damaged == 0


def test_a_block_without_header_is_damage_and_no_more():
    for chosen in (0, 1):
        store = make(10)
        for i in range(45):
            store.put("only/%d" % i, b"%d" % i * 80)
        for page in (0, 32):
            store.flash.flip(chosen * 4096 + page + 5, 1)
        other = again(store)
        assert other.damaged >= 1
        left = list(other.keys())
        assert 10 < len(left) < 45
        for key in left:
            assert other.get(key) == key[5:].encode() * 80


def test_a_header_that_fades_while_the_store_runs():
    store = make()
    for i in range(40):
        store.put("k%d" % (i % 3), b"%d" % i * 30)
    for page in (0, 32):
        store.flash.flip(4096 + page + 5, 1)
    for i in range(300):
        store.put("k%d" % (i % 3), b"%d" % i * 30)
    assert again(store).get("k2") == b"299" * 30


def test_any_content_mounts():
    for seed in range(5):
        flash = Nor(8)
        state = seed + 1
        for at in range(0, 8 * 4096, 1 + seed * 7):
            state = (state * 1103 + 12345) & 0xFFFFFF
            flash.flip(at, state >> 16)
        store = Store(flash)
        store.mount()
        assert list(store.keys()) == []
        store.put("a", b"1")
        assert again(store).get("a") == b"1"
        store = flash = None  # a board's heap does not hold two


def test_another_geometry_is_another_store():
    flash = Nor(8, 32)
    store = Store(flash)
    store.mount()
    store.put("a", b"1")
    flash.prog_size = 64
    other = Store(flash)
    other.mount()
    assert list(other.keys()) == []


def test_a_group_whose_last_record_faded_keeps_the_others():
    store = make()
    store.batch([("a", b"1" * 50), ("b", b"2" * 50), ("c", b"3" * 50)])
    where = locate(store, "c") + 20
    store.put("d", b"4")
    store.flash.flip(where, 1)
    other = again(store)
    assert other.damaged == 1
    assert other.get("a") == b"1" * 50 and other.get("b") == b"2" * 50 and other.get("c") is None


def test_too_many_keys():
    store = make()
    store._unused = 65536
    store._names = range(1)
    raises(StoreFull, store._number, b"x")


def test_numbers_no_store_writes_are_left_out():
    store = make()
    store.put("a", b"1")
    store._append(2, 60000, 0, 3, b"x")
    store._append(4, 1, 60000, 3, b"x")
    store.put("b", b"2")
    other = again(store)
    assert sorted(other.keys()) == ["a", "b"] and len(other._names) < 10
