"""Linux' inotify, as far as `manifests` needs it: which files of a folder were just written or put there.

Python has no binding for it and needs none: three calls of the C library. They only shorten the
wait for what looking at the folder finds anyway, so a system without them loses nothing but a
fraction of a second (and a library such as watchfiles is not worth its weight here).
"""

import ctypes
import os
import struct
import sys
from pathlib import Path

_IN_CLOSE_WRITE = 0x008
_IN_MOVED_TO = 0x080
_HEAD = struct.Struct("iIII")
_READ_SIZE = 65536


class Hints:
    """Linux' inotify on one folder: `fileno` is readable when `closed` has names to tell.

    Only hints: what they say is found by looking anyway, a little later. Raises OSError when the
    system has no inotify or gives no watch.
    """

    def __init__(self, path: Path) -> None:
        if sys.platform != "linux":
            raise OSError("no inotify on this system")
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise _error(path)
        if libc.inotify_add_watch(self._fd, os.fsencode(path), _IN_CLOSE_WRITE | _IN_MOVED_TO) < 0:
            error = _error(path)
            os.close(self._fd)
            raise error

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._fd

    def closed(self) -> set[str]:
        """Names of files that were closed after writing or moved here since the last call."""
        names = set()
        try:
            data = os.read(self._fd, _READ_SIZE)
        except BlockingIOError:
            return set()
        at = 0
        while at < len(data):
            _, _, _, size = _HEAD.unpack_from(data, at)
            at += _HEAD.size
            names.add(os.fsdecode(data[at : at + size].rstrip(b"\0")))
            at += size
        return names

    def close(self) -> None:
        """Give the watch back."""
        os.close(self._fd)


def _error(path: Path) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), str(path))
