"""Several changes of a `kvlog.Store` as one, and values that are larger than a record.

Functions of a store, apart from it because a board borrows this module (`motelet.borrow`).
"""

from micropython import const

from motelet import borrow
from motelet.kvrecord import StoreError, is_secret

_BATCH_MAX = const(64)

_KEY = const(1)
_VALUE = const(2)
_STREAM = const(3)
_DELETE = const(5)

_FIRST = const(1)
_LAST = const(2)


def batch(store, items):
    """`Store.batch`."""
    if len(items) > _BATCH_MAX or len(set([pair[0] for pair in items])) < len(items):
        raise StoreError("batch", "%d items, or a key twice" % len(items))
    staged = []
    pages = 0
    for key, value in items:
        if value is not None and (len(value) > store.chunk_size or is_secret(key)):
            pages += -(-len(value) // store.chunk_size) * (len(store._buf) // store._unit)
    try:
        if pages:
            store._room(pages, pages, True)
            store._ease = False
        for key, value in items:
            raw = store._encode(key)
            if value is None:
                staged.append((raw, _DELETE, 0, b""))
            elif len(value) <= store.chunk_size and not is_secret(key):
                staged.append((raw, _VALUE, 0, value))
            else:
                # What counts is the record that names the chunks.
                staged.append(borrow("kvstream").item(store, key, value))
    except BaseException:
        _drop_streams(store, staged)
        raise
    finally:
        store._ease = True
    write(store, staged)


def write(store, items):
    """Write (raw key, kind, aux, payload) as one group and wait until it is durable."""
    made = []
    try:
        group = _prepare(store, items)
        if not group:
            return
        store._begin()
        done = _append(store, group, made)
        store._sync()
    except BaseException:
        for number in made:
            store._names[number] = 0
            store._unused = min(store._unused, number)
        _drop_streams(store, items)
        raise
    # It is durable: all of the index follows at once, the page counts later: they take reads, which may fail.
    store._torn_seq = 0
    for number, where, pages, _, _ in done:
        store._values[number] = where
        store.used += pages
        if not where:
            store._names[number] = 0
            store._unused = min(store._unused, number)
    for _, _, _, value, name in done:
        store._release(value)
        store._release(name)


def _drop_streams(store, items):
    for item in items:
        if item[1] == _STREAM:
            store._drop(item[2])


def _prepare(store, items):
    """Make room for a group; its items but for deletes of what is not there. StoreFull."""
    pages = growth = 0
    puts = streams = False
    group = []
    for item in items:
        number = store._find(item[0])
        size = store._pages(len(item[3]))
        if item[1] == _DELETE:
            if number:
                pages += size
                group.append(item)
            continue
        group.append(item)
        puts = True
        streams = streams or item[1] == _STREAM
        pages += size
        growth += size
        if not number:
            pages += store._pages(len(item[0]))
            growth += store._pages(len(item[0]))
        elif store.used + growth > store._limit:
            growth -= store._extent(store._values[number])
    if group:
        store._room(pages, growth, puts)
    if streams:
        store._sync()  # A stream record must not be on disk before its chunks.
    return group


def _append(store, items, made):
    """Append the records; numbers of new keys go to `made`.

    -> [(number, location (0: deleted), pages, locations of the value and the name that are garbage then)].
    """
    done = []
    flags = _FIRST
    left = len(items)
    for raw, kind, aux, data in items:
        left -= 1
        number = store._find(raw)
        pages = store._pages(len(data))
        if not number:
            number = store._number(raw)
            made.append(number)
            store._names[number] = store._append(_KEY, number, 0, flags, raw)
            pages += store._pages(len(raw))
            flags = 0
        where = store._append(kind, number, aux, flags if left else flags | _LAST, data)
        if kind == _DELETE:
            done.append((number, 0, 0, store._values[number], store._names[number]))
        else:
            done.append((number, where, pages, store._values[number], 0))
        flags = 0
    return done
