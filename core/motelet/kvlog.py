"""MetaManager's store: a key-value log over erase blocks that survives a power cut at any instant.

KVLOG.md beside this file has the on-flash format, the reasons, and what was rejected. This module
reads, writes and compacts; recovery at start is `kvmount`, streamed writing is `kvstream`.

A flash is any object with `block_size`, `blocks`, `prog_size`, `read(offset, buf)`,
`prog(offset, buf)`, `erase(block)` and `sync()`, which raise OSError when the hardware fails.
One Store owns its flash; it is not thread-safe and calls nothing back but `on_damage`.
"""

import hashlib
from array import array
from binascii import crc32
from struct import pack_into

from micropython import const

from motelet import borrow
from motelet.kvrecord import StoreError, StoreFull, u16, u32

__all__ = ["BATCH_MAX", "KEY_SIZE_MAX", "Store", "StoreError", "StoreFull"]

KEY_SIZE_MAX = 480
BATCH_MAX = 64

_BLOCKS_MIN = const(8)
_BLOCKS_MAX = const(4096)
_RECORD_SIZE = const(576)  # the largest record, before it is rounded up to whole pages
_OVERHEAD = const(12)  # 8 bytes before the payload, the CRC behind it
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
_DELETE = const(5)
_ABORT = const(6)

_FIRST = const(1)
_LAST = const(2)
_ALONE = const(3)

# A block's state; 0 is free.
_USED = const(1)
_BAD = const(2)
_SUSPECT = const(4)


