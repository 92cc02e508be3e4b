"""What a `kvlog.Store` does once a block: open the next one, erase ahead, and compact the oldest.

Functions of a store, apart from it because a board borrows this module (`motelet.borrow`): some thirty
small puts fit between two uses of it. KVLOG.md has the format and the reasons.
"""

from binascii import crc32
from struct import pack_into

from micropython import const

from motelet import borrow
from motelet.kvrecord import StoreError, StoreFull, u16, u32

_FIRST_PAGE = const(2)
_HEADER_SIZE = const(28)
_MAGIC = const(0x31766B6D)  # "mkv1"; small enough not to be an object on a 32-bit board
_RESIDUE = const(0x2144DF1C)  # CRC-32 of anything that is followed by its own CRC-32
_BLANK_SIZE = const(512)
_BLANK_CRC = const(0xBD7BC39F)  # of 512 bytes of 0xff
_COMPACT_PAGES = const(64)  # copied at most before one record is written: with it, less than a block
_RESERVE_BLOCKS = const(4)
_TRIES = const(4)  # blocks that may fail under one record

_KEY = const(1)
_VALUE = const(2)
_STREAM = const(3)
_CHUNK = const(4)

_ALONE = const(3)

# A block's state; 0 is free.
_USED = const(1)
_BAD = const(2)
_SUSPECT = const(4)


# Room


def relieve(store, pages, puts):
    """Make sure that `pages` can be written without running out of blocks. StoreFull if it `puts`."""
    if store._torn_seq or store._unnoted:
        borrow("kvrepair").settle(store)
    room = store._per - _FIRST_PAGE
    need = _reserve(store, 0) + pages // (room - _large(store))
    if store._ease and _short(store):
        compact(store)
    for _ in range(4 * store._blocks):
        if store.spare >= need or not compact(store):
            break
    judge(store)
    if puts and store.spare < need:
        raise StoreFull()


def step(store):
    """`Store.step`, where there is something to do."""
    if store._torn_seq or store._unnoted:
        borrow("kvrepair").settle(store)
    if _short(store):
        compact(store)
        judge(store)
        return True
    judge(store)
    block = _next(store)
    if block >= 0 and block != store._erased:
        store._sync()
        if _erase(store, block):
            store._erased = block
    store._due = store._unnoted
    return False


def judge(store):
    """Note how many pages may be in use, and whether a put into the open block must come by `relieve`."""
    room = store._per - _FIRST_PAGE
    store._limit = (store._blocks - store.retired - 5) * room * 2 // 3
    store._tight = store._unnoted or store.spare <= _reserve(store, room) or _short(store)


def _reserve(store, more):
    """Blocks that a full turn of compaction may need before it gains any, with so many pages more in use."""
    room = store._per - _FIRST_PAGE
    large = _large(store)
    return _RESERVE_BLOCKS + (store.used + more) * large // (room * (room - large))


def _large(store):
    return len(store._buf) // store._unit


def _short(store):
    """Is it time to compact, or will it be when this block is full, and is there anything to gain?"""
    room = store._per - _FIRST_PAGE
    if store.spare > _reserve(store, room) + (store.used + room) // (8 * room):
        return False
    held = store._blocks - store.retired - store.spare
    return (held - 1) * (room - _large(store)) - store.used > room


# Blocks


def _next(store):
    """The block to open next, -1 when none may be erased."""
    block = store._head
    for _ in range(store._blocks):
        block = (block + 1) % store._blocks
        if not store._state[block]:
            return block
    return -1


def _erase(store, block):
    """Erase and look whether it is blank. False and retired when it is not."""
    size = store.flash.block_size
    view = store._view[:_BLANK_SIZE]
    good = True
    store._dirty = True
    try:
        store.flash.erase(block)
        for offset in range(block * size, block * size + size, _BLANK_SIZE):
            store.flash.read(offset, view)
            good = good and crc32(view) == _BLANK_CRC
    except OSError:
        good = False
    if not good:
        borrow("kvrepair").retire(store, block)
    store._sync()
    return good


