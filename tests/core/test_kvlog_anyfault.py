"""One failure, once, at every call of the flash that an operation of the store makes: nothing is lost."""

import gc

from nor import Nor

from motelet.kvlog import Store, StoreError
from tests_util import IS_MICROPYTHON

_STRIDE = 5 if IS_MICROPYTHON else 1  # of the calls that fail; a board's interpreter takes its time
_CALLS_MAX = 3000


class Failing(Nor):
    """Raises `error` at call number `at` from `arm` on, of all kinds of calls, and once."""

    left = -1

    def arm(self, at, error):
        self.left = at
        self.error = error

    def _call(self):
        self.left -= 1
        if self.left == -1:
            raise self.error(5)  # a new one each time: MicroPython adds to the trace of an old one

    def read(self, offset, buf):
        self._call()
        super().read(offset, buf)

    def prog(self, offset, buf):
        self._call()
        super().prog(offset, buf)

    def erase(self, block):
        self._call()
        super().erase(block)

    def sync(self):
        self._call()


def prepared():
    """A store that compacts, with values of every kind."""
    store = Store(Failing(10))
    store.mount()
    store.put("large", b"0" * 1300)
    for i in range(180):
        store.put("k%d" % (i % 3), b"%d" % i * 40)
        if i % 60 == 9:
            store.put("gone", b"x")
            store.delete("gone")
    return store


BEFORE = {"k0": b"177" * 40, "k1": b"178" * 40, "k2": b"179" * 40, "large": b"0" * 1300}


def stream(store):
    writer = store.writer("large", 1500)
    try:
        for _ in range(3):
            writer.write(b"s" * 500)
    except BaseException:
        writer.abort()
        raise
    writer.commit()


def several(store):
    store.batch([("k0", b"b"), ("k1", None), ("new", b"b" * 50), ("large", b"b" * 700)])


def steps(store):
    while store.step():
        pass


def into_the_next(store):
    """Puts that fill the open block and go on in the one that was erased ahead; -> whether they did."""
    steps(store)
    opened = False
    for _ in range(20):
        spare = store.spare
        store.put("k0", BEFORE["k0"])
        opened = opened or store.spare < spare
    return opened


# What is done, and what it changes.
OPERATIONS = (
    (lambda store: store.put("k0", b"p" * 80), {"k0": b"p" * 80}),
    (lambda store: store.put("new", b"n" * 80), {"new": b"n" * 80}),
    (lambda store: store.put("large", b"l" * 1200), {"large": b"l" * 1200}),
    (lambda store: store.delete("k1"), {"k1": None}),
    (several, {"k0": b"b", "k1": None, "new": b"b" * 50, "large": b"b" * 700}),
    (stream, {"large": b"s" * 1500}),
    (steps, {}),
    (lambda store: [store.get(key) for key in store.keys()], {}),
    (lambda store: [count for _, _, count in store.heads(80)], {}),
    (into_the_next, {}),
)


def found(store):
    return dict([(key, store.get(key)) for key in store.keys()])


def outcome(changes):
    after = dict(BEFORE)
    after.update(changes)
    return dict([(key, after[key]) for key in after if after[key] is not None])


def fails_at(action, changes, at, error):
    """Whether the operation makes so many calls; checks what it leaves when the one at `at` fails."""
    store = prepared()
    flash = store.flash
    where = (at, error)
    flash.arm(at, error)
    try:
        action(store)
        done = True
    except (StoreError, MemoryError):
        done = False
    reached = flash.left < 0
    flash.left = -1
    seen = found(store)
    assert seen == outcome(changes) or (seen == BEFORE and not done), (where, done, sorted(seen))
    action(store)  # what failed once is done the second time
    store.put("k2", b"last")
    expected = outcome(changes)
    expected["k2"] = b"last"
    assert found(store) == expected, where
    other = Store(flash)
    other.mount()
    assert found(other) == expected, where
    return reached


def every_call_fails_once(number, first):
    action, changes = OPERATIONS[number]
    for error in (OSError, MemoryError):
        at = first
        while fails_at(action, changes, at, error):
            at += _STRIDE
            assert at < _CALLS_MAX
        assert at > 0 or first == 0


def test_a_put():
    every_call_fails_once(0, 0)


def test_a_put_of_a_new_key():
    every_call_fails_once(1, 1 % _STRIDE)


def test_a_put_of_a_large_value():
    every_call_fails_once(2, 2 % _STRIDE)


def test_a_delete():
    every_call_fails_once(3, 0)


def test_a_batch():
    every_call_fails_once(4, 3 % _STRIDE)


def test_a_streamed_put():
    every_call_fails_once(5, 1 % _STRIDE)


def test_housekeeping():
    every_call_fails_once(6, 0)


def test_reading():
    every_call_fails_once(7, 0)
    every_call_fails_once(8, 0)


def test_puts_into_a_block_erased_ahead():
    assert into_the_next(prepared())
    every_call_fails_once(9, 3 % _STRIDE)


def test_a_start():
    original = None if IS_MICROPYTHON else prepared().flash
    for error in (OSError, MemoryError):
        at = 0
        reached = True
        while reached:
            if IS_MICROPYTHON:
                gc.collect()
                flash = prepared().flash
            else:
                flash = Failing(10)
                flash._content = [piece and bytearray(piece) for piece in original._content]
            flash.arm(at, error)
            store = Store(flash)
            try:
                store.mount()
            except MemoryError:
                flash.left = -1
                store = None
                if IS_MICROPYTHON:
                    gc.collect()
                store = Store(flash)  # as the board starts again
                store.mount()
            reached = flash.left < 0
            flash.left = -1
            assert found(store) == BEFORE, (at, error)
            store = flash = None
            at += 1 if not IS_MICROPYTHON else 11
