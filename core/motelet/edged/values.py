"""Keeps a value of an application. Borrowed."""

from micropython import const

from motelet.kvlog import StoreError

KEYS_MAX = const(32)  # of a pod
VALUE_SIZE_MAX = const(1024)
_ENOSPC = const(28)


def put(store, space, key, value):
    """Keep `value` under `key`, which is in `space`; None: forget it. OSError when there is no room."""
    if value is None:
        store.delete(key)
        return
    if len(value) > VALUE_SIZE_MAX or key not in store and len(list(store.keys(space))) >= KEYS_MAX:
        raise OSError(_ENOSPC)
    try:
        store.put(key, value)
    except StoreError:
        raise OSError(_ENOSPC)
