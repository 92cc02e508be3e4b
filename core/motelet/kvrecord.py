"""What the parts of the store share: its errors, and integers as they lie in a record.

Below `kvlog`, `kvmount` and `kvstream`, so that the store can load the two others by need without a circle.
"""


class StoreError(Exception):
    """The store refuses. `code`: "full", "busy", "key", "batch", "size", "digest", "seal" or "flash".

    "busy": the same call may be made again once others had their turn.
    """

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


class StoreFull(StoreError):
    """No room (code "full"). Nothing was changed; deleting still works."""

    def __init__(self):
        super().__init__("full", "store is full")


def is_secret(key):
    """Is it a Secret's, `<namespace>/secret/<name>`? The store keeps their values encrypted (kvseal)."""
    return key.find("/secret/") == key.find("/") > 0


def u16(buf, at):
    return buf[at] | buf[at + 1] << 8


def u32(buf, at):
    return u16(buf, at) | u16(buf, at + 2) << 16
