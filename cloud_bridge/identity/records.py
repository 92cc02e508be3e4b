"""A folder of small JSON files, one a record, in memory and in step with what others write there.

A file that cannot be read is not an empty place: it may be the only thing that knows of a revocation.
So its key is in `damaged`, and whoever asks about that key has to assume the worst.
"""

import json
import os
import time
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

from cloud_bridge.identity import files
from cloud_bridge.logs import Log

SETTLE_NS = 2_000_000_000
"""A folder that changed less than this ago is read again: its clock may not tick between two changes."""
_SUFFIX = ".json"

_log = Log("identity")
Record = TypeVar("Record")
_Stamp = tuple[int, int, int]


class Records(Generic[Record]):
    """Those in `folder`, which is made. `kind` is their dataclass; a key is what a file is called.

    Writers hold `files.locked` of the state folder. Raises OSError.
    """

    def __init__(self, folder: Path, kind: Callable[..., Record]) -> None:
        self.damaged: set[str] = set()
        self._folder = folder
        self._kind = kind
        self._records: dict[str, Record] = {}
        self._stamps: dict[str, _Stamp] = {}
        self._seen_ns = -1
        files.make_folder(folder)
        self.refresh()

    def get(self, key: str) -> Record | None:
        """The record, None when there is none or it is damaged."""
        return self._records.get(key)

    def values(self) -> Collection[Record]:
        """All that can be read."""
        return self._records.values()

    def put(self, key: str, record: Record) -> None:
        """Create or replace; durable on return."""
        path = self._path(key)
        files.write(path, json.dumps(asdict(record)).encode() + b"\n")  # type: ignore[call-overload]
        self._records[key] = record
        self._stamps[key] = _stamp(path.stat())
        self.damaged.discard(key)

    def delete(self, key: str) -> None:
        """Remove; durable on return."""
        files.delete(self._path(key))
        self._drop(key)

    def refresh(self) -> bool:
        """Read what others changed; -> whether there was something."""
        changed_ns = self._folder.stat().st_mtime_ns
        if changed_ns == self._seen_ns:
            return False
        now_ns = time.time_ns()
        found = set()
        changed = False
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if not entry.name.endswith(_SUFFIX) or entry.name.startswith("."):
                    continue
                key = entry.name.removesuffix(_SUFFIX)
                found.add(key)
                stamp = _stamp(entry.stat())
                if self._stamps.get(key) != stamp:
                    self._stamps[key] = stamp
                    self._read(key)
                    changed = True
        for key in [each for each in self._stamps if each not in found]:
            self._drop(key)
            changed = True
        self._seen_ns = changed_ns if now_ns - changed_ns > SETTLE_NS else -1
        return changed

    def _read(self, key: str) -> None:
        path = self._path(key)
        try:
            fields: dict[str, Any] = json.loads(path.read_bytes())
            self._records[key] = self._kind(**fields)
            self.damaged.discard(key)
        except FileNotFoundError:
            return  # gone again: the next look finds it so
        except (OSError, ValueError, TypeError) as error:
            self._records.pop(key, None)
            self.damaged.add(key)
            _log.error("record cannot be read, restore it from the backup", file=path, error=error)

    def _drop(self, key: str) -> None:
        self._records.pop(key, None)
        self._stamps.pop(key, None)
        self.damaged.discard(key)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}{_SUFFIX}"


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_ino, status.st_mtime_ns, status.st_size
