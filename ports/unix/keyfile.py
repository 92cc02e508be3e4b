"""The key that a gateway on Linux or macOS keeps Secrets encrypted with: a file that only its user can read.

Made at the first use. Borrowed.
"""

import os
import sys

from micropython import const

_SIZE = const(32)
_NO_FILE = 2  # ENOENT
_DENIED = 13  # EACCES


def key(path):
    """-> the 32 bytes in the file at `path`, which is made when it is missing.

    ValueError without a path or for a file that is no key; OSError for one that others may read.
    """
    if path is None:
        raise ValueError("no file for the key that Secrets are encrypted with")
    try:
        mode = os.stat(path)[0]
    except OSError as error:
        if error.errno != _NO_FILE:
            raise
        _make(path)
        mode = os.stat(path)[0]
    if mode & 0o77:
        raise OSError(_DENIED, "%s can be read by others: chmod 600 %s" % (path, path))
    with open(path, "rb") as file:
        found = file.read()
    if len(found) != _SIZE:
        raise ValueError("%s is no key of %d bytes" % (path, _SIZE))
    return found


def _make(path):
    """A new key, there as a whole and durable before anything is encrypted with it."""
    fresh = path + ".new"
    try:
        os.remove(fresh)
    except OSError as error:
        if error.errno != _NO_FILE:
            raise
    _create(fresh)
    with open(fresh, "r+b", 0) as file:
        file.write(os.urandom(_SIZE))
        _sync(file)
    os.rename(fresh, path)
    _sync_folder(path[: path.rfind("/") + 1] or ".")


if sys.implementation.name == "micropython":

    def _create(path):
        # It has no call that says who may read a new file.
        os.putenv("MOTELET_KEY", path)
        if os.system('umask 077 && : > "$MOTELET_KEY"'):
            raise OSError(_DENIED, path)

    def _sync(file):
        file.flush()  # fsync, in MicroPython's unix port

    def _sync_folder(path):
        """MicroPython cannot; a name that a power cut takes costs the Secrets, and the bridge has them."""

else:

    def _create(path):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))

    def _sync(file):
        os.fsync(file.fileno())

    def _sync_folder(path):
        folder = os.open(path, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
