"""Which files of a folder are new, changed or gone, told only once they have come to rest.

The folder is looked at over and over: names, sizes and times cost little, work on every file
system, and miss nothing for long. Where Linux can say that a file was closed after writing
(`inotify`), it is taken at once. Otherwise a file counts as changed, or as gone, when two looks in a
row found it the same: editors empty files before they write them, and move them away before they
put new ones in their place.
"""

import os
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

FILES_MAX = 10_000
"""Files in the folder."""
SUFFIXES = (".yaml", ".yml")
RACY_NS = 50_000_000
"""Nanoseconds: a file changed that shortly before it is read may change again without another time stamp."""

Stamp = tuple[int, int, int, int]
_UNREADABLE: Stamp = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found: names of files to read (again), and of files that are gone."""

    changed: list[str]
    gone: list[str]


class Folder:
    """Looks at the manifests in `path`: files that end in .yaml or .yml and do not begin with a dot."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._taken: dict[str, Stamp | None] = {}
        self._seen: dict[str, Stamp] = {}
        self._identity: tuple[int, int] | None = None

    def look(self) -> Look:
        """Look at everything; the first time all that is there counts as changed.

        Raises OSError when the folder cannot be read, or has become another one that is empty: then
        nothing is known, and nothing has changed.
        """
        first = self._identity is None
        found = self._scan()
        changed = [
            name
            for name, stamp in found.items()
            if stamp != self._taken.get(name) and (first or stamp == self._seen.get(name))
        ]
        for name in changed:
            self._take(name, found[name])
        gone = [name for name in self._taken if name not in found and name not in self._seen]
        for name in gone:
            del self._taken[name]
        self._seen = found
        return Look(changed, gone)

    def look_at(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that are to be read now, for they were just closed after writing or moved here."""
        changed = []
        for name in names:
            stamp = _stamp(self.path / name) if _is_manifest(name) else None
            if stamp is not None and stamp != self._taken.get(name):
                self._take(name, stamp)
                changed.append(name)
        return changed

    def _take(self, name: str, stamp: Stamp) -> None:
        racy = time.time_ns() - stamp[0] < RACY_NS
        self._taken[name] = None if racy else stamp

    def _scan(self) -> dict[str, Stamp]:
        found = {}
        with os.scandir(self.path) as entries:
            for entry in entries:
                stamp = _stamp(entry) if _is_manifest(entry.name) else None
                if stamp is not None:
                    found[entry.name] = stamp
                if len(found) > FILES_MAX:
                    raise OSError(f"more than {FILES_MAX} files in {self.path}")
        status = os.stat(self.path)
        identity = status.st_dev, status.st_ino
        if self._identity not in (None, identity) and not found and self._taken:
            # What a folder looks like after its file system was unmounted.
            raise OSError(f"another folder, an empty one, is now in the place of {self.path}")
        self._identity = identity
        return found


def _is_manifest(name: str) -> bool:
    return name.endswith(SUFFIXES) and not name.startswith(".")


def _stamp(path: "Path | os.DirEntry[str]") -> Stamp | None:
    """What changes whenever the file does; None for what is no file, or no longer there."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    except OSError:
        return _UNREADABLE  # it is there; who tries to read it finds out why not
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
