"""Recovery of a `kvlog.Store` from whatever its flash holds (KVLOG.md, section 4).

Apart from the store because it runs once, at start: a gateway short of memory can forget it afterwards.
"""

from array import array
from binascii import crc32

from micropython import const

from motelet.kvrecord import StoreError, StoreFull, u16, u32

_FIRST_PAGE = const(2)
_SPARE_LOW = const(4)
_STREAM_SIZE = const(36)

_KEY = const(1)
_STREAM = const(3)
_CHUNK = const(4)
_DELETE = const(5)
_ABORT = const(6)

_FIRST = const(1)
_LAST = const(2)

_USED = const(1)
_BAD = const(2)


class Recovery:
    """One mount of one store. It works on the store's fields, as a part of it that is needed once."""

    def __init__(self, store):
        self.store = store
        # Records that were valid once and not when they were read again: only the one that was cut can be.
        self.flaky = []

    def run(self):
        while True:  # Each turn but the last adds to `flaky`.
            self.store.reset()
            self.pending = []
            self.closed = True  # the pending group has its last record
            self.broken = False  # the pending group misses a record
            self.hole = False
            self.streams_of = {}
            try:
                if self._attempt():
                    return
            except StoreError:
                return  # No block can be opened: what was found stays readable.

    def _attempt(self):
        store = self.store
        chain = self._chain()
        if not chain:
            store.open()
            store.sync()
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
            seqs[block] = store.header(block)
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
                store.damage(block * store._per)
            chain.append(block)
            expected = befores[block]
        if expected >= tail:
            store.damage(chain[-1] * store._per)
        chain.reverse()
        return chain

    def _holds_group(self, block):
        """Does the block hold the last record of a group? A block without was cut, and counts for nothing."""
        store = self.store
        per = store._per
        for where in range(block * per + _FIRST_PAGE, (block + 1) * per):
            if where not in self.flaky and store.load(where) >= 0 and store._buf[1] & _LAST:
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
            size = -1 if where in self.flaky else store.load(where)
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
        self.store.damage(where)
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
            store.grow(number)
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
            if store.load(values[number]) != _STREAM_SIZE:
                self.flaky.append(values[number])
                return False
            count = -(-u32(store._buf, 8) // store.chunk_size)
            locations = store._streams.get(stream, array(store._type))[:count]
            while len(locations) < min(count, store._blocks * store._per):
                locations.append(0)
            streams[stream] = locations
        store._streams = streams
        if values[0]:
            size = store.load(values[0])
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
            store.open()
        except StoreFull:
            # Worn out but for that block: a risk if this is cut too, and otherwise the end.
            store._state[self.fallback] = fallback
            store.open()
        if not self._settle(kept, void, replaced):
            return False
        store.sync()
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
            if store.load(where) < 0:
                self.flaky.append(where)
                return None
            table = store.table()
            if store._buf[0] in (_DELETE, _ABORT) or (table is not None and table[store.place()] == where):
                kept.append(where)
        return kept or self.records[-1:]

    def _settle(self, kept, void, replaced):
        """Write `kept` again as one group, aborts first: they are about what is older than the group."""
        store = self.store
        if void:
            if not replaced:
                kept = []
            store.void(void // store._per, void % store._per, _FIRST if kept else _FIRST | _LAST)
        aborts = [where for where in kept if store.load(where) >= 0 and store._buf[0] == _ABORT]
        kept = aborts + [where for where in kept if where not in aborts]
        flags = _FIRST
        for where in kept:
            last = _LAST if where == kept[-1] else 0
            if last:
                store.sync()  # What makes the block count must not be on disk before the rest.
            if not store.move(where, flags | last):
                self.flaky.append(where)
                return False
            if where not in aborts:
                flags = 0
        return True
