"""Reading values of a `kvlog.Store` in pieces: those larger than a record, which RAM may not hold whole.

Apart from the store because a board borrows this module (`motelet.borrow`).
"""

from micropython import const

from motelet import borrow
from motelet.kvrecord import StoreError, u16, u32

_STREAM = const(3)
_CHUNK = const(4)
_SEALED_SIZE = const(20)  # of the payload of a stream record: the value's size, the nonce


def whole(store, key):
    """The value whose stream record was just loaded, as bytes; None when a chunk is damaged."""
    value = bytearray(u32(store._buf, 8))
    return None if _copy(store, key, len(value), 0, value) < 0 else bytes(value)


def length(store, key):
    """`Store.length`."""
    size = store._locate(key)
    if size < 0:
        return None
    return u32(store._buf, 8) if store._buf[0] == _STREAM else size


def readinto(store, key, offset, buf):
    """`Store.readinto`."""
    total = length(store, key)
    count = -1 if total is None else _copy(store, key, total, offset, buf)
    if count < 0:
        raise KeyError(key)
    return count


def heads(store, size):
    """`Store.heads`."""
    head = bytearray(size)
    for key in store.keys():
        total = length(store, key)
        try:
            count = -1 if total is None else _copy(store, key, total, 0, head)
        except StoreError:
            continue  # encrypted, and the key or AES is missing: it is as if it were not here
        if count >= 0:
            yield key, head, count


def _copy(store, key, total, offset, out):
    """Copy from the value whose record is loaded; the count, -1 when a chunk is damaged or another key's."""
    room = min(len(out), total - offset)
    if room <= 0:
        return 0
    buf = store._buf
    if buf[0] != _STREAM:
        out[:room] = store._view[8 + offset : 8 + offset + room]
        return room
    stream = store._streams[u16(buf, 6)]
    seal = None
    size = store.chunk_size
    if u16(buf, 4) == _SEALED_SIZE:
        seal = borrow("kvseal").Seal(store, key, bytes(store._view[12 : 8 + _SEALED_SIZE]), total)
        size = seal.chunk_size
    done = 0
    while done < room:
        index = (offset + done) // size
        skip = (offset + done) % size
        found = store._load(stream[index])
        if found < 0 or buf[0] != _CHUNK or u16(buf, 6) != index:
            borrow("kvrepair").damage(store, stream[index])
            return -1
        data = store._view[8 : 8 + found]
        if seal is not None:
            data = seal.open(index, data)
            if data is None:
                return -1
        count = min(len(data) - skip, room - done)
        out[done : done + count] = memoryview(data)[skip : skip + count]
        done += count
    return done
