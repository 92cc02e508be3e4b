"""Copies the code to a board's file system: only what differs, each file whole, its start last."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from motelet.tools.cli import UserError
from motelet.tools.image.build import entry, in_lib, read

_DIGESTS = """\
import os
from hashlib import sha256 as _h
def _walk(folder):
 for _e in os.ilistdir(folder or '.'):
  _p = folder + _e[0]
  if _e[1] == 0x4000:
   _walk(_p + '/')
  elif _p.endswith('.mpy') or _p in ('main.py', 'boot.py'):
   _d = _h()
   with open(_p, 'rb') as _f:
    while True:
     _b = _f.read(512)
     if not _b:
      break
     _d.update(_b)
   print(_p, _d.digest().hex())
_walk('')
"""


def install(remote: Any, folder: Path) -> int:
    """Have the board hold the code of `folder` (build/image/BOARD/lib); -> how many files were copied.

    A file of the code that `folder` has not goes. UserError when `folder` has none.
    """
    files = read(folder)
    if not files:
        raise UserError(f"{folder}: no compiled code; make it with: motelet image BOARD")
    wanted = {**in_lib(files), **entry()}
    there = remote.call(lambda: digests(remote))
    for path in sorted(there.keys() - wanted.keys()):
        if path.startswith("lib/motelet/"):
            remote.call(lambda path=path: remote.exec(f"import os\nos.remove('{path}')"))
    missing = [path for path, data in wanted.items() if there.get(path) != hashlib.sha256(data).hexdigest()]
    remote.call(lambda: _make_folders(remote, missing))
    for number, path in enumerate(missing, 1):
        _progress(number, len(missing), path)
        remote.call(lambda path=path: _copy(remote, path, wanted[path]))
    if missing:
        there = remote.call(lambda: digests(remote))
        wrong = [path for path, data in wanted.items() if there.get(path) != hashlib.sha256(data).hexdigest()]
        if wrong:
            raise UserError(f"read back other than written: {', '.join(wrong[:5])}")
    return len(missing)


def digests(remote: Any) -> dict[str, str]:
    """SHA-256 of each file of the code on the board, by its path."""
    return dict(line.rsplit(" ", 1) for line in remote.exec(_DIGESTS).splitlines())


def _copy(remote: Any, path: str, data: bytes) -> None:
    remote.send("_v", data)
    # The file appears whole or not at all.
    code = f"with open('{path}.new', 'wb') as _f:\n _f.write(_v)\nos.rename('{path}.new', '{path}')\ndel _v"
    remote.exec(f"import os\n{code}")


def _make_folders(remote: Any, paths: Iterable[str]) -> None:
    folders = {parent.as_posix() for path in paths for parent in PurePosixPath(path).parents} - {"."}
    for folder in sorted(folders):
        remote.exec(f"import os\ntry:\n os.mkdir('{folder}')\nexcept OSError:\n pass")


def _progress(number: int, count: int, path: str) -> None:
    done = 30 * number // count
    end = "\n" if number == count or not sys.stderr.isatty() else ""
    print(
        f"\r[{'#' * done}{'.' * (30 - done)}] {number}/{count} {path:40}",
        end=end,
        file=sys.stderr,
        flush=True,
    )
