"""What an operator on the bridge's own computer may ask it, over a Unix socket that only its owner can open.

One request a connection: a line of JSON, ``{"log": [namespace, pod, container], "lines": 50}``, and a line of
JSON for an answer, ``{"text": ..}`` or ``{"error": ..}``. `motelet logs` is the client.
"""

import asyncio
import json
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from cloud_bridge.logs import Log

REQUEST_SIZE_MAX = 4096
"""Bytes of a request."""
REQUEST_SECONDS = 15.0
"""For a whole request and its answer."""
CONNECTIONS_MAX = 8

_log = Log("control")

Logs = Callable[[str, str, str, int], Awaitable[str]]
"""namespace, pod, container ("": the first), lines -> text. Raises LookupError, TimeoutError."""


class Control:
    """Serves at `path`, an older socket there is replaced; `logs` answers."""

    def __init__(self, path: Path, logs: Logs) -> None:
        self._path = path
        self._logs = logs
        self._server: asyncio.Server | None = None
        self._open = 0

    async def start(self) -> None:
        """Listen. Raises OSError."""
        if self._path.exists() and stat.S_ISSOCK(self._path.stat().st_mode):
            self._path.unlink()
        mask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=REQUEST_SIZE_MAX)
        finally:
            os.umask(mask)

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open > CONNECTIONS_MAX:
                answer: dict[str, Any] = {"error": f"more than {CONNECTIONS_MAX} requests at a time"}
            else:
                async with asyncio.timeout(REQUEST_SECONDS):
                    answer = await self._answer(await reader.readline())
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except (TimeoutError, ValueError, OSError) as error:
            _log.warning("request not answered", error=repr(error))
        finally:
            self._open -= 1
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            namespace, pod, container = request["log"]
            lines = request["lines"]
        except (ValueError, LookupError, TypeError):
            return {"error": "the request is not understood"}
        if not all(isinstance(each, str) for each in (namespace, pod, container)) or type(lines) is not int:
            return {"error": "the request is not understood"}
        try:
            return {"text": await self._logs(namespace, pod, container, max(1, min(lines, 1000)))}
        except LookupError as error:
            return {"error": str(error.args[0])}
        except TimeoutError:
            return {"error": "the board did not answer"}
