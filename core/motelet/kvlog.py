"""MetaManager's store: a key-value log over erase blocks that survives a power cut at any instant.

KVLOG.md beside this file has the on-flash format, the reasons, and what was rejected. This module is what
a healthy store needs to read and to write one small value. The rest is borrowed (`motelet.borrow`) when it is
needed, and works on the same private attributes: `kvmount` at start, `kvblock` once a block,
`kvgroup` for batches, `kvstream` and `kvread` for values larger than a record, `kvrepair` when something is
damaged.

A flash is any object with `block_size`, `blocks`, `prog_size`, `read(offset, buf)`,
`prog(offset, buf)`, `erase(block)` and `sync()`, which raise OSError when the hardware fails.
One Store owns its flash; it is not thread-safe and calls nothing back but `on_damage`.
"""

from binascii import crc32
from struct import pack_into

from micropython import const

from motelet import borrow
from motelet.kvrecord import StoreError, StoreFull, is_secret, u16

__all__ = ["Store", "StoreError", "StoreFull"]

_KEY_SIZE_MAX = const(480)
_OVERHEAD = const(12)  # 8 bytes before the payload, the CRC behind it
_RESIDUE = const(0x2144DF1C)  # CRC-32 of anything that is followed by its own CRC-32
_TRIES = const(4)  # blocks that may fail under one record
_READS = const(2)  # of a record, before flash that does not answer makes it a lost one

_KEY = const(1)
_VALUE = const(2)
_STREAM = const(3)
_DELETE = const(5)
_ABORT = const(6)

_FIRST = const(1)
_LAST = const(2)
_ALONE = const(3)


