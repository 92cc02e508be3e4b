"""The embedded backend: a folder of Kubernetes YAML that is watched, with the status written beside it.

    <folder>/*.yaml, *.yml                      Device, DeviceModel, Rule, RuleEndpoint, Pod, ConfigMap,
                                                Secret; any number a file
    <folder>/status/<namespace>/<name>.yaml     DeviceStatus of each Device
    <folder>/status/_pods/<namespace>/<name>.yaml   node and status of each Pod
    <folder>/status/_nodes/<name>.yaml          Node of each board that has connected
    <folder>/status/events.jsonl                what the edge published for the cloud
    <folder>/status/.last-good/<file>.last      each file as it was when it could last be read

What cannot be read is not gone. A file that breaks keeps the objects it had, across a restart too
(`.last-good`); if nobody knows what it had, or the folder cannot be read, `synced` is false and
nothing is deleted anywhere. An object in two files is that of the file which had it first.
"""

import asyncio
import fcntl
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cloud_bridge.backends import files, yamlfile
from cloud_bridge.backends.base import (
    DEVICE,
    POD,
    BackendError,
    Body,
    EdgeEvent,
    FieldError,
    Key,
    NoObjectError,
    PodChange,
    RefusedError,
    StatusChange,
    Token,
    TokenRequest,
    dotted,
)
from cloud_bridge.backends.folder import Folder
from cloud_bridge.backends.inotify import Hints
from cloud_bridge.backends.nodefolder import NodeFolder
from cloud_bridge.backends.podfolder import PodFolder, choose
from cloud_bridge.backends.status import StatusFolder
from cloud_bridge.backends.yamlfile import Manifest, ManifestError
from cloud_bridge.logs import Log

POLL_SECONDS = 0.2
"""How often the folder is looked at."""

_log = Log("manifests")


@dataclass(frozen=True, slots=True)
class _Source:
    """What one file holds, and the bytes that its lines are counted in."""

    data: bytes
    objects: Mapping[Key, Manifest]


@dataclass(frozen=True, slots=True)
class _Read:
    """What came of reading one file; `source` None with an error: as broken as it can be."""

    name: str
    source: _Source | None
    error: tuple[int, str] | None = None


