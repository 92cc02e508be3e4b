"""What a `kvlog.Store` does when flash let it down: count damage, retire blocks, void a group cut short.

Functions of a store, apart from it because a board borrows this module (`motelet.borrow`); most never do.
"""

from struct import pack_into

from micropython import const

from motelet import borrow

_FIRST_PAGE = const(2)

_VALUE = const(2)
_ABORT = const(6)

_ALONE = const(3)

_USED = const(1)
_BAD = const(2)
_SUSPECT = const(4)


def damage(store, where):
    """Count what is unreadable at `where`, and tell who wants to know."""
    store.damaged += 1
    store._state[where // store._per] |= _SUSPECT
    if store.on_damage:
        store.on_damage(where // store._per, where % store._per)


def lose(store, number, where):
    """A key whose name or value is unreadable is gone; the page count heals at the next mount."""
    damage(store, where)
    store._names[number] = store._values[number] = 0
    store._unused = min(store._unused, max(number, 1))


def sweep(store, block):
    """What the index still points to in a block that was copied is lost."""
    low = block * store._per + _FIRST_PAGE
    high = (block + 1) * store._per
    for number in range(len(store._names)):
        if low <= store._names[number] < high:
            lose(store, number, store._names[number])
        elif low <= store._values[number] < high:
            store._unnoted = store._unnoted or not number
            lose(store, number, store._values[number])
    for locations in store._streams.values():
        for index in range(len(locations)):
            if low <= locations[index] < high:
                damage(store, locations[index])
                locations[index] = 0
    store._hole = False


def retire(store, block):
    """Never open this block again; it is noted on flash by `settle`, before the next group."""
    if not store._state[block] & _BAD:
        if not store._state[block] & _USED:
            store.spare -= 1
        store._state[block] |= _BAD
        store.retired += 1
        store._unnoted = store._due = True
        borrow("kvblock").judge(store)


def settle(store):
    """Finish what an earlier failure left: void a group cut short, note retired blocks."""
    if store._torn_seq:
        void(store, store._torn_seq, store._torn_page, _ALONE)
        store._sync()
        store._torn_seq = 0
    if store._unnoted:
        bits = bytearray((store._blocks + 7) // 8)
        for block in range(store._blocks):
            if store._state[block] & _BAD:
                bits[block >> 3] |= 1 << (block & 7)
        store._unnoted = False  # before the record: writing it may retire one more
        try:
            where = store._append(_VALUE, 0, 0, _ALONE, bits)
        except BaseException:
            store._unnoted = True
            raise
        old = store._values[0]
        store._values[0] = where
        store.used += store._pages(len(bits))
        store._release(old)


def void(store, seq, page, flags):
    """Declare void what was written in block `seq` from `page` on, and in later blocks."""
    place = bytearray(8)
    pack_into("<II", place, 0, seq, page)
    store._append(_ABORT, 0, 0, flags, place)
