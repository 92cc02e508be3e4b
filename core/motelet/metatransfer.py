"""An object that does not fit one message, on its way to flash in chunks."""

from hashlib import sha256

from micropython import const

from motelet.cbor import BYTES, Writer

_HEAD = const(80)  # bytes: tstr head, 64 bytes at most, bstr head
WHOLE_SIZE_MAX = const(16384)  # bytes of a device, which DeviceTwin takes whole into RAM


class Transfer:
    """One object that goes to flash as it comes. Raises ValueError, kvlog.StoreError."""

    def __init__(self, meta, resource, version, total, digest):
        if "/device/" in resource and total > WHOLE_SIZE_MAX:
            raise ValueError("%s has %d bytes, at most %d" % (resource, total, WHOLE_SIZE_MAX))
        self.key = (resource, version, digest)
        self.resource = resource
        self.total = total
        self.digest = digest
        self.offset = 0
        self._meta = meta
        self._hash = sha256()
        head = bytearray(_HEAD)
        writer = Writer(head)
        writer.value(version)
        writer.head(BYTES, total)
        self._sink = meta.store.writer(resource, writer.n + total)
        self._sink.write(memoryview(head)[: writer.n])

    def write(self, chunk):
        """Append a chunk (a buffer); the caller has checked that it starts at `offset`."""
        self._sink.write(chunk)
        self._hash.update(chunk)
        self.offset += len(chunk)

    def commit(self):
        """Make it durable. Raises ValueError, and keeps nothing, when the digest is wrong."""
        if self._hash.digest() != self.digest:
            self.abort()
            raise ValueError("%s: the digest of what arrived differs" % self.resource)
        self._sink.commit()
        self._meta.changed(self.resource)

    def abort(self):
        """Give up; nothing of it stays."""
        self._sink.abort()
