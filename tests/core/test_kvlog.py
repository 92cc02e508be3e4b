"""The store: what it answers while all is well, and its limits. Power cuts are in tests/store."""

import hashlib
from binascii import crc32

from nor import Nor

from motelet.kvlog import Store, StoreError, StoreFull
from tests_util import heap_locked, raises


def make(blocks=8, prog_size=32):
    store = Store(Nor(blocks, prog_size))
    store.mount()
    return store


def again(store):
    """Another store on the same flash, as after a restart."""
    other = Store(store.flash)
    other.mount()
    assert other.damaged == 0
    return other


def pattern(size):
    value = bytearray(size)
    for i in range(size):
        value[i] = (7 * i + (i >> 8)) & 255
    return bytes(value)


def test_values_are_there_now_and_after_a_restart():
    store = make()
    values = {"a": b"", "default/device/lamp": b"on", "uml/\u00e4\u00f6": b"\xff" * 100, "b": pattern(564)}
    for key, value in values.items():
        store.put(key, value)
    for each in (store, again(store)):
        for key, value in values.items():
            assert each.get(key) == value and each.length(key) == len(value) and key in each
        assert sorted(each.keys()) == sorted(values)


def test_what_is_not_there():
    store = make()
    store.put("here", b"1")
    for each in (store, again(store)):
        assert each.get("not") is None and each.length("not") is None and "not" not in each
        assert each.delete("not") is False
        raises(KeyError, each.readinto, "not", 0, bytearray(4))


def test_the_last_put_counts():
    store = make()
    for i in range(300):
        store.put("node/%d" % (i % 5), b"%d" % i * 20)
    for each in (store, again(store)):
        for i in range(295, 300):
            assert each.get("node/%d" % (i % 5)) == b"%d" % i * 20


def test_a_deleted_key_stays_away_and_its_number_is_used_again():
    store = make()
    for name in ("a", "b", "c"):
        store.put(name, b"old " + name.encode())
    assert store.delete("b") is True
    assert store.delete("b") is False
    store.put("d", b"new")
    for each in (store, again(store)):
        assert each.get("b") is None
        assert each.get("d") == b"new" and each.get("a") == b"old a" and each.get("c") == b"old c"
        assert len(each._names) == 4  # number 0 is the store's own


def test_keys_by_prefix_while_the_store_changes():
    store = make()
    for i in range(12):
        store.put("default/device/%d" % i, b"x")
    store.put("default/configmap/a", b"x")
    seen = 0
    for key in store.keys("default/device/"):
        assert key.startswith("default/device/")
        store.delete(key)
        seen += 1
    assert seen == 12
    assert list(store.keys("default/device/")) == []
    assert list(store.keys("default/")) == ["default/configmap/a"]
    assert list(store.keys("default/configmap/a/longer/than/the/key")) == []


def test_keys_with_equal_hashes_are_told_apart():
    key, other = "k1623", "k8000"
    assert store_hash(key) == store_hash(other)
    store = make()
    store.put(key, b"one")
    assert store.get(other) is None
    store.put(other, b"two")
    store.put(key, b"three")
    for each in (store, again(store)):
        assert each.get(key) == b"three" and each.get(other) == b"two"


def store_hash(key):
    return crc32(key.encode()) & 0xFFFF


def test_a_hash_is_not_found_between_two_others():
    store = make()
    store.put("a", b"1")
    store.put("b", b"2")
    # The bytes of two neighbours that, taken across the border, are a third key's hash.
    store._hash[2:6] = bytes([1, store_hash("c") & 255, store_hash("c") >> 8, 9])
    assert store.get("c") is None


def test_a_large_value_is_cut_into_chunks():
    store = make()
    for size in (565, 1128, 4000):
        value = pattern(size)
        store.put("large", value)
        assert store.get("large") == value
        store = again(store)
        assert store.get("large") == value and store.length("large") == size
    store.put("large", b"small")
    assert store.get("large") == b"small" and store._streams == {}
    assert again(store).get("large") == b"small"


def test_readinto_any_part():
    store = make()
    value = pattern(1500)
    store.put("large", value)
    store.put("small", value[:100])
    buf = bytearray(130)
    for offset in (0, 1, 500, 563, 564, 565, 1128, 1371, 1499, 1500, 2000):
        count = store.readinto("large", offset, buf)
        assert buf[:count] == value[offset : offset + 130], offset
        assert count == max(0, min(130, 1500 - offset))
    assert store.readinto("small", 90, buf) == 10 and buf[:10] == value[90:100]
    assert store.readinto("small", 100, buf) == 0


def test_how_every_value_begins():
    store = make()
    store.put("large", pattern(1500))
    store.put("small", b"abc")
    store.put("empty", b"")
    store.put("gone", b"x")
    heads = store.heads(80)
    seen = {}
    for key, head, count in heads:
        seen[key] = bytes(head[:count])
        store.delete("gone")
    seen.pop("gone", None)
    assert seen == {"large": pattern(80), "small": b"abc", "empty": b""}


def test_a_batch_is_one():
    store = make()
    store.put("gone", b"x")
    store.put("kept", b"1")
    store.batch([("kept", b"2"), ("gone", None), ("new", b"3"), ("large", pattern(700)), ("never", None)])
    store.batch([])
    store.batch([("never", None)])
    for each in (store, again(store)):
        assert each.get("kept") == b"2" and each.get("gone") is None and each.get("new") == b"3"
        assert each.get("large") == pattern(700)