class Store:
    """Keys are str of 1 to KEY_SIZE_MAX bytes in UTF-8, values bytes of any size. Call `mount()` first.

    `damaged` counts the records and blocks found unreadable since mount, `retired` the blocks no longer
    used, `used` the pages that hold what is current, `spare` the blocks free to be opened.
    `on_damage(block, page)` is called for each damage when it is set.
    """

    def __init__(self, flash):
        unit = flash.prog_size
        size = flash.block_size
        if not (_BLOCKS_MIN <= flash.blocks <= _BLOCKS_MAX and 32 <= unit <= 512):
            raise ValueError("flash of %d blocks, program size %d" % (flash.blocks, unit))
        if size % _BLANK_SIZE or size % unit or size // unit < 8:
            raise ValueError("flash block size %d" % size)
        self.flash = flash
        self.on_damage = None
        self._unit = unit
        self._per = size // unit
        self._blocks = flash.blocks
        self._large = -(-_RECORD_SIZE // unit)
        self._buf = bytearray(self._large * unit)
        self._view = memoryview(self._buf)
        self._start = self._view[:8]
        self._pattern = bytearray(2)
        self._type = "H" if self._blocks * self._per <= 65536 else "I"
        self.chunk_size = len(self._buf) - _OVERHEAD
        self.reset()

    def reset(self):
        """Forget everything in RAM: the store of an empty ring."""
        self.damaged = self.retired = self.used = 0
        self.spare = self._blocks
        self._state = bytearray(self._blocks)
        self._after = array("H", bytes(2 * self._blocks))  # the block that follows each in the log
        self._freed = []  # blocks that the next header frees
        self._hash = bytearray(2)
        self._names = array(self._type, [0])
        self._values = array(self._type, [0])
        self._streams = {}
        self._unused = 1
        self._seq = self._head_seq = self._tail_seq = 0
        self._head = self._tail = self._erased = -1
        self._sealed = self._cursor = 0
        self._end = self._per  # no block is open
        self._torn_seq = self._torn_page = 0  # where a group begins that is not known to be durable
        self._dirty = self._hole = self._unnoted = False

    def mount(self):
        """Read the log and open a block. Any content will do: damage is counted, no store is formatted."""
        borrow("kvmount").Recovery(self).run()

    # Reading

    def get(self, key):
        """The value as bytes, or None when there is none or it is damaged."""
        total = self._locate(self._encode(key))
        if total < 0:
            return None
        if self._buf[0] == _VALUE:
            return bytes(self._view[8 : 8 + total])
        value = bytearray(total)
        if self._copy(total, 0, value) < 0:
            return None
        return bytes(value)

    def length(self, key):
        """Size of the value in bytes, or None."""
        total = self._locate(self._encode(key))
        return None if total < 0 else total

    def readinto(self, key, offset, buf):
        """Fill `buf` with the value from `offset` on: the count, 0 at the end. KeyError if there is none."""
        total = self._locate(self._encode(key))
        count = self._copy(total, offset, buf) if total >= 0 else -1
        if count < 0:
            raise KeyError(key)
        return count

    def __contains__(self, key):
        number = self._find(self._encode(key))
        return number > 0 and self._values[number] > 0

    def keys(self, prefix=""):
        """Iterate over the keys that start with `prefix`, in no order. The store may be changed meanwhile."""
        start = prefix.encode()
        number = 1
        while number < len(self._names):
            if self._values[number]:
                size = self.load(self._names[number])
                if size < 0:
                    self._lose(number, self._names[number])
                elif self._buf.find(start, 8, 8 + len(start)) == 8 and size >= len(start):
                    yield str(self._view[8 : 8 + size], "utf-8")
            number += 1

    # Writing

    def put(self, key, value):
        """Store `value` (bytes-like). Durable when it returns. StoreFull, StoreError."""
        if len(value) > self.chunk_size:
            self.batch([(key, value)])
            return
        raw = self._encode(key)
        number = self._find(raw)
        if not number:
            self._write([(raw, _VALUE, 0, value)])
            return
        pages = growth = self._pages(len(value))
        if self.used + growth > self._limit():
            growth -= self._extent(self._values[number])
        self._room(pages, growth, True)
        self._begin()
        where = self._append(_VALUE, number, 0, _ALONE, value)
        self.sync()
        self._torn_seq = 0
        self._set_value(number, where)

    def delete(self, key):
        """Remove the key, durably. False when there is none."""
        return self._write([self._item(key, None)])

    def batch(self, items):
        """Apply (key, value or None to delete) pairs, at most BATCH_MAX and each key once: all or nothing."""
        keys = set([pair[0] for pair in items])
        if len(keys) != len(items) or len(items) > BATCH_MAX:
            raise StoreError("batch", "%d items, %d keys" % (len(items), len(keys)))
        staged = []
        try:
            for key, value in items:
                staged.append(self._item(key, value))
        except BaseException:
            self._drop_streams(staged)
            raise
        self._write(staged)

    def writer(self, key, total):
        """A kvstream.Writer for a value of `total` bytes that is never whole in RAM."""
        return borrow("kvstream").Writer(self, key, total)

    def step(self):
        """One bounded piece of housekeeping, at most one erase, for idle times. True while there is more."""
        try:
            self._settle()
            if self._short():
                self.compact()
                return True
            block = self._next()
            if block >= 0 and block != self._erased:
                self.sync()
                if self._erase(block):
                    self._erased = block
        except StoreError:
            pass  # The flash fails; the next put has someone to tell.
        return False

    # Keys and the index

    def _encode(self, key):
        raw = key.encode()
        if not 0 < len(raw) <= KEY_SIZE_MAX:
            raise StoreError("key", "key of %d bytes" % len(raw))
        return raw

    def _find(self, raw):
        """The key's number, 0 when it has none."""
        check = crc32(raw)
        pattern = self._pattern
        pattern[0] = check & 255
        pattern[1] = check >> 8 & 255
        at = self._hash.find(pattern, 2)
        while at >= 0:
            number = at >> 1
            if not at & 1 and self._names[number]:
                size = self.load(self._names[number])
                if size < 0:
                    self._lose(number, self._names[number])
                elif size == len(raw) and self._buf.find(raw, 8, 8 + size) == 8:
                    return number
            at = self._hash.find(pattern, at + 1)
        return 0

    def _locate(self, raw):
        """Load the record of a key's value: the value's size, or -1."""
        number = self._find(raw)
        where = self._values[number]
        if not number or not where:
            return -1
        size = self.load(where)
        if size >= 0 and u16(self._buf, 2) == number:
            return u32(self._buf, 8) if self._buf[0] == _STREAM else size
        self._lose(number, where)
        return -1

    def _copy(self, total, offset, out):
        """Copy from the value whose record is loaded; the count, or -1 when a chunk is damaged."""
        room = min(len(out), total - offset)
        if room <= 0:
            return 0
        if self._buf[0] == _VALUE:
            out[:room] = self._view[8 + offset : 8 + offset + room]
            return room
        stream = self._streams[u16(self._buf, 6)]
        done = 0
        while done < room:
            index = (offset + done) // self.chunk_size
            skip = (offset + done) % self.chunk_size
            size = self.load(stream[index])
            if size < 0 or self._buf[0] != _CHUNK or u16(self._buf, 6) != index:
                self.damage(stream[index])
                return -1
            count = min(size - skip, room - done)
            out[done : done + count] = self._view[8 + skip : 8 + skip + count]
            done += count
        return done

    def _number(self, raw):
        """A number for a new key; the hash is entered, the name is the caller's to enter."""
        number = self._unused
        while number < len(self._names) and self._names[number]:
            number += 1
        if number > 65535:
            raise StoreFull()
        self.grow(number)
        self._unused = number + 1
        check = crc32(raw)
        self._hash[2 * number] = check & 255
        self._hash[2 * number + 1] = check >> 8 & 255
        return number

    def grow(self, number):
        """Make the index large enough for `number`."""
        while len(self._names) <= number:
            self._hash.extend(b"\0\0")
            self._names.append(0)
            self._values.append(0)

    def _set_value(self, number, where):
        old = self._values[number]
        self._values[number] = where
        self.used += self._extent(where)
        self._release(old)

    def _drop_streams(self, items):
        for item in items:
            if item[1] == _STREAM:
                self._drop_stream(item[2])

    def _release(self, where):
        """Count a record as garbage that the index no longer points to, and the chunks it names."""
        if where:
            self.used -= self._extent(where)
            if self._buf[0] == _STREAM:
                self._drop_stream(u16(self._buf, 6))

    def _drop_stream(self, stream):
        for where in self._streams.pop(stream, ()):
            if where:
                self.used -= self._extent(where)

    def _lose(self, number, where):
        """A key whose name or value is unreadable is gone; the page count heals at the next mount."""
        self.damage(where)
        self._names[number] = self._values[number] = 0
        self._unused = min(self._unused, max(number, 1))

    def damage(self, where):
        self.damaged += 1
        self._state[where // self._per] |= _SUSPECT
        if self.on_damage:
            self.on_damage(where // self._per, where % self._per)

    # Writing groups of records

    def _item(self, key, value):
        """One (raw key, kind, aux, payload) of a group. A large value is written ahead, as chunks."""
        raw = self._encode(key)
        if value is None:
            return (raw, _DELETE, 0, b"")
        if len(value) <= self.chunk_size:
            return (raw, _VALUE, 0, value)
        stream = self.stream(len(value))
        value = memoryview(value)
        try:
            for index in range(-(-len(value) // self.chunk_size)):
                at = index * self.chunk_size
                self.chunk(stream, value[at : at + self.chunk_size])
        except BaseException:
            self._drop_stream(stream)
            raise
        return self.commit(raw, stream, len(value), hashlib.sha256(value).digest())

    def stream(self, total):
        """Begin a value of `total` bytes in chunks: its stream id. StoreFull when it cannot fit."""
        pages = -(-total // self.chunk_size) * self._large
        if self.used + pages > self._limit():
            raise StoreFull()
        stream = 1
        while stream in self._streams:
            stream += 1
        self._streams[stream] = array(self._type)
        return stream

    def chunk(self, stream, data):
        """Write the stream's next chunk; all but the last have chunk_size bytes."""
        locations = self._streams[stream]
        pages = self._pages(len(data))
        self._room(pages, pages, True)
        locations.append(self._append(_CHUNK, stream, len(locations), _ALONE, data))
        self.used += pages

    def commit(self, raw, stream, total, digest):
        """The item that makes the stream the key's value when it is written."""
        payload = bytearray(4) + digest
        pack_into("<I", payload, 0, total)
        return (raw, _STREAM, stream, payload)

    def _write(self, items):
        """Write one group and wait until it is durable. False when it deletes nothing and puts nothing."""
        made = []
        try:
            group = self._prepare(items)
            if not group:
                return False
            self._begin()
            done = self._append_group(group, made)
            self.sync()
        except BaseException:
            for number in made:
                self._names[number] = 0
            self._unused = 1
            self._drop_streams(items)
            raise
        self._torn_seq = 0
        self._enter(done)
        for number in made:
            self.used += self._extent(self._names[number])
        return True

    def _prepare(self, items):
        """Make room for a group; its items but for deletes of what is not there. StoreFull."""
        pages = growth = 0
        puts = streams = False
        group = []
        for item in items:
            number = self._find(item[0])
            size = self._pages(len(item[3]))
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
                pages += self._pages(len(item[0]))
                growth += self._pages(len(item[0]))
            elif self.used + growth > self._limit():
                growth -= self._extent(self._values[number])
        if group:
            self._room(pages, growth, puts)
        if streams:
            self.sync()  # A stream record must not be on disk before its chunks.
        return group

    def _enter(self, done):
        """Let the index follow a durable group: all of it first, then the page counts, which may fail."""
        garbage = []
        for at in range(0, len(done), 2):
            number = done[at]
            garbage.append(self._values[number])
            self._values[number] = done[at + 1]
            if not done[at + 1]:
                garbage.append(self._names[number])
                self._names[number] = 0
                self._unused = min(self._unused, number)
        for where in garbage:
            self._release(where)
        for at in range(1, len(done), 2):
            if done[at]:
                self.used += self._extent(done[at])

    def _begin(self):
        """Remember where a group begins, until it is durable: should it fail, all behind is declared void."""
        if self._end >= self._per:
            self.open()
        self._torn_seq = self._head_seq
        self._torn_page = self._end

    def _append_group(self, items, made):
        """Append the records; [number, location (0: deleted), ...]. Numbers of new keys go to `made`."""
        done = []
        flags = _FIRST
        left = len(items)
        for raw, kind, aux, data in items:
            left -= 1
            number = self._find(raw)
            if not number:
                number = self._number(raw)
                made.append(number)
                self._names[number] = self._append(_KEY, number, 0, flags, raw)
                flags = 0
            where = self._append(kind, number, aux, flags if left else flags | _LAST, data)
            done.append(number)
            done.append(0 if kind == _DELETE else where)
            flags = 0
        return done

    def _room(self, pages, growth, puts):
        """Make sure that `pages` can be written without running out of blocks. StoreFull if it `puts`."""
        if growth > 0 and self.used + growth > self._limit():
            raise StoreFull()
        self._settle()
        need = self.reserve() + pages // (self._per - _FIRST_PAGE - self._large)
        if self._short():
            self.compact()
        for _ in range(4 * self._blocks):
            if self.spare >= need or not self.compact():
                break
        if puts and self.spare < need:
            raise StoreFull()

    def _settle(self):
        """Finish what an earlier failure left: void a group cut short, note retired blocks."""
        if self._torn_seq:
            self.void(self._torn_seq, self._torn_page, _ALONE)
            self.sync()
            self._torn_seq = 0
        if self._unnoted:
            self._unnoted = False
            bits = bytearray((self._blocks + 7) // 8)
            for block in range(self._blocks):
                if self._state[block] & _BAD:
                    bits[block >> 3] |= 1 << (block & 7)
            self._set_value(0, self._append(_VALUE, 0, 0, _ALONE, bits))

    def void(self, seq, page, flags):
        """Declare void what was written in block `seq` from `page` on, and in later blocks."""
        place = bytearray(8)
        pack_into("<II", place, 0, seq, page)
        self._append(_ABORT, 0, 0, flags, place)

    def _limit(self):
        """Pages that may be in use."""
        return (self._blocks - self.retired - 5) * (self._per - _FIRST_PAGE) * 2 // 3

    def reserve(self):
        """Blocks that a full turn of compaction may need before it gains any."""
        room = self._per - _FIRST_PAGE
        return _RESERVE_BLOCKS + self.used * self._large // (room * (room - self._large))

    def _short(self):
        """Is it time to compact, and is there anything to gain?"""
        room = self._per - _FIRST_PAGE
        if self.spare > self.reserve() + self.used // (8 * room):
            return False
        held = self._blocks - self.retired - self.spare
        return (held - 1) * (room - self._large) - self.used > room

    # Records

    def _pages(self, size):
        return -(-(size + _OVERHEAD) // self._unit)

    def load(self, where):
        """Read the record at `where` into the buffer and check it: the payload's size, or -1."""
        buf = self._buf
        offset = where * self._unit
        try:
            self.flash.read(offset, self._start)
            size = buf[4] | buf[5] << 8
            if not 0 < buf[0] <= _ABORT or size > self.chunk_size:
                return -1
            if where % self._per + self._pages(size) > self._per:
                return -1
            view = self._view[: size + _OVERHEAD]
            self.flash.read(offset, view)
        except OSError:
            return -1
        # The second read may differ from the first where a program was cut.
        return size if crc32(view) == _RESIDUE and buf[4] | buf[5] << 8 == size else -1

    def _extent(self, where):
        """Pages of a record known to be good; its first 8 bytes are in the buffer afterwards."""
        try:
            self.flash.read(where * self._unit, self._start)
        except OSError:
            self._buf[0] = 0
            return 0  # the count heals at the next mount
        return min(self._pages(u16(self._buf, 4)), self._large)

    def _append(self, kind, number, aux, flags, data):
        """Write one record at the head; its location. StoreError when block after block fails."""
        size = len(data)
        pages = self._pages(size)
        buf = self._buf
        for _ in range(_TRIES):
            if self._end + pages > self._per:
                self.open()
            buf[0] = kind
            buf[1] = flags
            pack_into("<HHH", buf, 2, number, size, aux)
            buf[8 : 8 + size] = data
            where = self._program(size)
            if where:
                return where
        raise StoreError("flash", "cannot program")

    def move(self, where, flags):
        """Copy a record to the head and let the index point there; False when it became unreadable."""
        buf = self._buf
        for _ in range(_TRIES):
            size = self.load(where)
            if size < 0:
                return False
            if self._end + self._pages(size) > self._per:
                self.open()
                if self.load(where) != size:
                    return False
            buf[1] = flags
            new = self._program(size)
            if new:
                table = self.table()
                at = self.place()
                if table is not None and table[at] == where:
                    table[at] = new
                return True
        raise StoreError("flash", "cannot program")

    def table(self):
        """The part of the index that the record in the buffer belongs to; None when it is of no use."""
        kind = self._buf[0]
        table = None
        if kind == _CHUNK:
            table = self._streams.get(u16(self._buf, 2))
        elif kind == _KEY:
            table = self._names
        elif kind == _VALUE or kind == _STREAM:
            table = self._values
        return table if table is not None and self.place() < len(table) else None

    def place(self):
        return u16(self._buf, 6 if self._buf[0] == _CHUNK else 2)

    def _program(self, size):
        """Program the record in the buffer and read it back: its location, or 0 when the block is bad."""
        buf = self._buf
        pages = self._pages(size)
        pack_into("<I", buf, 8 + size, crc32(self._view[: 8 + size]))
        size += _OVERHEAD
        for at in range(size, pages * self._unit):
            buf[at] = 255
        page = self._end
        where = self._head * self._per + page
        self._end = self._per  # whatever goes wrong from here, nothing is appended behind it
        self._dirty = True
        try:
            self.flash.prog(where * self._unit, self._view[: pages * self._unit])
            view = self._view[:size]
            self.flash.read(where * self._unit, view)
            good = crc32(view) == _RESIDUE
        except OSError:
            good = False
        if not good:
            self._retire(self._head)
            return 0
        self._end = self._sealed = page + pages
        return where

    # Blocks

    def sync(self):
        if self._dirty:
            try:
                self.flash.sync()
            except OSError as exc:
                raise StoreError("flash", "cannot sync: %s" % exc)
            self._dirty = False

    def _retire(self, block):
        if not self._state[block] & _BAD:
            if not self._state[block] & _USED:
                self.spare -= 1
            self._state[block] |= _BAD
            self.retired += 1
            self._unnoted = True

    def _next(self):
        """The block to open next, -1 when none may be erased."""
        block = self._head
        for _ in range(self._blocks):
            block = (block + 1) % self._blocks
            if not self._state[block]:
                return block
        return -1

    def _erase(self, block):
        """Erase and look whether it is blank. False and retired when it is not."""
        size = self.flash.block_size
        view = self._view[:_BLANK_SIZE]
        good = True
        self._dirty = True
        try:
            self.flash.erase(block)
            for offset in range(block * size, block * size + size, _BLANK_SIZE):
                self.flash.read(offset, view)
                good = good and crc32(view) == _BLANK_CRC
        except OSError:
            good = False
        if not good:
            self._retire(block)
        self.sync()
        return good

    def open(self):
        """Open the next block. The copies made so far must be durable before its header moves the tail."""
        self.sync()
        while True:
            block = self._next()
            if block < 0:
                raise StoreFull()
            if (block == self._erased or self._erase(block)) and self._write_header(block):
                break
        self._state[block] = _USED
        if self._tail < 0:
            self._tail = block
            self._tail_seq = self._seq
            self._cursor = block * self._per + _FIRST_PAGE
        else:
            self._after[self._head] = block
        self._head = block
        self._head_seq = self._seq
        self._end = self._sealed = _FIRST_PAGE
        self.spare -= 1
        while self._freed:
            self._state[self._freed.pop()] &= _BAD

    def _write_header(self, block):
        buf = self._buf
        unit = self._unit
        self._seq += 1
        self._erased = -1
        for at in range(2 * unit):
            buf[at] = 255
        tail = self._tail_seq or self._seq
        pack_into("<IIII", buf, 0, _MAGIC, self._seq, self._head_seq, tail)
        pack_into("<HHI", buf, 16, self._sealed, unit, self._blocks)
        pack_into("<I", buf, 24, crc32(self._view[:24]))
        buf[unit : unit + _HEADER_SIZE] = buf[:_HEADER_SIZE]
        self._dirty = True
        try:
            self.flash.prog(block * self.flash.block_size, self._view[: 2 * unit])
        except OSError:
            self._retire(block)
            return False
        if self.header(block) == self._seq:
            return True
        self._retire(block)
        return False

    def header(self, block):
        """Load a block's header into the buffer: its sequence, 0 when there is none."""
        view = self._view[:_HEADER_SIZE]
        for page in range(_FIRST_PAGE):
            try:
                self.flash.read(block * self.flash.block_size + page * self._unit, view)
            except OSError:
                continue
            if crc32(view) == _RESIDUE and u32(view, 0) == _MAGIC:
                if u16(view, 18) == self._unit and u32(view, 20) == self._blocks:
                    return u32(view, 4)
        return 0

    # Compaction

    def compact(self):
        """Copy some of what the tail block holds, or free it. False when only the head is left."""
        if self._tail == self._head:
            return False
        budget = _COMPACT_PAGES
        stop = (self._tail + 1) * self._per
        while self._cursor < stop:
            if budget <= 0:
                return True
            where = self._cursor
            size = self.load(where)
            if size < 0:
                self._cursor += 1
                self._hole = self._hole or self._buf[0] != 255
                continue
            pages = self._pages(size)
            table = self.table()
            if table is not None and table[self.place()] == where:
                if not self.move(where, _ALONE):
                    self._hole = True
                budget -= pages
            self._cursor += pages
        if self._hole:
            self._sweep(self._tail)
        self._free_tail()
        return True

    def _sweep(self, block):
        """What the index still points to in a block that was copied is lost."""
        low = block * self._per + _FIRST_PAGE
        high = (block + 1) * self._per
        for number in range(len(self._names)):
            if low <= self._names[number] < high:
                self._lose(number, self._names[number])
            elif low <= self._values[number] < high:
                self._unnoted = self._unnoted or not number
                self._lose(number, self._values[number])
        for locations in self._streams.values():
            for index in range(len(locations)):
                if low <= locations[index] < high:
                    self.damage(locations[index])
                    locations[index] = 0
        self._hole = False

    def _free_tail(self):
        block = self._tail
        if self._state[block] & _SUSPECT and self.retired * 8 < self._blocks:
            self._retire(block)
        if not self._state[block] & _BAD:
            self.spare += 1
        self._freed.append(block)
        self._tail = self._after[block]
        self._tail_seq = self.header(self._tail) or self._tail_seq + 1
        self._cursor = self._tail * self._per + _FIRST_PAGE
