"""The door of a listener: how many connections a second, and how many TLS handshakes at a time.

Before a handshake is over nothing is known of the peer, and it costs a millisecond of computing and tens
of KiB. So asyncio is given a listening socket that drops what is too much at once, where it costs next to
nothing: a board tries again later. Who keeps handshakes open without ending them loses the oldest of
them first, so a board that comes meanwhile still has its time.
"""

import asyncio
import errno
import gc
import socket
import time
from collections.abc import Callable
from typing import Any

from cloud_bridge import metrics
from cloud_bridge.logs import Log

CONNECTIONS_PER_SECOND = 100
CONNECTIONS_BURST = 150
"""Connections taken at once after a quiet time: all boards come back when a bridge has started."""
HANDSHAKES_MAX = 100
"""TLS handshakes in progress."""
COLLECT_AFTER = 100
"""Failed handshakes between two collections of garbage: each leaves a cycle of some 60 KiB, of which
Python sees a few objects only and would let thousands gather."""
COMPLAINT_SECONDS = 10.0
"""How often the log says that connections were dropped."""
BACKLOG = 128

_log = Log("gate")


class Allowance:
    """A token bucket: `rate` a second, up to `burst` saved up. `now` counts seconds."""

    def __init__(self, rate: float, burst: float, now: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._now = now
        self._left = burst
        self._at = now()

    def take(self, count: float = 1) -> bool:
        """Take `count` if they are there."""
        self._refill()
        if self._left < count:
            return False
        self._left -= count
        return True

    def owe(self, count: float) -> float:
        """Take `count` in any case; -> seconds until that will have been allowed."""
        self._refill()
        self._left -= count
        return max(0.0, -self._left / self._rate)

    def _refill(self) -> None:
        now = self._now()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now


class Gate(socket.socket):
    """A listening socket for `asyncio`. Make it with `listen`.

    A protocol tells by `opened` that its handshake is over; without TLS there is nothing to tell.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.dropped = 0
        """Connections that were dropped, of either kind."""
        self.tls = True
        self._allowance = Allowance(CONNECTIONS_PER_SECOND, CONNECTIONS_BURST)
        self._opening: dict[int, socket.socket] = {}
        self._complained = -COMPLAINT_SECONDS
        self._failed = 0

    def accept(self) -> tuple[socket.socket, Any]:
        """As of any socket that does not block, but for what is dropped."""
        connection, address = super().accept()
        connection.setblocking(False)
        if not self._allowance.take():
            connection.close()
            self._drop("too many connections a second", CONNECTIONS_PER_SECOND)
            raise ConnectionAbortedError(errno.ECONNABORTED, "dropped by the gate")
        if self.tls:
            self._make_room()
            self._opening[connection.fileno()] = connection
        return connection, address

    def opened(self, transport: asyncio.BaseTransport) -> None:
        """The handshake of this connection is over."""
        self._opening.pop(transport.get_extra_info("socket").fileno(), None)

    def _make_room(self) -> None:
        # What has been closed meanwhile has no descriptor any more.
        opening = {number: each for number, each in self._opening.items() if each.fileno() == number}
        self._failed += len(self._opening) - len(opening)
        self._opening = opening
        if self._failed >= COLLECT_AFTER:
            self._failed = 0
            gc.collect()
        if len(self._opening) >= HANDSHAKES_MAX:
            oldest = self._opening.pop(next(iter(self._opening)))
            self._failed += 1
            # asyncio owns it, and closes it when it finds the end of the stream.
            try:
                oldest.shutdown(socket.SHUT_RDWR)
            except OSError as error:
                _log.debug("gone by itself", error=error)
            self._drop("too many handshakes at a time", HANDSHAKES_MAX)

    def _drop(self, why: str, limit: int) -> None:
        self.dropped += 1
        metrics.dropped_connections.labels(why).inc()
        if time.monotonic() - self._complained >= COMPLAINT_SECONDS:
            self._complained = time.monotonic()
            _log.warning("connection dropped", why=why, limit=limit, dropped=self.dropped)


def listen(host: str, port: int, tls: bool = True) -> Gate:
    """A gate that listens there, on the first address that `host` has. Raises OSError."""
    family, kind, number, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    gate = Gate(family, kind, number)
    gate.tls = tls
    try:
        gate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        gate.bind(address)
        gate.listen(BACKLOG)
        gate.setblocking(False)
    except OSError:
        gate.close()
        raise
    return gate
