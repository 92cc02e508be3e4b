"""Packages that ``image: <name>:<version>`` names, from an index in the format of MicroPython's `mip`.

    <index>/package/6/<name>/<version>.json     {"hashes": [[path, hash], ..], "deps": [[name, version], ..]}
    <index>/package/py/<name>/<version>.json    the same with sources, which are compiled here
    <index>/file/<first two digits>/<hash>      the file; hash: the first digits of its SHA-256, 8 at least

(https://docs.micropython.org/en/latest/reference/packages.html; the files of tools/build.py of
micropython-lib.) An index is not trusted with more than its packages: what it says is checked for size,
digest, and paths that would leave the package.
"""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from cloud_bridge.edgecontroller.effective import (
    HELD_IMAGES,
    INVALID_IMAGE,
    PendingError,
    UnrunnableError,
)
from cloud_bridge.logs import Log

PACKAGE_SIZE_MAX = 256 * 1024
"""Bytes of all files of a package and of what it depends on."""
FILES_MAX = 48
INDEX_SIZE_MAX = 64 * 1024
"""Bytes of one JSON file of the index."""
DEPENDENCIES_MAX = 16
FETCH_SECONDS = 20.0
RETRY_SECONDS = 60.0
"""How long what could not be fetched is not asked for again."""
PACKAGES_MAX = 64
"""Packages that are kept; the oldest go."""
HASH_DIGITS_MIN = 8
PULL_ERROR = "ErrImagePull"

_log = Log("edgecontroller")


class PackageError(Exception):
    """A package cannot be had; the text says why. `missing`: the index says that there is none."""

    def __init__(self, text: str, missing: bool = False) -> None:
        super().__init__(text)
        self.missing = missing


@dataclass(frozen=True, slots=True)
class _Failure:
    error: PackageError
    until: float


class Packages:
    """Fetches in the background; `done` is called, in the event loop, whenever one has come or failed."""

    def __init__(self, index: str | None, done: Callable[[], None]) -> None:
        self._index = index.rstrip("/") if index else None
        self._done = done
        self._held: dict[tuple[str, str], Mapping[str, bytes] | _Failure] = {}
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}

    def get(self, name: str, version: str) -> Mapping[str, bytes] | None:
        """The files of a package by path, None when there is no index or no such package.

        Raises PendingError while it is being fetched, UnrunnableError when that failed.
        """
        if self._index is None:
            return None
        key = (name, version)
        held = self._held.get(key)
        if isinstance(held, Mapping):
            return held
        loop = asyncio.get_running_loop()
        if (held is None or loop.time() >= held.until) and key not in self._running:
            self._running[key] = loop.create_task(self._fetch(key))
        if held is None:
            raise PendingError(f"{name}:{version} is being fetched")
        reason = INVALID_IMAGE if held.error.missing else PULL_ERROR
        raise UnrunnableError(reason, f"{name}:{version}: {held.error}")

    async def _fetch(self, key: tuple[str, str]) -> None:
        assert self._index is not None
        loop = asyncio.get_running_loop()
        try:
            self._held[key] = await asyncio.to_thread(fetch, self._index, *key)
            _log.info("package fetched", package=":".join(key))
        except PackageError as error:
            _log.warning("package cannot be fetched", package=":".join(key), error=error)
            self._held[key] = _Failure(error, loop.time() + RETRY_SECONDS)
            loop.call_later(RETRY_SECONDS, self._done)
        finally:
            del self._running[key]
        while len(self._held) > PACKAGES_MAX:
            del self._held[next(iter(self._held))]
        self._done()


def fetch(index: str, name: str, version: str) -> dict[str, bytes]:
    """All files of a package and of what it depends on, by path. Raises PackageError. Blocks."""
    files: dict[str, bytes] = {}
    wanted, seen = [(name, version)], set()
    while wanted:
        each = wanted.pop()
        if each in seen:
            continue
        seen.add(each)
        if len(seen) > DEPENDENCIES_MAX:
            raise PackageError(f"more than {DEPENDENCIES_MAX} packages that it depends on")
        listing = _listing(index, *each)
        for path, digest in _pairs(listing, "hashes"):
            if _climbs(path):
                raise PackageError(f'the path "{path[:64]}" leaves the package')
            files[path] = _file(index, path, digest)
            if len(files) > FILES_MAX or sum(map(len, files.values())) > PACKAGE_SIZE_MAX:
                raise PackageError(f"more than {FILES_MAX} files or {PACKAGE_SIZE_MAX} bytes")
        for dependency in _pairs(listing, "deps"):
            if not HELD_IMAGES.match(":".join(dependency)):
                raise PackageError(f"depends on {':'.join(dependency)[:64]}, which is no name of a package")
            wanted.append(dependency)
    if not files:
        raise PackageError("the package has no files")
    return files


def _listing(index: str, name: str, version: str) -> Mapping[str, Any]:
    for kind in ("6", "py"):
        try:
            data = _get(f"{index}/package/{kind}/{name}/{version}.json", INDEX_SIZE_MAX)
        except PackageError as error:
            if error.missing and kind == "6":
                continue
            raise
        try:
            listing = json.loads(data)
        except ValueError as error:
            raise PackageError(f"the index says no JSON about {name}: {error}") from error
        if not isinstance(listing, dict) or listing.get("urls"):
            raise PackageError(f"{name} is not all in the index")
        return listing
    raise AssertionError


def _pairs(listing: Mapping[str, Any], field: str) -> list[tuple[str, str]]:
    found = listing.get(field, [])
    if not isinstance(found, list) or len(found) > FILES_MAX:
        raise PackageError(f"{field} is no list of at most {FILES_MAX}")
    for each in found:
        if not isinstance(each, list) or len(each) != 2 or not all(isinstance(one, str) for one in each):
            raise PackageError(f"{field} is no list of pairs of texts")
    return [(each[0], each[1]) for each in found]


def _file(index: str, path: str, digest: str) -> bytes:
    if len(digest) < HASH_DIGITS_MIN or not set(digest) <= set("0123456789abcdef"):
        raise PackageError(f"{path}: no digest of at least {HASH_DIGITS_MIN} digits")
    data = _get(f"{index}/file/{digest[:2]}/{digest}", PACKAGE_SIZE_MAX)
    if not sha256(data).hexdigest().startswith(digest):
        raise PackageError(f"{path}: the digest of what the index gave differs")
    return data


def _climbs(path: str) -> bool:
    return not path or len(path) > 128 or any(part in ("", ".", "..") for part in path.split("/"))


def _get(url: str, size_max: int) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=FETCH_SECONDS) as answer:
            data: bytes = answer.read(size_max + 1)
    except urllib.error.HTTPError as error:
        raise PackageError(f"{url}: {error.code} {error.reason}", error.code == 404) from error
    except (OSError, ValueError) as error:
        raise PackageError(f"{url}: {error}") from error
    if len(data) > size_max:
        raise PackageError(f"{url}: more than {size_max} bytes")
    return data