class Store:
    """Keys are str of 1 to 480 bytes in UTF-8, values bytes of any size. Call `mount()` first.

    `damaged` counts the records and blocks found unreadable since mount, `retired` the blocks no longer
    used, `used` the pages that hold what is current, `spare` the blocks free to be opened.
    `on_damage(block, page)` is called for each damage when it is set. `vault` is what values of Secrets are
    encrypted with (kvseal); without one they are refused with StoreError "seal". `task`, when it is set, is
    woken (`wake()`) when there is need of `step()`, which it is to call: from then on no put makes more
    room than one erase does, and one for which that is not enough is refused with StoreError "busy".

    ValueError for a flash that no store fits. Whatever writes or borrows may raise MemoryError: nothing is
    lost by it, and the same call may be made again.
    """

    def __init__(self, flash):
        self.flash = flash
        self.on_damage = self.vault = self.task = None
        borrow("kvmount").prepare(self)

    def mount(self):
        """Read the log and open a block. Any content will do: damage is counted, no store is formatted."""
        borrow("kvmount").Recovery(self).run()

    # Reading

    def get(self, key):
        """The value as bytes, or None when there is none, or it is damaged or encrypted with another key."""
        size = self._locate(key)
        if size < 0:
            return None
        if self._buf[0] == _STREAM:
            return borrow("kvread").whole(self, key)
        return bytes(self._view[8 : 8 + size])

    def length(self, key):
        """Size of the value in bytes, or None."""
        return borrow("kvread").length(self, key)

    def readinto(self, key, offset, buf):
        """Fill `buf` with the value from `offset` on: the count, 0 at the end. KeyError if there is none."""
        return borrow("kvread").readinto(self, key, offset, buf)

    def heads(self, size):
        """Iterate over (key, buffer, count): how each value begins, damaged ones left out.

        `count` is at most `size`; the buffer is the same each time.
        """
        return borrow("kvread").heads(self, size)

    def __contains__(self, key):
        return self._locate(key) >= 0

    def keys(self, prefix=""):
        """Iterate over the keys that start with `prefix`, in no order. The store may be changed meanwhile."""
        start = prefix.encode()
        number = 1
        while number < len(self._names):
            if self._values[number]:
                size = self._load(self._names[number])
                if size < 0:
                    borrow("kvrepair").lose(self, number, self._names[number])
                elif self._buf.find(start, 8, 8 + len(start)) == 8 and size >= len(start):
                    yield str(self._view[8 : 8 + size], "utf-8")
            number += 1

    # Writing

    def put(self, key, value):
        """Store `value` (bytes-like). Durable when it returns. StoreFull, StoreError."""
        if len(value) > self.chunk_size or is_secret(key):
            borrow("kvstream").put(self, key, value)
        else:
            self._change(_VALUE, key, value, 0)

    def delete(self, key):
        """Remove the key, durably. False when there is none."""
        return self._change(_DELETE, key, b"", 0)

    def batch(self, items):
        """Apply (key, value or None to delete) pairs, at most 64 and each key once: all or nothing."""
        borrow("kvgroup").batch(self, items)

    def writer(self, key, total):
        """A kvstream.Writer for a value of `total` bytes that is never whole in RAM."""
        return borrow("kvstream").Writer(self, key, total)

    def step(self):
        """One bounded piece of housekeeping, at most one erase, for idle times. True while there is more."""
        if self._due or self._torn_seq:
            try:
                return borrow("kvblock").step(self)
            except (StoreError, MemoryError):
                pass  # The next put has someone to tell.
        return False

    def behind(self):
        """Whether a put would have to make room first, which `step` does in pieces."""
        return self._tight and self._due

    def _change(self, kind, key, value, stream):
        """Write one value, stream or delete, with the name of a new key, and wait until it is durable."""
        raw = self._encode(key)
        number = self._find(raw)
        pages = growth = self._pages(len(value))
        if kind == _DELETE:
            if not number:
                return False
            growth = 0
        elif not number:
            pages += self._pages(len(raw))
            growth = pages
        elif self.used + growth > self._limit:
            growth -= self._extent(self._values[number])
        self._room(pages, growth, kind != _DELETE)
        if stream:
            self._sync()  # A stream record must not be on disk before its chunks.
        self._begin()
        name = 0
        flags = _ALONE
        if not number:
            number = self._number(raw)
            name = self._append(_KEY, number, 0, _FIRST, raw)
            flags = _LAST
        where = self._append(kind, number, stream, flags, value)
        self._sync()
        # It is durable: the index follows at once, the page counts later: they take reads, which may fail.
        self._torn_seq = 0
        old = self._values[number]
        if kind != _DELETE:
            self._values[number] = where
            self._names[number] = name or self._names[number]
            self.used += pages
            name = 0
        else:
            name = self._names[number]
            self._names[number] = self._values[number] = 0
            self._unused = min(self._unused, number)
        self._release(old)
        self._release(name)
        return True

    # Keys and the index

    def _encode(self, key):
        raw = key.encode()
        if not 0 < len(raw) <= _KEY_SIZE_MAX:
            raise StoreError("key", "key of %d bytes" % len(raw))
        return raw

    def _find(self, raw):
        """The key's number, 0 when it has none. The pattern of its hash is left in `_pattern`."""
        check = crc32(raw)
        pattern = self._pattern
        pattern[0] = check & 255
        pattern[1] = check >> 8 & 255
        at = self._hash.find(pattern, 2)
        while at >= 0:
            number = at >> 1
            if not at & 1 and self._names[number]:
                size = self._load(self._names[number])
                if size < 0:
                    borrow("kvrepair").lose(self, number, self._names[number])
                elif size == len(raw) and self._buf.find(raw, 8, 8 + size) == 8:
                    return number
            at = self._hash.find(pattern, at + 1)
        return 0

    def _locate(self, key):
        """Load the record of a key's value: its payload's size, or -1."""
        number = self._find(self._encode(key))
        where = self._values[number]
        if not number or not where:
            return -1
        size = self._load(where)
        if size < 0 or u16(self._buf, 2) != number:
            borrow("kvrepair").lose(self, number, where)
            return -1
        return size

    def _number(self, raw):
        """A number for the new key that `_find` has just looked for; the name is the caller's to enter."""
        number = self._unused
        while number < len(self._names) and self._names[number]:
            number += 1
        if number > 65535:
            raise StoreFull()
        self._unused = number
        # Each by itself and the hash last: a MemoryError between two leaves a key nobody can find.
        if number == len(self._values):
            self._values.append(0)
        if number == len(self._names):
            self._names.append(0)
        if 2 * number == len(self._hash):
            self._hash.extend(b"\0\0")
        self._hash[2 * number] = self._pattern[0]
        self._hash[2 * number + 1] = self._pattern[1]
        return number

    def _release(self, where):
        """Count a record as garbage that the index no longer points to, and the chunks it names."""
        if where:
            self.used -= self._extent(where)
            if self._buf[0] == _STREAM:
                self._drop(u16(self._buf, 6))

    def _drop(self, stream):
        """Count the chunks of a stream as garbage."""
        for where in self._streams.pop(stream, ()):
            if where:
                self.used -= self._extent(where)

    # Writing groups of records

    def _room(self, pages, growth, puts):
        """Make sure that `pages` can be written without running out of blocks. StoreFull if it `puts`."""
        if growth > 0 and self.used + growth > self._limit:
            raise StoreFull()
        if self._tight or self._torn_seq or 2 * pages > self._per:
            borrow("kvblock").relieve(self, pages, puts)

    def _begin(self):
        """Remember where a group begins, until it is durable: should it fail, all behind is declared void."""
        if self._end >= self._per:
            borrow("kvblock").open(self)
        self._torn_seq = self._head_seq
        self._torn_page = self._end

    def _append(self, kind, number, aux, flags, data):
        """Write one record at the head; its location. StoreError when block after block fails."""
        size = len(data)
        pages = self._pages(size)
        buf = self._buf
        for _ in range(_TRIES):
            if self._end + pages > self._per:
                borrow("kvblock").open(self)
            buf[0] = kind
            buf[1] = flags
            pack_into("<HHH", buf, 2, number, size, aux)
            buf[8 : 8 + size] = data
            where = self._program(size)
            if where:
                return where
        raise StoreError("flash", "cannot program")

    # Records

    def _pages(self, size):
        return -(-(size + _OVERHEAD) // self._unit)

    def _load(self, where):
        """Read the record at `where` into the buffer and check it: the payload's size, or -1.

        A read that fails is tried once more: a bus may have a bad moment, and what is -1 is forgotten.
        """
        buf = self._buf
        offset = where * self._unit
        for _ in range(_READS):
            try:
                self.flash.read(offset, self._start)
                size = buf[4] | buf[5] << 8
                if not 0 < buf[0] <= _ABORT or size > self.chunk_size:
                    return -1
                if where % self._per + self._pages(size) > self._per:
                    return -1
                view = self._view[: size + _OVERHEAD]
                self.flash.read(offset, view)
                # The second read may differ from the first where a program was cut.
                return size if crc32(view) == _RESIDUE and buf[4] | buf[5] << 8 == size else -1
            except OSError:
                pass
        return -1

    def _extent(self, where):
        """Pages of a record known to be good; its first 8 bytes are in the buffer afterwards."""
        try:
            self.flash.read(where * self._unit, self._start)
        except (OSError, MemoryError):
            # What is counted is durable, and nobody may take it for undone. It heals at the next mount.
            self._buf[0] = 0
            return 0
        return min(self._pages(u16(self._buf, 4)), len(self._buf) // self._unit)

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
        self._due = self._due or self._tight
        try:
            self.flash.prog(where * self._unit, self._view[: pages * self._unit])
            view = self._view[:size]
            self.flash.read(where * self._unit, view)
            good = crc32(view) == _RESIDUE
        except OSError:
            good = False
        if not good:
            borrow("kvrepair").retire(self, self._head)
            return 0
        self._end = self._sealed = page + pages
        return where

    def _sync(self):
        if self._dirty:
            try:
                self.flash.sync()
            except OSError as exc:
                raise StoreError("flash", "cannot sync: %s" % exc)
            self._dirty = False
