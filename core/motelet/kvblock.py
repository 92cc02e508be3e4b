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
_COMPACT_PAGES = const(64)  # copied at most by one `step`: less than a block
_PACE = const(8)  # pages copied for each page that is put, where blocks are short
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
_BLANK = const(8)  # erased ahead


# Room


def relieve(store, pages, puts):
    """Make sure that `pages` can be written without running out of blocks. StoreFull if it `puts`.

    Where the store has a task for it, it takes one erase at the most, together with what is written then:
    StoreError "busy" if it `puts` and needs more.
    """
    room = store._per - _FIRST_PAGE
    large = _large(store)
    # A record more than what was asked for, and one that is copied at the end, fit the same block.
    left = room - pages - 2 * large
    if store._torn_seq or store._unnoted:
        borrow("kvrepair").settle(store)
        left = 0
    if puts or store.spare >= _reserve(store, 0):
        left = min(left, _PACE * pages)
    while store._ease and left > 0 and _short(store):
        left = compact(store, left)
    need = _reserve(store, -store._copied) + pages // (room - large)
    task = store.task
    for _ in range(4 * store._blocks):
        if store.spare >= need or task or store._tail == store._head:
            break
        compact(store, _COMPACT_PAGES)
    judge(store)
    if task and store._due:
        task.wake()
    if puts:
        if store.spare < need and not (task and _gains(store)):
            raise StoreFull()
        more = -(-(pages + 2 * large - room) // (room - large))  # blocks opened behind the first
        if task and (store.spare < need or more > _blanks(store)):
            store._ahead = max(store._ahead, more)
            store._due = True
            task.wake()
            raise StoreError("busy", "store is making room, try again")


def step(store):
    """`Store.step`, where there is something to do."""
    if store._torn_seq or store._unnoted:
        borrow("kvrepair").settle(store)
    if _short(store):
        compact(store, _COMPACT_PAGES)
        judge(store)
        return True
    judge(store)
    block = _next(store, 0) if _blanks(store) < store._ahead else -1
    if block >= 0:
        store._sync()
        if _erase(store, block):
            store._state[block] = _BLANK
    more = block >= 0 and _blanks(store) < store._ahead
    store._due = store._unnoted or more
    return more and not store._unnoted


def judge(store):
    """Note how many pages may be in use, and whether a put into the open block must come by `relieve`."""
    room = store._per - _FIRST_PAGE
    store._limit = (store._blocks - store.retired - 5) * room * 2 // 3
    short = _short(store)
    store._tight = store._unnoted or store.spare <= _reserve(store, room) or short
    if not short:
        store._copied = 0


def _reserve(store, more):
    """Blocks that compaction may need before it gains any, to copy so many pages more than are in use."""
    room = store._per - _FIRST_PAGE
    large = _large(store)
    return _RESERVE_BLOCKS + max(0, store.used + more) * large // (room * (room - large))


def _large(store):
    return len(store._buf) // store._unit


def _short(store):
    """Is it time to compact, or will it be when this block is full, and is there anything to gain?"""
    room = store._per - _FIRST_PAGE
    slack = -(-store.used // (_PACE * room)) + store._ahead - 1
    return store.spare <= _reserve(store, room) + slack and _gains(store)


def _gains(store):
    """Would a full turn of compaction free a block?"""
    room = store._per - _FIRST_PAGE
    held = store._blocks - store.retired - store.spare
    return (held - 1) * (room - _large(store)) - store.used > room


# Blocks


def _blanks(store):
    return store._state.count(b"\x08")


def _next(store, state):
    """The next block behind the head that is in `state`, 0 or _BLANK; -1 when none is."""
    block = store._head
    for _ in range(store._blocks):
        block = (block + 1) % store._blocks
        if store._state[block] == state:
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
        block = _next(store, _BLANK)
        if block >= 0:
            store._state[block] = 0  # should this fail half-way, it is erased once more
        else:
            block = _next(store, 0)
            if block < 0:
                raise StoreFull()
            if not _erase(store, block):
                continue
        if _write_header(store, block):
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
    if store.task:
        store.task.wake()  # to erase the next
    while store._freed:
        store._state[store._freed.pop()] &= _BAD
    judge(store)


def _write_header(store, block):
    buf = store._buf
    unit = store._unit
    store._seq += 1
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


def compact(store, budget):
    """Copy so many pages of what the tail block holds, or free it: the pages left, 0 or less for none.

    None are when the head is all there is. The last record may be longer than what was left.
    """
    if store._tail == store._head:
        return 0
    stop = (store._tail + 1) * store._per
    while store._cursor < stop:
        if budget <= 0:
            return 0
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
            store._copied += pages
        store._cursor += pages
    if store._hole:
        borrow("kvrepair").sweep(store, store._tail)
    _free_tail(store)
    return budget


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
