"""Requests to the API server: JSON in, JSON out, errors as exceptions; one that is busy is waited for.

Every request of the bridge can be repeated: it either carries a resourceVersion or says what is to be, so
one that was answered by 429, or by no answer at all, is made again by who made it.
"""

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import aiohttp

from cloud_bridge import metrics
from cloud_bridge.backends.base import BackendError
from cloud_bridge.backends.kubernetes.access import Access
from motelet import __version__

REQUEST_SECONDS = 15.0
"""For a whole request; the server itself gives up on one after a minute."""
CONNECT_SECONDS = 5.0
WATCH_SILENCE_SECONDS = 120.0
"""A watch that says nothing for so long is dead: bookmarks come about once a minute."""
CONNECTIONS_MAX = 48
"""For requests; each watch has one more for as long as it lasts."""
OBJECT_SIZE_MAX = 4 * 1024 * 1024
"""Bytes of one event of a watch; etcd takes objects of 1.5 MiB."""
BUSY_TRIES = 5
"""How often a request is made again that is answered by 429 before its caller hears of it."""
BUSY_SECONDS_MAX = 10.0

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON = "application/json"


class ApiError(BackendError):
    """The API server refused. `code` is the HTTP status, 0 where there was no answer."""

    def __init__(self, code: int, text: str, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.code = code
        self.retry_after = retry_after


class Api:
    """One API server. To be closed."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._sessions: list[aiohttp.ClientSession] = []

    async def request(
        self,
        verb: str,
        path: str,
        body: Any = None,
        kind: str = JSON,
        query: Mapping[str, str] | None = None,
    ) -> Any:
        """Make a request; -> the object in the answer. Raises ApiError."""
        for attempt in range(BUSY_TRIES):
            try:
                return await self._request(verb, path, body, kind, query)
            except ApiError as error:
                if error.code != 429 or attempt == BUSY_TRIES - 1:
                    raise
                wait = max(error.retry_after, 0.1 * 2**attempt)
                await asyncio.sleep(min(wait, BUSY_SECONDS_MAX) * random.uniform(1.0, 1.5))
        raise AssertionError  # the loop returns or raises

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncGenerator[list[dict[str, Any]], None]:
        """Events as they come, those that came together in one list; first an empty one. Raises ApiError."""
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS, sock_read=WATCH_SILENCE_SECONDS
        )
        try:
            async with self._open(watch=True).get(
                self._access.server + path,
                params={**query, "watch": "1"},
                headers=await self._headers(),
                timeout=timeout,
            ) as answer:
                metrics.api_requests.labels("watch", str(answer.status)).inc()
                if answer.status != 200:
                    raise await _refused(answer)
                yield []  # it has begun
                rest = b""
                async for chunk in answer.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    if len(rest) > OBJECT_SIZE_MAX:
                        raise ApiError(0, f"an event of {path} is larger than {OBJECT_SIZE_MAX} bytes")
                    if lines:
                        yield [json.loads(line) for line in lines if line]
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            metrics.api_failures.labels("watch").inc()
            raise ApiError(0, _text(error)) from error

    async def close(self) -> None:
        """Close all connections."""
        for session in self._sessions:
            await session.close()

    def _open(self, watch: bool = False) -> aiohttp.ClientSession:
        if not self._sessions:
            for limit in (CONNECTIONS_MAX, 0):
                connector = aiohttp.TCPConnector(ssl=self._access.context or False, limit=limit)
                self._sessions.append(aiohttp.ClientSession(connector=connector, trust_env=False))
        return self._sessions[watch]

    async def _headers(self) -> dict[str, str]:
        headers = {"Accept": JSON, "User-Agent": f"motelet-bridge/{__version__}"}
        try:
            token = await self._access.token()
        except BackendError as error:
            raise ApiError(0, str(error)) from error
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return headers

    async def _request(
        self, verb: str, path: str, body: Any, kind: str, query: Mapping[str, str] | None
    ) -> Any:
        headers = await self._headers()
        if body is not None:
            headers["Content-Type"] = kind
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=CONNECT_SECONDS)
        data = None if body is None else json.dumps(body)
        try:
            async with self._open().request(
                verb, self._access.server + path, params=query, data=data, headers=headers, timeout=timeout
            ) as answer:
                metrics.api_requests.labels(verb.lower(), str(answer.status)).inc()
                if answer.status >= 300:
                    raise await _refused(answer)
                return json.loads(await answer.read())
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            metrics.api_failures.labels(verb.lower()).inc()
            raise ApiError(0, _text(error)) from error


async def _refused(answer: aiohttp.ClientResponse) -> ApiError:
    text = (await answer.text(errors="replace"))[:2000]
    try:
        text = str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        text = text.strip() or str(answer.reason)
    try:
        retry_after = float(answer.headers.get("Retry-After", "0"))
    except ValueError:
        retry_after = 1.0
    return ApiError(answer.status, f"{answer.status}: {text}", retry_after)


def _text(error: BaseException) -> str:
    return f"the API server cannot be reached: {str(error) or type(error).__name__}"
