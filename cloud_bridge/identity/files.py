"""Files of the state folder: readable by this user only, replaced whole, one writer at a time.

The bridge runs while an operator makes and revokes tokens, so every change of what is stored happens
under `locked`, and whoever reads sees the old file or the new one.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_NAME = "lock"
_TEMPORARY = ".new-"


def make_folder(path: Path) -> None:
    """Make the folder, for this user only; one that is there keeps its rights. Raises OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def write(path: Path, content: bytes) -> None:
    """Replace the file at once, durable on return, mode 0600 from the first byte on. Raises OSError."""
    temporary = path.with_name(f"{_TEMPORARY}{path.name}")
    temporary.unlink(missing_ok=True)  # of a run that was stopped in between; the lock makes it nobody's else
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def delete(path: Path) -> None:
    """Remove the file, durable on return; none is no error. Raises OSError."""
    path.unlink(missing_ok=True)
    _sync(path.parent)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of the state folder, between processes. Raises OSError."""
    descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # which gives the lock back


def changes(folder: Path) -> bytes:
    """A number that those who change something in the folder count up. Raises OSError."""
    try:
        return (folder / LOCK_NAME).read_bytes()
    except FileNotFoundError:
        return b""


def count_change(folder: Path) -> bytes:
    """Count a change, under `locked`; -> the number. Raises OSError."""
    number = int.from_bytes(changes(folder), "big") + 1
    counted = (number % 2**64).to_bytes(8, "big")
    (folder / LOCK_NAME).write_bytes(counted)  # not durable: it is only compared with what it was
    return counted


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
