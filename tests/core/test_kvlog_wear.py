"""What the store asks of the flash: bytes, erases, their distribution, and how long one call may take."""

from nor import Nor

from motelet.kvlog import Store


def make(blocks, prog_size=32):
    store = Store(Nor(blocks, prog_size))
    store.mount()
    return store


def name(i):
    return "default/device/thermometer-%02d-north-building" % i  # 43 bytes


def test_a_put_waits_for_one_erase_at_most_even_when_nearly_full():
    store = make(12)
    flash = store.flash
    for i in range(20):
        store.put(name(i), b"s" * 560)
    while store.used + 24 < store._limit:
        store.put(".fill/%d" % store.used, b"f" * 300)
    for i in range(600):
        before = flash.erases
        store.put(name(i % 5), b"%d" % i * 30)
        assert flash.erases - before <= 1
    assert store.get(".fill/%d" % 0) is None


def test_no_erase_in_a_put_when_a_block_was_erased_ahead():
    store = make(8)
    flash = store.flash
    for i in range(200):
        while store.step():
            pass
        before = flash.erases
        store.put(name(i % 5), b"x" * 100)
        assert flash.erases == before


def test_a_step_erases_once_at_most_and_ends():
    store = make(8)
    flash = store.flash
    for i in range(300):
        store.put(name(i % 7), b"x" * (i % 200))
        for _ in range(20):
            before = flash.erases
            more = store.step()
            assert flash.erases - before <= 1
            if not more:
                break
        assert not more


def test_wear_is_even_beside_static_data():
    store = make(8)
    for i in range(8):
        store.put(name(i), b"static" * 50)
    for i in range(1200):
        store.put(name(10 + i % 3), b"%d" % i * 25)
    erases = store.flash.erases_of
    assert min(erases) > 4 and max(erases) <= 2 * min(erases), erases
    for i in range(8):
        assert store.get(name(i)) == b"static" * 50


def test_an_update_of_100_bytes_costs_little():
    store = make(12)
    flash = store.flash
    for i in range(20):
        store.put(name(i), b"x" * 100)
    programmed = flash.programmed
    erases = flash.erases
    for i in range(800):
        store.put(name(i % 20), b"%03d" % i * 33 + b"x")
    assert (flash.programmed - programmed) / 800 <= 145
    assert (flash.erases - erases) / 800 <= 0.037


def test_many_keys():
    store = make(10)
    for i in range(150):
        store.put("default/device/%d" % i, b"%d" % i)
    again = Store(store.flash)
    again.mount()
    assert len(list(again.keys())) == 150 and again.get("default/device/149") == b"149"
    # 6 bytes a key: two of hash, two of each location.
    assert len(again._hash) == 302 and len(again._names) == 151 and again._type == "H"
