"""Recovery of a `kvlog.Store` from whatever its flash holds (KVLOG.md, section 4).

Apart from the store because it runs once, at start: a gateway short of memory can forget it afterwards.
"""

from array import array
from binascii import crc32

from micropython import const

from motelet import borrow
from motelet.kvrecord import StoreError, StoreFull, u16, u32

_BLOCKS_MIN = const(8)
_BLOCKS_MAX = const(4096)
_RECORD_SIZE = const(576)  # the largest record, before it is rounded up to whole pages
_OVERHEAD = const(12)
_BLANK_SIZE = const(512)  # what is looked at once when a block is to be blank
_FIRST_PAGE = const(2)
_SPARE_LOW = const(4)
_STREAM_SIZE = const(36)  # of the payload of a stream record: the value's size, its digest
_SEALED_SIZE = const(20)  # the value's size, the nonce

_KEY = const(1)
_STREAM = const(3)
_CHUNK = const(4)
_DELETE = const(5)
_ABORT = const(6)

_FIRST = const(1)
_LAST = const(2)

_USED = const(1)
_BAD = const(2)


def prepare(store):
    """Set up a new store for its flash. ValueError for a flash that none fits."""
    flash = store.flash
    unit = flash.prog_size
    size = flash.block_size
    if not (_BLOCKS_MIN <= flash.blocks <= _BLOCKS_MAX and 32 <= unit <= 512):
        raise ValueError("flash of %d blocks, program size %d" % (flash.blocks, unit))
    if size % _BLANK_SIZE or size % unit or size // unit < 8:
        raise ValueError("flash block size %d" % size)
    store._unit = unit
    store._per = size // unit
    store._blocks = flash.blocks
    store._buf = bytearray(-(-_RECORD_SIZE // unit) * unit)
    store._view = memoryview(store._buf)
    store._start = store._view[:8]
    store._pattern = bytearray(2)
    store._type = "H" if store._blocks * store._per <= 65536 else "I"
    store.chunk_size = len(store._buf) - _OVERHEAD
    _reset(store)


def _reset(store):
    """Forget everything in RAM: the store of an empty ring."""
    store.damaged = store.retired = store.used = 0
    store.spare = store._blocks
    store._state = bytearray(store._blocks)
    store._after = array("H", bytes(2 * store._blocks))  # the block that follows each in the log
    store._freed = []  # blocks that the next header frees
    store._ahead = 1  # so many blocks are to be erased ahead
    store._copied = 0  # pages, since blocks became short
    store._hash = bytearray(2)
    store._names = array(store._type, [0])
    store._values = array(store._type, [0])
    store._streams = {}
    store._unused = 1  # no number below it is free
    store._seq = store._head_seq = store._tail_seq = 0
    store._head = store._tail = -1
    store._sealed = store._cursor = store._limit = 0
    store._end = store._per  # no block is open
    store._torn_seq = store._torn_page = 0  # where a group begins that is not known to be durable
    store._dirty = store._hole = store._unnoted = False
    store._due = False  # there is something for `step` to do
    store._tight = True  # a put must make room first
    store._ease = True  # and may compact for it: once for a value of several chunks


class Recovery:
    """One mount of one store. It works on the store's fields, as a part of it that is needed once."""

    def __init__(self, store):
        self.store = store
        self._block = borrow("kvblock")
        self._repair = borrow("kvrepair")
        # Records that were valid once and not when they were read again: only the one that was cut can be.
        self.flaky = []

    def run(self):
        while True:  # Each turn but the last adds to `flaky`.
            _reset(self.store)
            self.pending = []
            self.closed = True  # the pending group has its last record
            self.broken = False  # the pending group misses a record
            self.hole = False
            self.streams_of = {}
            try:
                if self._attempt():
                    break
            except StoreError:
                break  # No block can be opened: what was found stays readable.
        self._block.judge(self.store)

    def _attempt(self):
        store = self.store
        chain = self._chain()
        if not chain:
            self._block.open(store)
            store._sync()
            return True
        for at in range(len(chain)):
            block = chain[at]
            after = chain[at + 1] if at + 1 < len(chain) else -1
            sealed = after >= 0 and self.befores[after] == self.seqs[block]
            self._replay(block, self.seals[after] if sealed else store._per, sealed)
        if not self.ended:
            self.flaky.append(self.held)
            return False
        void = self.pending[0][5] if self.pending and (self.broken or not self.closed) else 0
        if not void:
            self._apply()
        return self._index() and self._renew(chain, void)

    def _chain(self):
        """The blocks of the log, oldest first; [] when there is no record."""
        store = self.store
        count = store._blocks
        seqs = self.seqs = [0] * count
        befores = self.befores = [0] * count
        seals = self.seals = [0] * count
        tail = 1
        for block in range(count):
            seqs[block] = self._block.header(store, block)
            if seqs[block]:
                befores[block] = u32(store._buf, 8)
                tail = max(tail, u32(store._buf, 12))
                seals[block] = u16(store._buf, 16)
        store._seq = max(seqs)
        order = [block for block in range(count) if seqs[block] >= tail]
        order.sort(key=lambda block: -seqs[block])
        while order and not self._holds_group(order[0]):
            order.pop(0)
        if not order:
            return order
        # Should the head's last record be half programmed, the next mount may have to fall back on this one.
        self.fallback = order[1] if len(order) > 1 else order[0]
        chain = []
        expected = seqs[order[0]]
        for block in order:
            if seqs[block] > expected:
                continue  # opened by a mount that was cut, and left out since
            if seqs[block] < expected:
                self._repair.damage(store, block * store._per)
            chain.append(block)
            expected = befores[block]
        if expected >= tail:
            self._repair.damage(store, chain[-1] * store._per)
        chain.reverse()
        return chain

    def _holds_group(self, block):
        """Does the block hold the last record of a group? A block without was cut, and counts for nothing."""
        store = self.store
        per = store._per
        for where in range(block * per + _FIRST_PAGE, (block + 1) * per):
            if where not in self.flaky and store._load(where) >= 0 and store._buf[1] & _LAST:
                self.held = where
                return True
        return False

    def _replay(self, block, stop, sealed):
        """Read the records of a block below page `stop`; damage is certain only in a sealed block."""
        store = self.store
        where = block * store._per + _FIRST_PAGE
        stop = block * store._per + min(stop, store._per)
        self.records = []
        self.ended = False
        while where < stop:
            size = -1 if where in self.flaky else store._load(where)
            if size < 0:
                self.hole = True
                where += 1
                continue
            if self.hole:
                self._damage(where - 1)
            self.ended = self.ended or store._buf[1] & _LAST
            self._record(where, size)
            self.records.append(where)
            where += store._pages(size)
        if self.hole and sealed:
            self._damage(where - 1)
        self.hole = False

    def _damage(self, where):
        self._repair.damage(self.store, where)
        self.hole = False
        self.broken = self.broken or not self.closed

    def _record(self, where, size):
        """Take the record in the buffer. A group counts when the next one begins, unless that is an abort."""
        store = self.store
        buf = store._buf
        if buf[0] == _ABORT:
            if self.pending and self.pending[0][5] >= u32(buf, 8) * store._per + u32(buf, 12):
                self.pending = []
                self.closed = True
                self.broken = False
            return
        first = buf[1] & _FIRST
        if first or self.closed:
            self._apply()
            self.broken = not first
        self.closed = buf[1] & _LAST != 0
        check = crc32(store._view[8 : 8 + size]) if buf[0] == _KEY else 0
        place = self.seqs[where // store._per] * store._per + where % store._per
        self.pending.append((buf[0], u16(buf, 2), u16(buf, 6), where, check, place))

    def _apply(self):
        store = self.store
        for kind, number, aux, where, check, _ in self.pending:
            if max(number, aux) >= store._blocks * store._per:
                continue  # No store writes this: each takes a page.
            if kind == _CHUNK:
                locations = store._streams.setdefault(number, array(store._type))
                while len(locations) <= aux:
                    locations.append(0)
                locations[aux] = where
                continue
            self._grow(number)
            if kind == _KEY:
                store._names[number] = where
                store._hash[2 * number] = check & 255
                store._hash[2 * number + 1] = check >> 8 & 255
                continue
            store._values[number] = where if kind != _DELETE else 0
            if kind == _STREAM:
                self.streams_of[number] = aux
            else:
                self.streams_of.pop(number, None)
            if kind == _DELETE:
                store._names[number] = 0
        self.pending = []

    def _grow(self, number):
        store = self.store
        while len(store._names) <= number:
            store._hash.extend(b"\0\0")
            store._names.append(0)
            store._values.append(0)

    def _index(self):
        """Drop what belongs to no key, count the pages in use, read the bitmap of retired blocks.

        False when a record reads differently now.
        """
        store = self.store
        names = store._names
        values = store._values
        for number in range(1, len(names)):
            if not names[number] or not values[number]:
                names[number] = values[number] = 0
                self.streams_of.pop(number, None)
        streams = {}
        for number, stream in self.streams_of.items():
            found = store._load(values[number])
            if found != _STREAM_SIZE and found != _SEALED_SIZE:
                self.flaky.append(values[number])
                return False
            size = store.chunk_size if found == _STREAM_SIZE else borrow("kvseal").chunk_size(store)
            count = -(-u32(store._buf, 8) // size)
            locations = store._streams.get(stream, array(store._type))[:count]
            while len(locations) < min(count, store._blocks * store._per):
                locations.append(0)
            streams[stream] = locations
        store._streams = streams
        if values[0]:
            size = store._load(values[0])
            if size < 0:
                self.flaky.append(values[0])
                return False
            self._read_retired(size)
        for table in [names, values] + list(streams.values()):
            for where in table:
                if where:
                    store.used += store._extent(where)
        return True

    def _read_retired(self, size):
        store = self.store
        for block in range(min(8 * size, store._blocks)):
            if store._buf[8 + (block >> 3)] >> (block & 7) & 1:
                store._state[block] |= _BAD
                store.retired += 1

    def _renew(self, chain, void):
        """Open a block and settle there how the log ended. False when a record reads differently now."""
        store = self.store
        head = chain[-1]
        for at in range(len(chain)):
            store._state[chain[at]] |= _USED
            store._after[chain[at]] = chain[min(at + 1, len(chain) - 1)]
        store.spare = store._state.count(b"\0")
        fallback = store._state[self.fallback]
        store._state[self.fallback] |= _USED
        # So short of blocks, mounts that are cut one after the other must not use up the rest: the
        # head is replaced, not followed. The new block counts when the last record of the copy is there.
        replaced = store.spare < _SPARE_LOW
        kept = self._worth_copying() if replaced else self.records[-1:]
        if kept is None:
            return False
        store._sealed = self.seals[head] if replaced else self.records[-1] % store._per
        if replaced:
            chain.pop()
        if chain:
            store._head = chain[-1]
            store._head_seq = self.seqs[chain[-1]]
            store._tail = chain[0]
            store._tail_seq = self.seqs[chain[0]]
            store._cursor = chain[0] * store._per + _FIRST_PAGE
        else:
            store._head = head
        try:
            self._block.open(store)
        except StoreFull:
            # Worn out but for that block: a risk if this is cut too, and otherwise the end.
            store._state[self.fallback] = fallback
            self._block.open(store)
        if not self._settle(kept, void, replaced):
            return False
        store._sync()
        store._state[self.fallback] = fallback
        if replaced:
            store._state[head] &= _BAD
            store.spare += not store._state[head]
        return True

    def _worth_copying(self):
        """The records of the head that count, at least one; None when one reads differently now."""
        store = self.store
        cut = [item[3] for item in self.pending]
        kept = []
        for where in self.records:
            if where in cut:
                continue
            if store._load(where) < 0:
                self.flaky.append(where)
                return None
            table = self._block.table_of(store)
            current = table is not None and table[self._block.place(store)] == where
            if current or store._buf[0] in (_DELETE, _ABORT):
                kept.append(where)
        return kept or self.records[-1:]

    def _settle(self, kept, void, replaced):
        """Write `kept` again as one group, aborts first: they are about what is older than the group."""
        store = self.store
        if void:
            if not replaced:
                kept = []
            flags = _FIRST if kept else _FIRST | _LAST
            self._repair.void(store, void // store._per, void % store._per, flags)
        aborts = [where for where in kept if store._load(where) >= 0 and store._buf[0] == _ABORT]
        kept = aborts + [where for where in kept if where not in aborts]
        flags = _FIRST
        for where in kept:
            last = _LAST if where == kept[-1] else 0
            if last:
                store._sync()  # What makes the block count must not be on disk before the rest.
            if not self._block.move(store, where, flags | last):
                self.flaky.append(where)
                return False
            if where not in aborts:
                flags = 0
        return True
