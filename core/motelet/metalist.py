"""What a node says of the objects it holds when a link begins: functions of MetaManager's store.

Apart from `metamanager` because a board borrows this module (`motelet.borrow`).
"""

from micropython import const

from motelet import protocol
from motelet.cbor import Reader

_HEAD = const(80)  # bytes of a value that always hold its version: tstr head, 64 bytes at most, bstr head


def versions(store):
    """Iterate over (resource, version text) of the objects, none of the node's own.

    Raises ValueError for a value that is not one of ours.
    """
    reader = Reader()
    for resource, head, count in store.heads(_HEAD):
        if not resource.startswith("."):
            if not count:
                raise ValueError("stored object %s has no version" % resource)
            reader.open(head, 0, count)
            yield resource, reader.text()


def digest(store):
    """-> 8 bytes over what is held (protocol.digest_item)."""
    total = bytearray(8)
    for resource, version in versions(store):
        protocol.digest_xor(total, protocol.digest_item(resource, version))
    return total
