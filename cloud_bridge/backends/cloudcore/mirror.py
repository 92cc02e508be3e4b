"""What CloudCore sent, kept on disk: one SQLite file with a mirror of each node.

CloudCore remembers what a node acknowledged and never sends it again, so this file is the only copy
that a board can be filled from; what is acknowledged is in it before. Beside the objects it has what
waits to go up: the newest status of each device and pod, and the messages of the edge.

`write` gathers what many sessions want to write at about the same time into one transaction, for the
wait is for the disk. What it was called with is durable when it returns.
"""

import asyncio
import json
import os
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from cloud_bridge.backends.base import BackendError
from cloud_bridge.backends.cloudcore.objects import Change, Known, Stored

OBJECTS_MAX = 4096
"""Objects of one node."""
EVENTS_MAX = 1000
"""Messages of one node that wait to go up; beyond that the oldest goes."""
LATER_SECONDS = 0.3
"""How long `write_later` waits for something to be written with."""
CACHE_KIB = 2048
"""SQLite's page cache, for all nodes together."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS node (node TEXT PRIMARY KEY, uid TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS object (
    node TEXT, resource TEXT, uid TEXT NOT NULL, version TEXT NOT NULL, content TEXT NOT NULL,
    PRIMARY KEY (node, resource)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS expected (node TEXT, resource TEXT, PRIMARY KEY (node, resource)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS doubt (node TEXT, resource TEXT, PRIMARY KEY (node, resource)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS topic (node TEXT, topic TEXT, PRIMARY KEY (node, topic)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS status (
    node TEXT, resource TEXT, content TEXT NOT NULL, PRIMARY KEY (node, resource)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event (
    id INTEGER PRIMARY KEY AUTOINCREMENT, node TEXT NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS event_node ON event (node, id);
"""

Statement = tuple[str, tuple[Any, ...]]


class Mirror:
    """The file at `path`, made if missing, readable by this user only.

    Raises BackendError when it cannot be used. Reading has a connection of its own, which never waits
    for the disk; writing happens in a thread.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: list[tuple[Sequence[Statement], asyncio.Future[None]]] = []
        self._later: list[Statement] = []
        self._writer: asyncio.Task[None] | None = None
        self._closed = False
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            self._db.executescript(_SCHEMA)
            self._db.execute("INSERT OR IGNORE INTO meta VALUES ('id', ?)", (uuid.uuid4().hex[:16],))
            self.id: str = self._db.execute("SELECT value FROM meta WHERE key = 'id'").fetchone()[0]
            """Tells this mirror from every other one."""
            self._reader = sqlite3.connect(path, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise BackendError(f"{path}: {error}") from error

    async def close(self) -> None:
        """Let go of the file, once what is being written is."""
        self._closed = True
        if self._writer is not None:
            await asyncio.wait([self._writer])  # its thread must not find the file closed
        self._reader.close()
        self._db.close()

    # -- reading -------------------------------------------------------------------------------

    def nodes(self) -> dict[str, str]:
        """The nodes that this mirror is whole of, each with the uid of its Node."""
        return dict(self._rows("SELECT node, uid FROM node"))

    def objects(self) -> Iterator[tuple[str, str, Stored]]:
        """Node, resource and object of everything."""
        rows = self._rows("SELECT node, resource, uid, version, content FROM object")
        for node, resource, uid, version, content in rows:
            yield node, resource, Stored(Known(uid, version), content)

    def expected(self) -> Iterator[tuple[str, str]]:
        """Node and resource of what a refill has not brought yet."""
        return self._rows("SELECT node, resource FROM expected")

    def doubts(self) -> Iterator[tuple[str, str]]:
        """Node and resource of what CloudCore has forgotten, which it may have no more."""
        return self._rows("SELECT node, resource FROM doubt")

    def confirms(self) -> bool:
        """Whether CloudCore has ever confirmed a report."""
        return any(self._rows("SELECT value FROM meta WHERE key = 'confirms'"))

    def topics(self) -> Iterator[tuple[str, str]]:
        """Node and topic of each subscription of CloudCore's Router."""
        return self._rows("SELECT node, topic FROM topic")

    def status(self, node: str) -> dict[str, Any]:
        """What was last reported of each resource of the node."""
        rows = self._rows("SELECT resource, content FROM status WHERE node = ?", node)
        return {resource: json.loads(content) for resource, content in rows}

    def events(self, node: str, after: int, count: int) -> list[tuple[int, str, bytes]]:
        """Number, topic and payload of the node's oldest messages after number `after`."""
        query = "SELECT id, topic, payload FROM event WHERE node = ? AND id > ? ORDER BY id LIMIT ?"
        return list(self._rows(query, node, after, count))

    def _rows(self, query: str, *values: Any) -> Iterator[Any]:
        with closing(self._reader.execute(query, values)) as cursor:
            yield from cursor

    # -- writing -------------------------------------------------------------------------------

    async def write(self, statements: Sequence[Statement]) -> None:
        """Write all of it or nothing, durably. Raises BackendError."""
        if self._closed:
            raise BackendError(f"{self._path}: closed")
        future = asyncio.get_running_loop().create_future()
        self._pending.append((statements, future))
        self._start()
        try:
            await future
        except (sqlite3.Error, OSError) as error:
            raise BackendError(f"{self._path}: {error}") from error

    def write_later(self, *statements: Statement) -> None:
        """Write it soon, perhaps along with something else; lost with the process it is only done again."""
        if not self._later:
            asyncio.get_running_loop().call_later(LATER_SECONDS, self._start)
        self._later += statements

    def _start(self) -> None:
        if (self._writer is None or self._writer.done()) and not self._closed:
            self._writer = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while self._pending or self._later:
            pending, self._pending = self._pending, []
            later, self._later = self._later, []
            error = await asyncio.to_thread(self._commit, [*(each for each, _ in pending), later])
            for _, future in pending:
                if future.done():
                    continue
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)

    def _commit(self, batches: Sequence[Sequence[Statement]]) -> Exception | None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                for batch in batches:
                    for statement, values in batch:
                        self._db.execute(statement, values)
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
        except (sqlite3.Error, OSError) as error:
            return error
        return None


