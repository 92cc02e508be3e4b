"""Identities in a folder: PEM files, and a JSON file for each record, in step with what others write there.

A file that cannot be read is not an empty place: it may be the only thing that knows of a revocation.
So its key is in `damaged`, and whoever asks about that key has to assume the worst.
"""

import json
import os
import time
from collections.abc import Callable, Collection, Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic

from cloud_bridge.identity import files
from cloud_bridge.identity.store import Issued, NodeRevocation, Pair, Record, Result, Tables, Token
from cloud_bridge.logs import Log

SETTLE_NS = 2_000_000_000
"""A folder that changed less than this ago is read again: its clock may not tick between two changes."""
_SUFFIX = ".json"

_log = Log("identity")
_Stamp = tuple[int, int, int]


class Folder:
    """`store.Store` in the folder `path`, which is made. Its coroutines never wait. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        files.make_folder(path)
        self._records = (
            Records(path / "tokens", Token),
            Records(path / "certificates", Issued),
            Records(path / "revoked-nodes", NodeRevocation),
        )
        self.tables = Tables(*self._records)
        self._changes: bytes | None = None

    def refresh(self) -> bool:
        """See `Store`."""
        ours = files.changes(self.path) == self._changes
        return any([each.refresh(ours) for each in self._records])

    async def change(self, _: str, act: Callable[[Tables], Result]) -> Result:
        """See `Store`. `act` gets everything, under the lock of the folder."""
        with files.locked(self.path):
            self.refresh()
            try:
                return act(self.tables)
            finally:
                self._changes = files.count_change(self.path)
                for each in self._records:
                    each.wrote()

    async def pair(
        self, name: str, good: Callable[[bytes | None, bytes | None], bool], make: Callable[[], Pair]
    ) -> tuple[bytes, bytes | None]:
        """See `Store`: ``<name>.pem`` and ``<name>-key.pem``."""
        certificate, key = (Path(each) for each in self.where(name))
        with files.locked(self.path):
            stored = _read(certificate), _read(key)
            if stored[0] is not None and good(*stored):
                return stored[0], stored[1]
            made = make()
            # The two are replaced as one: a key alone is of a start that was cut short.
            certificate.unlink(missing_ok=True)
            files.write(key, made[1])
            files.write(certificate, made[0])
            return made

    def where(self, name: str) -> tuple[str, str]:
        """See `Store`."""
        return str(self.path / f"{name}.pem"), str(self.path / f"{name}-key.pem")


def at_once(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """What a coroutine gives that waits for nothing, as those that have a `Folder` do."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: Result = done.value
        return result
    coroutine.close()
    raise RuntimeError("the coroutine waits for something")


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
        self._settled = False
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

    def wrote(self) -> None:
        """What the folder has by now is known, for this process has just written it, under the lock."""
        self._seen_ns = self._folder.stat().st_mtime_ns
        self._settled = False

    def refresh(self, ours: bool = False) -> bool:
        """Read what others changed; -> whether there was something. `ours`: the last change was `wrote`."""
        changed_ns = self._folder.stat().st_mtime_ns
        settled = time.time_ns() - changed_ns > SETTLE_NS
        if changed_ns == self._seen_ns and (self._settled or (ours and not settled)):
            return False
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
        self._seen_ns, self._settled = changed_ns, settled
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


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_ino, status.st_mtime_ns, status.st_size
