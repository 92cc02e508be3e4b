"""Keeps a value of an application. Borrowed."""

from micropython import const

from motelet import borrow
from motelet.kvlog import StoreError

KEYS_MAX = const(32)  # of a pod
VALUE_SIZE_MAX = const(1024)
_ENOSPC = const(28)


def meets(prop, value):
    """Whether `value` is what is desired of `prop`, however that is written."""
    try:
        return prop.desired is not None and borrow("desired").convert(prop) == value
    except ValueError:
        return False


def put(store, space, key, value):
    """Keep `value` under `key`, which is in `space`; None: forget it. OSError when there is no room.

    -> False when nothing was done, for the store has to make room first.
    """
    if value is None:
        store.delete(key)
        return True
    if store.task and store.behind():
        store.task.wake()
        return False
    if len(value) > VALUE_SIZE_MAX or key not in store and len(list(store.keys(space))) >= KEYS_MAX:
        raise OSError(_ENOSPC)
    try:
        store.put(key, value)
    except StoreError as error:
        if error.code == "busy":
            return False
        raise OSError(_ENOSPC)
    return True