def open(store):
    """Open the next block. The copies made so far must be durable before its header moves the tail."""
    store._sync()
    while True:
        block = _next(store)
        if block < 0:
            raise StoreFull()
        if (block == store._erased or _erase(store, block)) and _write_header(store, block):
            break
    store._state[block] = _USED
    if store._tail < 0:
        store._tail = block
        store._tail_seq = store._seq
        store._cursor = block * store._per + _FIRST_PAGE
    else:
        store._after[store._head] = block
    store._head = block
    store._head_seq = store._seq
    store._end = store._sealed = _FIRST_PAGE
    store.spare -= 1
    store._due = True
    while store._freed:
        store._state[store._freed.pop()] &= _BAD
    judge(store)


def _write_header(store, block):
    buf = store._buf
    unit = store._unit
    store._seq += 1
    store._erased = -1
    for at in range(2 * unit):
        buf[at] = 255
    tail = store._tail_seq or store._seq
    pack_into("<IIII", buf, 0, _MAGIC, store._seq, store._head_seq, tail)
    pack_into("<HHI", buf, 16, store._sealed, unit, store._blocks)
    pack_into("<I", buf, 24, crc32(store._view[:24]))
    buf[unit : unit + _HEADER_SIZE] = buf[:_HEADER_SIZE]
    store._dirty = True
    try:
        store.flash.prog(block * store.flash.block_size, store._view[: 2 * unit])
    except OSError:
        borrow("kvrepair").retire(store, block)
        return False
    if header(store, block) == store._seq:
        return True
    borrow("kvrepair").retire(store, block)
    return False


def header(store, block):
    """Load a block's header into the buffer: its sequence, 0 when there is none."""
    view = store._view[:_HEADER_SIZE]
    for page in range(_FIRST_PAGE):
        try:
            store.flash.read(block * store.flash.block_size + page * store._unit, view)
        except OSError:
            continue
        if crc32(view) == _RESIDUE and u32(view, 0) == _MAGIC:
            if u16(view, 18) == store._unit and u32(view, 20) == store._blocks:
                return u32(view, 4)
    return 0


# Compaction


def compact(store):
    """Copy some of what the tail block holds, or free it. False when only the head is left."""
    if store._tail == store._head:
        return False
    budget = _COMPACT_PAGES
    stop = (store._tail + 1) * store._per
    while store._cursor < stop:
        if budget <= 0:
            return True
        where = store._cursor
        size = store._load(where)
        if size < 0:
            store._cursor += 1
            store._hole = store._hole or store._buf[0] != 255
            continue
        pages = store._pages(size)
        table = table_of(store)
        if table is not None and table[place(store)] == where:
            if not move(store, where, _ALONE):
                store._hole = True
            budget -= pages
        store._cursor += pages
    if store._hole:
        borrow("kvrepair").sweep(store, store._tail)
    _free_tail(store)
    return True


def _free_tail(store):
    block = store._tail
    if store._state[block] & _SUSPECT and store.retired * 8 < store._blocks:
        borrow("kvrepair").retire(store, block)
    if not store._state[block] & _BAD:
        store.spare += 1
    store._freed.append(block)
    store._tail = store._after[block]
    store._tail_seq = header(store, store._tail) or store._tail_seq + 1
    store._cursor = store._tail * store._per + _FIRST_PAGE


def move(store, where, flags):
    """Copy a record to the head and let the index point there; False when it became unreadable."""
    for _ in range(_TRIES):
        size = store._load(where)
        if size < 0:
            return False
        if store._end + store._pages(size) > store._per:
            open(store)
            if store._load(where) != size:
                return False
        store._buf[1] = flags
        new = store._program(size)
        if new:
            table = table_of(store)
            at = place(store)
            if table is not None and table[at] == where:
                table[at] = new
            return True
    raise StoreError("flash", "cannot program")


def table_of(store):
    """The part of the index that the record in the buffer belongs to; None when it is of no use."""
    kind = store._buf[0]
    table = None
    if kind == _CHUNK:
        table = store._streams.get(u16(store._buf, 2))
    elif kind == _KEY:
        table = store._names
    elif kind == _VALUE or kind == _STREAM:
        table = store._values
    return table if table is not None and place(store) < len(table) else None


def place(store):
    """Where in its table the record in the buffer belongs."""
    return u16(store._buf, 6 if store._buf[0] == _CHUNK else 2)