def test_batch_limits():
    store = make()
    assert raises(StoreError, store.batch, [("a", b"1"), ("a", b"2")]).code == "batch"
    many = [("k%d" % i, b"") for i in range(65)]
    assert raises(StoreError, store.batch, many).code == "batch"
    store.batch(many[:-1])
    assert len(list(store.keys())) == 64
    assert raises(StoreError, store.batch, [("b", pattern(700)), ("", b"")]).code == "key"
    assert store._streams == {} and store.get("b") is None


def test_key_limits():
    store = make()
    longest = "k" * 480
    store.put(longest, b"1")
    store = again(store)
    assert store.get(longest) == b"1"
    for key in ("", longest + "k"):
        for function in (store.get, store.length, store.delete, store.__contains__):
            assert raises(StoreError, function, key).code == "key"
        assert raises(StoreError, store.put, key, b"").code == "key"


def test_a_streamed_put():
    store = make()
    value = pattern(3000)
    store.put("image", b"old")
    writer = store.writer("image", len(value))
    for at in range(0, 3000, 170):
        writer.write(value[at : at + 170])
        store.put("other", b"%d" % at)
        assert store.get("image") == b"old"
    writer.commit(hashlib.sha256(value).digest())
    writer.abort()
    for each in (store, again(store)):
        assert each.get("image") == value and each.get("other") == b"2890"


def test_a_streamed_put_that_fails_keeps_the_old_value():
    store = make()
    store.put("image", b"old")
    used = store.used
    wrong = store.writer("image", 700)
    wrong.write(pattern(700))
    assert raises(StoreError, wrong.commit, b"0" * 32).code == "digest"
    short = store.writer("image", 700)
    short.write(pattern(600))
    assert raises(StoreError, short.commit).code == "size"
    long = store.writer("image", 700)
    assert raises(StoreError, long.write, pattern(701)).code == "size"
    long.abort()
    given_up = store.writer("image", 700)
    given_up.write(pattern(600))
    given_up.abort()
    given_up.abort()
    assert store.used == used and store._streams == {}
    for each in (store, again(store)):
        assert each.get("image") == b"old"


def test_two_writers_at_once_and_an_empty_stream():
    store = make()
    one = store.writer("one", 1000)
    two = store.writer("two", 1000)
    for _ in range(10):
        one.write(b"1" * 100)
        two.write(b"2" * 100)
    two.commit()
    one.commit()
    store.writer("empty", 0).commit()
    for each in (store, again(store)):
        assert each.get("one") == b"1" * 1000 and each.get("two") == b"2" * 1000 and each.get("empty") == b""


def test_a_value_may_be_any_buffer():
    store = make()
    store.put("a", bytearray(b"bytearray"))
    store.put("b", memoryview(b"memoryview")[2:])
    store.put("c", memoryview(pattern(600))[1:])
    assert (
        store.get("a") == b"bytearray"
        and store.get("b") == b"moryview"
        and store.get("c") == pattern(600)[1:]
    )


def test_flash_limits():
    for blocks, prog_size, block_size in (
        (7, 32, 4096),
        (4097, 32, 4096),
        (8, 16, 4096),
        (8, 1024, 4096),
        (8, 32, 1000),
        (8, 96, 4096),
        (8, 512, 2048),
    ):
        flash = Nor(1)
        flash.blocks = blocks
        flash.prog_size = prog_size
        flash.block_size = block_size
        raises(ValueError, Store, flash)


def test_program_size_256():
    store = make(8, 256)
    for i in range(120):
        store.put("k%d" % (i % 3), b"%d" % i)
    store.put("large", pattern(757))
    for each in (store, again(store)):
        assert each.get("k2") == b"119" and each.get("large") == pattern(757)


def test_full_is_said_before_anything_is_lost_and_deleting_works():
    store = make()
    kept = {}
    while store.used + 11 <= store._limit:
        key = "key/%d" % len(kept)
        store.put(key, pattern(300))
        kept[key] = 1
    assert raises(StoreFull, store.put, "key/full", pattern(300)).code == "full"
    assert 15 < len(kept) < 30
    raises(StoreFull, store.put, "another", pattern(300))
    raises(StoreFull, store.put, "large", pattern(700))
    raises(StoreFull, store.writer, "large", 700)
    for i in range(100):
        store.put("key/0", b"%d" % i * 30)  # no larger than before: taken
    store = again(store)
    assert sorted(store.keys()) == sorted(kept)
    for key in kept:
        assert store.delete(key)
    store = again(store)
    assert list(store.keys()) == []
    store.put("another", pattern(300))


def test_a_batch_too_large_leaves_nothing():
    store = make()
    items = [("key/%d" % i, pattern(600)) for i in range(20)]
    raises(StoreFull, store.batch, items)
    assert list(store.keys()) == [] and store.used == 0
    assert list(again(store).keys()) == []


def test_an_idle_step_allocates_nothing_and_does_nothing():
    store = make()
    store.put("a", b"1")
    assert store.step() is False
    erases = store.flash.erases
    assert heap_locked(store.step) is False
    assert store.flash.erases == erases
