"""A package index for `mip`, with what a board is given in parts: `mpremote mip install --index URL motelet`.

The index is a folder of plain files, served by any web server: package/6/<part>/latest.json names the part's
files by the beginning of their SHA-256, file/<first two>/<those> holds them (6 is the .mpy version). A part's
package.json beside it serves for `mpremote mip install URL/package.json`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from motelet import __version__
from motelet.tools import mpy
from motelet.tools.cli import UserError

MPY_VERSION = "6"
HASH_LENGTH = 8  # digits: what mip compares a file on the board with
BASE = "motelet"  # the part that all others need


def parts(files: Mapping[str, bytes]) -> dict[str, dict[str, bytes]]:
    """Which part of core/packages.json has which of `files`: the first that fits. Raises UserError."""
    patterns = json.loads((mpy.package_folder("motelet").parent / "packages.json").read_text())
    found: dict[str, dict[str, bytes]] = {name: {} for name in patterns}
    for path, data in files.items():
        for name, wanted in patterns.items():
            if any(fnmatchcase(path, pattern) for pattern in wanted):
                found[name][path] = data
                break
        else:
            raise UserError(f"{path} belongs to no part of core/packages.json")
    return found


def write(files: Mapping[str, bytes], folder: Path) -> dict[str, int]:
    """Make `folder` an index of `files`; -> the size of each part in bytes."""
    sizes = {}
    for name, content in parts(files).items():
        hashes = []
        for path, data in content.items():
            digest = hashlib.sha256(data).hexdigest()[:HASH_LENGTH]
            _put(folder / "file" / digest[:2] / digest, data)
            hashes.append([path, digest])
        deps = [] if name == BASE else [[BASE, "latest"]]
        package = {"v": 1, "version": __version__, "hashes": hashes, "deps": deps}
        for version in ("latest", __version__):
            text = json.dumps(package, indent=1).encode()
            _put(folder / "package" / MPY_VERSION / name / f"{version}.json", text)
        urls = [[path, f"../file/{digest[:2]}/{digest}"] for path, digest in hashes]
        _put(
            folder / name / "package.json",
            json.dumps({"version": __version__, "urls": urls}, indent=1).encode(),
        )
        sizes[name] = sum(map(len, content.values()))
    return sizes


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