class Manifests:
    """The backend on `folder`. See `base.Backend` for what each method has to do."""

    def __init__(self, folder: Path) -> None:
        self._path = folder
        self._folder = Folder(folder)
        self._last_good = folder / "status" / ".last-good"
        self._status = StatusFolder(folder / "status")
        self._pods = PodFolder(folder / "status")
        self.nodes = NodeFolder(folder / "status", self._schedule)
        self._disk = asyncio.Lock()
        self._sources: dict[str, _Source] = {}
        self._unknown: set[str] = set()
        self._folder_error = ""
        self._objects: dict[Key, Body] = {}
        self._file_of: dict[Key, str] = {}
        self._listeners: list[Callable[[frozenset[Key]], None]] = []
        self._told: dict[object, object] = {}
        self._closed: set[str] = set()
        self._wake = asyncio.Event()
        self._hints: Hints | None = None
        self._prune_due = True
        self._lock_file: IO[bytes] | None = None

    async def start(self) -> None:
        """Read everything once. Raises BackendError when there is no such folder to read."""
        self._lock()
        self._watch_hints()
        try:
            await self._look()
        except OSError as error:
            raise BackendError(f"cannot read the folder {self._path}: {error.strerror or error}") from error

    async def run(self) -> None:
        """Follow the folder until cancelled."""
        loop = asyncio.get_running_loop()
        next_poll = loop.time() + POLL_SECONDS
        while True:
            try:
                async with asyncio.timeout_at(next_poll):
                    await self._wake.wait()
            except TimeoutError:
                await self._poll()
                next_poll = loop.time() + POLL_SECONDS
                continue
            self._wake.clear()
            names, self._closed = self._closed, set()
            changed = self._folder.look_at(names)
            if changed:
                await self._take(changed, [])

    async def stop(self) -> None:
        """Let go of the folder; everything written is durable already."""
        if self._hints is not None:
            asyncio.get_running_loop().remove_reader(self._hints.fileno())
            self._hints.close()
        if self._lock_file is not None:
            self._lock_file.close()

    def synced(self, node: str | None = None) -> bool:
        """Whether the folder and every file in it could be read, or it is known what they held."""
        return not self._folder_error and not self._unknown

    def get(self, key: Key) -> Body | None:
        """The object in its last good version, None when there is none."""
        body = self._objects.get(key)
        return self._pods.complete(key, body) if body is not None and key.kind == POD else body

    def keys(self, kind: str) -> Collection[Key]:
        """The names of all objects of a kind."""
        return [key for key in self._objects if key.kind == kind]

    def watch(self, changed: Callable[[frozenset[Key]], None]) -> None:
        """Have `changed(keys)` called when objects, or with no keys `synced()`, may differ."""
        self._listeners.append(changed)

    def complain(self, key: Key, errors: Sequence[FieldError]) -> None:
        """Log what is wrong with the object, with file and line; the same once."""
        file = self._file_of.get(key)
        source = self._sources.get(file) if file is not None else None
        told = tuple(errors), source.data if errors and source else None
        if self._told.get(key, ((), None)) == told:
            return
        if not errors:
            del self._told[key]
            _log.info("object is good again", key=key, file=file)
            return
        self._told[key] = told
        for error in errors:
            line = _line(source, key, error) if source else 0
            where = {"file": file, "line": line, "field": dotted(error.path) or "-"}
            _log.error("object is not valid", key=key, **where, error=error.text)

    def write_delay(self, key: Key) -> float:
        """Always now: the disk is near."""
        return 0.0

    async def write_status(self, changes: Mapping[Key, StatusChange]) -> Mapping[Key, Exception]:
        """Merge each change into the file of its Device's status. What is not in the result is durable."""
        async with self._disk:
            there = {key: change for key, change in changes.items() if key in self._objects}
            failures: dict[Key, Exception] = await asyncio.to_thread(self._status.write, there)
        return {**failures, **{key: NoObjectError(str(key)) for key in changes if key not in there}}

    def refer(self, kind: str, keys: Collection[Key]) -> None:
        """Everything in the folder is there anyway."""

    def tell(self, key: Key, reason: str, text: str, warning: bool) -> None:
        """Log it; the same once."""
        if self._told.get(("event", key, reason)) != text:
            self._told["event", key, reason] = text
            (_log.warning if warning else _log.info)("event", key=key, reason=reason, message=text)

    async def write_pods(self, changes: Mapping[Key, PodChange]) -> Mapping[Key, Exception]:
        """Merge each change into the file of its Pod's status. What is not in the result is durable."""
        async with self._disk:
            bodies = {key: body for key in changes if (body := self.get(key)) is not None}
            failures = await asyncio.to_thread(self._pods.write, changes, bodies)
        self._tell(frozenset(changes.keys() - failures.keys()))
        return failures

    async def request_token(self, request: TokenRequest) -> Token:
        """Raises RefusedError: there is nobody here who could take a token."""
        raise RefusedError("a folder of YAML has no service accounts, and makes no tokens of them")

    async def write_events(self, events: Sequence[EdgeEvent]) -> None:
        """Append the events to events.jsonl, durably. Raises BackendError."""
        async with self._disk:
            try:
                await asyncio.to_thread(self._status.append, events)
            except OSError as error:
                raise BackendError(f"{self._path / 'status'}: {error.strerror or error}") from error

    # -- following the folder ----------------------------------------------------------------

    def _lock(self) -> None:
        """Two bridges on one folder would undo each other's status."""
        status = self._path / "status"
        try:
            if self._path.is_dir():
                status.mkdir(exist_ok=True)
            self._lock_file = open(status / ".lock", "wb")  # noqa: SIM115 - held until `stop`
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BackendError(f"another bridge serves the folder {self._path}") from error
        except OSError as error:
            _log.error("cannot write status, will try again", file=status, error=error.strerror)

    def _watch_hints(self) -> None:
        try:
            self._hints = Hints(self._path)
        except OSError as error:
            _log.debug("no hints of changes, the folder is looked at only", error=error)
            return
        asyncio.get_running_loop().add_reader(self._hints.fileno(), self._hinted)

    def _hinted(self) -> None:
        assert self._hints is not None
        self._closed |= self._hints.closed()
        self._wake.set()

    async def _poll(self) -> None:
        """Look at the folder; one that cannot be read keeps everything as it is."""
        try:
            await self._look()
        except OSError as error:
            text = str(error.strerror or error)
            if not self._folder_error:
                _log.error("cannot read the folder, nothing is deleted", file=self._path, error=text)
                self._folder_error = text
                self._tell(frozenset())

    async def _look(self) -> None:
        look = await asyncio.to_thread(self._folder.look)
        readable_again = bool(self._folder_error)
        if readable_again:
            self._folder_error = ""
            _log.info("the folder can be read again", file=self._path)
        if look.changed or look.gone or readable_again:
            await self._take(look.changed, look.gone)

    async def _take(self, changed: Sequence[str], gone: Sequence[str]) -> None:
        reads = await asyncio.to_thread(lambda: [self._read(name) for name in changed])
        for name in gone:
            self._sources.pop(name, None)
            self._unknown.discard(name)
            self._told.pop(name, None)
        for read in reads:
            self._take_read(read)
        self._merge()
        async with self._disk:
            await asyncio.to_thread(self._tidy, changed)

    def _read(self, name: str) -> _Read:
        """Read one file; a broken one falls back on what it had when it was last good."""
        try:
            return _Read(name, _source((self._path / name).read_bytes()))
        except ManifestError as error:
            problem = error.line, error.text
        except OSError as error:
            problem = 0, str(error.strerror or error)
        try:
            before = self._sources.get(name) or _source((self._last_good / f"{name}.last").read_bytes())
        except (OSError, ManifestError):
            before = None
        return _Read(name, before, problem)

    def _take_read(self, read: _Read) -> None:
        if read.source is not None:
            self._sources[read.name] = read.source
            self._unknown.discard(read.name)
        else:
            self._unknown.add(read.name)
        if read.error is None:
            if self._told.pop(read.name, None):
                _log.info("file is good again", file=read.name)
        elif self._told.get(read.name) != read.error:
            self._told[read.name] = read.error
            kept = "its objects stay as they were" if read.source else "nothing is deleted meanwhile"
            line, text = read.error
            _log.error(f"file is broken, {kept}", file=read.name, line=line, error=text)

    def _merge(self) -> None:
        """Make one table of all files' objects and tell who listens what may differ in it."""
        owners: dict[Key, str] = {}
        for name in sorted(self._sources):
            for key in self._sources[name].objects:
                if key not in owners or self._file_of.get(key) == name:
                    owners[key] = name
        self._complain_of_doubles(owners)
        objects = {key: self._sources[name].objects[key].body for key, name in owners.items()}
        changed = {
            key for key in objects.keys() | self._objects.keys() if objects.get(key) != self._objects.get(key)
        }
        moved = {key for key, name in owners.items() if self._file_of.get(key) != name}
        self._objects, self._file_of = objects, owners
        self._prune_due |= any(key.kind == DEVICE and key not in objects for key in changed)
        self._prune_due |= any(key.kind == POD and key not in objects for key in changed)
        self._tell(frozenset(changed | moved))
        self._schedule()

    def _complain_of_doubles(self, owners: Mapping[Key, str]) -> None:
        for name, source in self._sources.items():
            for key, manifest in source.objects.items():
                double = ("double", name, key)
                if owners[key] == name:
                    self._told.pop(double, None)
                elif self._told.get(double) != owners[key] and (self._path / owners[key]).exists():
                    # A file that was renamed is in two places until the old one counts as gone.
                    self._told[double] = owners[key]
                    line = yamlfile.parse(source.data)[manifest.index].line
                    text = f"the one in {owners[key]} counts, this one does not"
                    _log.error("object is in two files", key=key, file=name, line=line, error=text)

    def _schedule(self) -> None:
        """Find a node for each Pod that has none."""
        pods = {key: body for key in self._objects if key.kind == POD and (body := self.get(key)) is not None}
        counts = Counter(body["spec"].get("nodeName", "") for body in pods.values())
        for key, body in sorted(pods.items()):
            if body["spec"].get("nodeName"):
                continue
            node, message = choose(body, self.nodes.boards, counts)
            if not node and message == _scheduling(body):
                continue
            counts[node] += 1
            self._pods.bind(key, node, message)
            try:
                self._pods.keep(key)
            except OSError as error:
                _log.error("cannot write where a pod is", key=key, error=error.strerror or error)
            _log.info(
                "pod scheduled" if node else "pod cannot be scheduled", key=key, node=node, error=message
            )
            self._tell(frozenset({key}))

    def _tell(self, keys: frozenset[Key]) -> None:
        for listener in self._listeners:
            listener(keys)

    def _tidy(self, changed: Sequence[str]) -> None:
        """Write down what is good now, and remove what belongs to what is gone."""
        try:
            for name in changed:
                if name in self._sources:
                    self._keep(name, self._sources[name].data)
            for path in self._last_good.glob("*.last"):
                if path.stem not in self._sources and path.stem not in self._unknown:
                    path.unlink()
            if self._prune_due and self.synced():
                self._status.prune(set(self._objects))
                self._pods.prune(set(self._objects))
                self._prune_due = False
        except OSError as error:
            _log.error("cannot write beside the manifests", file=self._path / "status", error=error.strerror)

    def _keep(self, name: str, data: bytes) -> None:
        path = self._last_good / f"{name}.last"
        with suppress(FileNotFoundError):
            if path.read_bytes() == data:
                return
        self._last_good.mkdir(parents=True, exist_ok=True)
        # Readable by nobody else, for there may be a Secret in it; and not worth waiting for the disk.
        files.replace(path, data, mode=0o600, durable=False)


def _scheduling(body: Body) -> str:
    """Why there was no node for the pod when one was sought last."""
    for each in body["status"].get("conditions", ()):
        if each["type"] == "PodScheduled" and each["status"] == "False":
            return str(each.get("message", ""))
    return ""


def _source(data: bytes) -> _Source:
    return _Source(data, {each.key: each for each in yamlfile.manifests(data)})


def _line(source: _Source, key: Key, error: FieldError) -> int:
    document = yamlfile.parse(source.data, lines=True)[source.objects[key].index]
    return document.line_of(error.path)
