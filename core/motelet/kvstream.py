"""Writing values into a `kvlog.Store` in pieces: those larger than a record, which RAM may not hold whole.

Apart from the store because a board borrows this module (`motelet.borrow`).
"""

import hashlib
from array import array
from struct import pack_into

from micropython import const

from motelet import borrow
from motelet.kvrecord import StoreError, StoreFull, is_secret

_STREAM = const(3)
_CHUNK = const(4)

_ALONE = const(3)


class Writer:
    """Made by `Store.writer(key, total)`. The key keeps its old value until `commit` returns.

    One chunk (`Store.chunk_size` bytes) is held in RAM. StoreFull when `total` bytes cannot fit, StoreError
    "seal" where a Secret cannot be encrypted.
    """

    def __init__(self, store, key, total):
        self._store = store
        store._encode(key)  # may raise
        self._key = key
        self._total = total
        self._done = self._fill = self._stream = 0
        self._hash = hashlib.sha256()
        self._seal = None
        size = store.chunk_size
        if is_secret(key):
            self._seal = borrow("kvseal").Seal(store, key, None, total)
            size = self._seal.chunk_size
        self._buf = bytearray(min(size, total))
        if store.used + -(-total // size) * (len(store._buf) // store._unit) > store._limit:
            raise StoreFull()
        stream = 1
        while stream in store._streams:
            stream += 1
        store._streams[stream] = array(store._type)
        self._stream = stream

    def write(self, data):
        """Append bytes. StoreError "size" past `total`, StoreFull; after an error only `abort` is left."""
        try:
            self._take(data)
        finally:
            self._store._ease = True

    def _take(self, data):
        if self._done + len(data) > self._total:
            raise StoreError("size", "more than %d bytes" % self._total)
        self._done += len(data)
        if self._fill + len(data) >= len(self._buf) > 0:
            self._room((self._fill + len(data)) // len(self._buf))
        self._hash.update(data)
        data = memoryview(data)
        while len(data):
            count = min(len(data), len(self._buf) - self._fill)
            self._buf[self._fill : self._fill + count] = data[:count]
            self._fill += count
            data = data[count:]
            if self._fill == len(self._buf):
                self._flush()

    def _room(self, chunks):
        # All that one call writes is asked for at once.
        store = self._store
        pages = chunks * (len(store._buf) // store._unit)
        store._room(pages, pages, True)
        store._ease = False

    def _flush(self):
        store = self._store
        locations = store._streams[self._stream]
        data = memoryview(self._buf)[: self._fill]
        if self._seal is not None:
            data = self._seal.close(len(locations), data)
        pages = store._pages(len(data))
        locations.append(store._append(_CHUNK, self._stream, len(locations), _ALONE, data))
        store.used += pages
        self._fill = 0

    def commit(self, sha256=None):
        """Make it the key's value, durably. StoreError "size" or "digest": nothing is kept."""
        stream = 0
        try:
            _, kind, stream, payload = self.item(sha256)
            self._store._change(kind, self._key, payload, stream)
        except BaseException:
            self._store._drop(stream)
            raise
        finally:
            self._store._ease = True

    def item(self, sha256=None):
        """Write the rest; what `kvgroup.write` takes to make it the key's value. Raises as `commit`."""
        try:
            digest = self._hash.digest()
            if self._done != self._total:
                raise StoreError("size", "%d bytes of %d" % (self._done, self._total))
            if sha256 is not None and sha256 != digest:
                raise StoreError("digest", "digest differs")
            if self._fill:
                self._room(1)
                self._flush()
            payload = bytearray(4) + (digest if self._seal is None else self._seal.nonce)
            pack_into("<I", payload, 0, self._total)
            item = (self._store._encode(self._key), _STREAM, self._stream, payload)
        except BaseException:
            self.abort()
            raise
        self._stream = 0  # From here on it is the caller's to drop.
        return item

    def abort(self):
        """Give up; what was written becomes garbage. Harmless after commit."""
        self._store._drop(self._stream)
        self._stream = 0


def put(store, key, value):
    """`Store.put` of a large value."""
    _filled(store, key, value).commit()


def item(store, key, value):
    """Write a large value's chunks; what `kvgroup.write` takes to make it the key's. StoreError."""
    return _filled(store, key, value).item()


def _filled(store, key, value):
    writer = Writer(store, key, len(value))
    try:
        writer._take(value)  # and not `write`: all of it is one put
    except BaseException:
        store._ease = True
        writer.abort()
        raise
    return writer
