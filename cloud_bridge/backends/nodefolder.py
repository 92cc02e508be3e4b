"""The boards of the embedded backend, a YAML file each: ``<folder>/_nodes/<name>.yaml``, beside the status.

Nothing but this bridge writes them, and nobody owns a board but this bridge: the folder is locked. A
file is written when a board connects, says something of itself or goes; when it was heard last is in it
then. A file that cannot be written is written at the next occasion, for nothing depends on it.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from cloud_bridge.backends import files, nodebody
from cloud_bridge.logs import Log

FOLDER = "_nodes"
"""No namespace can have this name."""

_log = Log("manifests")


class NodeFolder:
    """`base.Nodes` in `folder`, which is made when it is needed."""

    def __init__(self, folder: Path, changed: Callable[[], None] = lambda: None) -> None:
        """`changed` is called when a board has connected."""
        self._changed = changed
        self._folder = folder / FOLDER
        self._boards: dict[str, nodebody.Board] = {}
        self._stored: dict[str, Mapping[str, Any]] = {}
        self._disk = asyncio.Lock()
        self._writing: set[asyncio.Task[None]] = set()

    async def connect(
        self, node: str, info: Mapping[str, Any], address: str, drop: Callable[[str], None]
    ) -> None:
        """See `base.Nodes`. There is no other bridge that could take the session, so `drop` is not called."""
        del drop
        self._boards[node] = board = nodebody.Board(info, address, _epoch_ms())
        self._changed()
        await self._write(node, board, connected=True)

    @property
    def boards(self) -> Mapping[str, nodebody.Board]:
        """The boards that are connected."""
        return self._boards

    def heard(self, node: str, epoch_ms: int) -> None:
        """See `base.Nodes`."""
        self._boards[node].heard_ms = epoch_ms

    def status(self, node: str, fields: Mapping[str, Any]) -> None:
        """See `base.Nodes`."""
        board = self._boards[node]
        board.fields = fields
        task = asyncio.create_task(self._write(node, board, connected=True))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def disconnect(self, node: str) -> None:
        """See `base.Nodes`."""
        board = self._boards.pop(node, None)
        if board is not None:
            await self._write(node, board, connected=False)

    def session(self, node: str) -> int:
        """See `base.Nodes`: there is no other bridge."""
        return 0

    async def _write(self, node: str, board: nodebody.Board, connected: bool) -> None:
        async with self._disk:
            if self._boards.get(node, board) is not board or connected != (node in self._boards):
                return  # it has connected again, or gone, since
            stored = self._stored.get(node, {})
            status = (nodebody.status if connected else nodebody.gone)(node, board, stored, _epoch_ms())
            self._stored[node] = status
            body = {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": node, "labels": nodebody.labels(node, board)},
                "spec": {"taints": nodebody.taints()},
                "status": status,
            }
            try:
                await asyncio.to_thread(self._put, node, body)
            except OSError as error:
                _log.error("cannot write the node's status", node=node, error=error.strerror or error)

    def _put(self, node: str, body: Mapping[str, Any]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(body, sort_keys=False, allow_unicode=True)
        files.replace(self._folder / f"{node}.yaml", text.encode(), durable=False)


def _epoch_ms() -> int:
    return time.time_ns() // 1_000_000
