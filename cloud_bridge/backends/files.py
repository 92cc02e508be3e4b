"""Writing a file so that a reader, or the next start after a power cut, finds the old one or the new one."""

import os
from pathlib import Path


def replace(path: Path, data: bytes, mode: int = 0o644, durable: bool = True) -> None:
    """Put `data` in the place of the file at `path`. Raises OSError, and then the old file is as it was.

    If `durable`, its bytes are on the disk on return, but its name only after `sync_folder`.
    """
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(path: Path) -> None:
    """Make the names in the folder durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