# -- what is written, as statements -----------------------------------------------------------------


def keep(node: str, change: Change) -> Sequence[Statement]:
    """Make the change in the mirror of the node; what a refill waited for has arrived with it."""
    where = "WHERE node = ? AND resource = ?", (node, change.resource)
    arrived = [(f"DELETE FROM {table} {where[0]}", where[1]) for table in ("expected", "doubt")]
    if change.stored is None:
        return [
            *((f"DELETE FROM {table} {where[0]}", where[1]) for table in ("object", "status")),
            *arrived,
        ]
    stored = change.stored
    row = (node, change.resource, *stored.known, stored.content)
    return [("INSERT OR REPLACE INTO object VALUES (?, ?, ?, ?, ?)", row), *arrived]


def own(node: str, uid: str) -> Statement:
    """CloudCore's memory of the node, whose Node has this uid, is of this mirror."""
    return "INSERT OR REPLACE INTO node VALUES (?, ?)", (node, uid)


def forget(node: str) -> Sequence[Statement]:
    """Remove all that came down for the node."""
    tables = ("node", "object", "expected", "doubt", "topic")
    return [(f"DELETE FROM {table} WHERE node = ?", (node,)) for table in tables]


def expect(node: str, resource: str) -> Statement:
    """The mirror of the node is not whole before this has come."""
    return "INSERT OR REPLACE INTO expected VALUES (?, ?)", (node, resource)


def doubt(node: str) -> Statement:
    """CloudCore has forgotten all that the mirror of the node has, and may have no more of it."""
    return "INSERT OR REPLACE INTO doubt SELECT node, resource FROM object WHERE node = ?", (node,)


def sure(node: str, resource: str) -> Statement:
    """CloudCore has the object still."""
    return "DELETE FROM doubt WHERE node = ? AND resource = ?", (node, resource)


def confirming() -> Statement:
    """CloudCore does confirm reports."""
    return "INSERT OR REPLACE INTO meta VALUES ('confirms', '1')", ()


def subscribe(node: str, topic: str, wanted: bool) -> Statement:
    """CloudCore's Router wants what is published on `topic`, or does not any more."""
    if wanted:
        return "INSERT OR REPLACE INTO topic VALUES (?, ?)", (node, topic)
    return "DELETE FROM topic WHERE node = ? AND topic = ?", (node, topic)


def report(node: str, resource: str, content: Any) -> Statement:
    """What was last reported of the resource."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return "INSERT OR REPLACE INTO status VALUES (?, ?, ?)", (node, resource, text)


def publish(node: str, topic: str, payload: bytes) -> Sequence[Statement]:
    """A message for the cloud; of too many the oldest is forgotten."""
    keep_from = "SELECT id FROM event WHERE node = ? ORDER BY id DESC LIMIT 1 OFFSET ?"
    return [
        ("INSERT INTO event (node, topic, payload) VALUES (?, ?, ?)", (node, topic, payload)),
        (f"DELETE FROM event WHERE node = ? AND id <= ({keep_from})", (node, node, EVENTS_MAX)),
    ]


def published(node: str, number: int) -> Statement:
    """The messages of the node up to this number have gone up."""
    return "DELETE FROM event WHERE node = ? AND id <= ?", (node, number)
