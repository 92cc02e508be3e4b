"""Streamed writing into a `kvlog.Store`: values that are larger than a board's RAM.

Loaded by need: a gateway that never fetches an image or a package does not pay for it.
"""

import hashlib

from motelet.kvrecord import StoreError


class Writer:
    """Made by `Store.writer(key, total)`. The key keeps its old value until `commit` returns.

    One chunk (`Store.chunk_size` bytes) is held in RAM. A `write` waits for at most one erase for each
    chunk it completes.
    """

    def __init__(self, store, key, total):
        self._store = store
        self._raw = store._encode(key)
        self._total = total
        self._done = 0
        self._fill = 0
        self._stream = store.stream(total)
        self._buf = bytearray(min(store.chunk_size, total))
        self._hash = hashlib.sha256()

    def write(self, data):
        """Append bytes. StoreError "size" past `total`, StoreFull; after an error only `abort` is left."""
        if self._done + len(data) > self._total:
            raise StoreError("size", "more than %d bytes" % self._total)
        self._hash.update(data)
        self._done += len(data)
        data = memoryview(data)
        while len(data):
            count = min(len(data), len(self._buf) - self._fill)
            self._buf[self._fill : self._fill + count] = data[:count]
            self._fill += count
            data = data[count:]
            if self._fill == len(self._buf):
                self._flush()

    def _flush(self):
        if self._fill:
            self._store.chunk(self._stream, memoryview(self._buf)[: self._fill])
            self._fill = 0

    def commit(self, sha256=None):
        """Make it the key's value, durably. StoreError "size" or "digest": nothing is kept."""
        digest = self._hash.digest()
        try:
            if self._done != self._total:
                raise StoreError("size", "%d bytes of %d" % (self._done, self._total))
            if sha256 is not None and sha256 != digest:
                raise StoreError("digest", "digest differs")
            self._flush()
        except BaseException:
            self.abort()
            raise
        stream = self._stream
        self._stream = 0  # From here on it is the key's, or dropped by the store.
        self._store._write([self._store.commit(self._raw, stream, self._total, digest)])

    def abort(self):
        """Give up; what was written becomes garbage. Harmless after commit."""
        self._store._drop_stream(self._stream)
        self._stream = 0
