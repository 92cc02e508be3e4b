"""Tokens of service accounts: asked for when a pod wants one, renewed in time, dropped with the pod.

They are in memory only, so a bridge that starts has none and asks for all of those that its boards' pods
want: a few at a time, those first without which a pod cannot start. Meanwhile boards go on with what they
hold. Renewed is a token when four fifths of its life or a day have passed, as kubelet does it, and only
while its board is connected here.
"""

import asyncio
import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from cloud_bridge.backends.base import Backend, BackendError, Key, RefusedError, Token, TokenRequest
from cloud_bridge.edgecontroller.effective import CONFIG_ERROR, PendingError, UnrunnableError
from cloud_bridge.logs import Log

TOKENS_MAX = 16384
"""Tokens of all pods together."""
REQUESTS_MAX = 4
"""Requests at a time."""
PAUSE_SECONDS = 0.1
"""From an answer to the next request: 40 a second together, so that a restart is no storm."""
RENEW_PART = 0.8
RENEW_SECONDS_MAX = 86400.0
"""A token is renewed after this part of its life, or after so long."""
JITTER_SECONDS_MAX = 10.0
"""So much earlier at most: tokens that were made together are not renewed together."""
RETRY_SECONDS_MIN = 1.0
RETRY_SECONDS_MAX = 60.0
"""From a request that failed to the next: doubling from the one to the other."""

_log = Log("edgecontroller")


@dataclass(slots=True)
class _Entry:
    node: str
    urgent: bool
    due: float
    text: bytes = field(default=b"", repr=False)
    expires: float = float("-inf")
    error: str = ""
    pause: float = RETRY_SECONDS_MIN
    asking: bool = False


class Tokens:
    """The tokens of pods; `changed(node)`: `get` may tell something else. `now` counts seconds."""

    def __init__(
        self, backend: Backend, changed: Callable[[str], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._backend = backend
        self._changed = changed
        self._now = now
        self._entries: dict[TokenRequest, _Entry] = {}
        self._of: dict[Key, set[TokenRequest]] = {}
        self._connected: set[str] = set()
        self._work = asyncio.Event()

    def opened(self, node: str) -> None:
        """The board of the node is connected here: tokens of its pods are asked for and renewed."""
        self._connected.add(node)
        self._work.set()

    def closed(self, node: str) -> None:
        """The board has gone, perhaps to another bridge: what there is for it is kept, and not renewed."""
        self._connected.discard(node)

    def want(self, pod: Key, node: str, urgent: bool, requests: Collection[TokenRequest]) -> None:
        """The pod on `node` wants just these tokens; `urgent`: it waits for them. Raises UnrunnableError."""
        for request in self._of.pop(pod, set()) - set(requests):
            del self._entries[request]
        fresh = [each for each in requests if each not in self._entries]
        if len(self._entries) + len(fresh) > TOKENS_MAX:
            raise UnrunnableError(CONFIG_ERROR, f"the bridge has {TOKENS_MAX} tokens, no more")
        for request in fresh:
            self._entries[request] = _Entry(node, urgent, self._now())
        if requests:
            self._of[pod] = set(requests)
        if fresh:
            self._work.set()

    def forget(self, pod: Key) -> None:
        """The pod needs none any more."""
        for request in self._of.pop(pod, ()):
            del self._entries[request]

    def get(self, request: TokenRequest) -> bytes:
        """A token that was wanted. Raises PendingError while there is none, UnrunnableError if refused."""
        entry = self._entries[request]
        if self._now() < entry.expires:
            return entry.text
        if entry.error:
            raise UnrunnableError(CONFIG_ERROR, entry.error)
        raise PendingError(f"a token of {request.account} is being made")

    async def run(self) -> None:
        """Ask for tokens that are due, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(REQUESTS_MAX):
                tasks.create_task(self._ask_all())

    async def _ask_all(self) -> None:
        while True:
            request, wait = self._next()
            if request is not None:
                await self._ask(request, self._entries[request])
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            self._work.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._work.wait()
            except TimeoutError:
                pass  # something is due by now

    def _next(self) -> tuple[TokenRequest | None, float | None]:
        """The request to be made now, or the seconds until there is one (None: not by itself)."""
        waiting = [
            (request, entry)
            for request, entry in self._entries.items()
            if not entry.asking and entry.node in self._connected
        ]
        now = self._now()
        due = [(request, entry) for request, entry in waiting if entry.due <= now]
        if due:
            return min(due, key=lambda each: (not each[1].urgent, each[1].due))[0], None
        return None, min((entry.due - now for _, entry in waiting), default=None)

    async def _ask(self, request: TokenRequest, entry: _Entry) -> None:
        entry.asking = True
        asked = self._now()
        try:
            token = await self._backend.request_token(request)
        except (BackendError, RefusedError) as error:
            self._failed(request, entry, error)
        else:
            self._made(entry, asked, token)
        finally:
            entry.asking = False
        if self._entries.get(request) is entry:  # the pod has not gone meanwhile
            self._changed(entry.node)

    def _made(self, entry: _Entry, asked: float, token: Token) -> None:
        life = min(token.seconds * RENEW_PART, RENEW_SECONDS_MAX)
        entry.due = asked + life - random.uniform(0.0, min(JITTER_SECONDS_MAX, life / 10))
        entry.text, entry.expires = token.text.encode(), asked + token.seconds
        entry.urgent, entry.error, entry.pause = False, "", RETRY_SECONDS_MIN

    def _failed(self, request: TokenRequest, entry: _Entry, error: Exception) -> None:
        if entry.error != str(error):
            _log.warning("no token, will try again", key=request.pod, account=request.account, error=error)
        if isinstance(error, RefusedError):
            entry.error = str(error)
        entry.due = self._now() + entry.pause * random.uniform(0.8, 1.2)
        entry.pause = min(entry.pause * 2, RETRY_SECONDS_MAX)
