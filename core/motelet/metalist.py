"""What a node says of the objects it holds when a link begins: functions of MetaManager's store.

Apart from `metamanager` because a board borrows this module (`motelet.borrow`).
"""

from micropython import const

from motelet import borrow
from motelet.cbor import Reader

_HEAD = const(80)  # bytes of a value that always hold its version: tstr head, 64 bytes at most, bstr head


def resources(store):
    """Iterate over the keys of the objects, none of the node's own."""
    for key in store.keys():
        if not key.startswith("."):
            yield key


def version(store, resource):
    """-> version text of a held object. Raises ValueError for a value that is not one of ours."""
    head = bytearray(_HEAD)
    count = store.readinto(resource, 0, head)
    if not count:
        raise ValueError("stored object %s has no version" % resource)
    reader = Reader()
    reader.open(head, 0, count)
    return reader.text()


def digest(store):
    """-> 8 bytes over what is held (protocol.digest_item)."""
    protocol = borrow("protocol")
    total = bytearray(8)
    for resource in resources(store):
        protocol.digest_xor(total, protocol.digest_item(resource, version(store, resource)))
    return total
