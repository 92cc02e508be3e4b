"""Where a key's bytes lie in a ConfigMap, Secret or package on flash; never whole in RAM. Borrowed."""

from micropython import const

_HEAD = const(9)  # bytes of the head of a CBOR item, at most


class _Walk:
    """Reads the heads of CBOR items out of the value of `resource`."""

    def __init__(self, store, resource):
        self._store = store
        self._resource = resource
        self._buf = bytearray(_HEAD)
        self.at = 0

    def head(self):
        """-> the argument of the next item, passing over its head."""
        self._store.readinto(self._resource, self.at, self._buf)
        kind = self._buf[0] & 31
        size = 1 << kind - 24 if kind > 23 else 0
        self.at += 1 + size
        return int.from_bytes(self._buf[1 : 1 + size], "big") if size else kind

    def text(self, size):
        data = bytearray(size)
        self._store.readinto(self._resource, self.at, data)
        self.at += size
        return data


def of(store, resource, key):
    """-> (offset, size) of the bytes under `key` in the stored value of `resource`. OSError (ENOENT)."""
    walk = _Walk(store, resource)
    size = walk.head()
    walk.at += size  # past the version
    walk.head()  # the content, a byte string
    wanted = key.encode()
    for _ in range(walk.head()):
        name = walk.text(walk.head())
        size = walk.head()
        if name == wanted:
            return walk.at, size
        walk.at += size
    raise OSError(2)
