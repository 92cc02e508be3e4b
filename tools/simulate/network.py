"""The network between boards and the bridge: TCP as it looks to those who use it, and as it fails.

Bytes of one connection arrive in order or not at all; between connections there is no order. A partition
holds what is under way until it is over (TCP sends again), so what an old connection carried may arrive
after a newer one has begun. A half-open connection drops everything and tells nobody.
"""

from __future__ import annotations

import asyncio
import errno
import random
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from motelet.loop import READ, WRITE
from motelet.tools.simulate.eventloop import VirtualServer
from motelet.tools.simulate.schedule import MS, Schedule

KERNEL_SIZE = 8192
"""Bytes that a kernel takes for one connection before its peer has them."""
SPLIT_CHANCE = 0.08
_FIN = b""


class Path:
    """The way between one board and the bridge, which all connections of the board share."""

    def __init__(self, schedule: Schedule, actor: int, rng: random.Random, look: Callable[[], None]) -> None:
        """`look()` is called whenever something has arrived at either end."""
        self.schedule = schedule
        self.actor = actor
        self.rng = rng
        self.look = look
        self.latency = rng.randrange(5 * MS, 60 * MS)
        self.cut_until = 0
        self.connections: list[Connection] = []

    def delay(self) -> int:
        return self.latency + int(self.rng.random() * (self.latency // 4 + 1))


class _Way:
    """One direction of a connection. `size`: bytes that were sent and have not arrived."""

    def __init__(self, path: Path, arrived: Callable[[bytes], None]) -> None:
        self.size = 0
        self.lost = False  # half-open: nothing arrives any more
        self._path = path
        self._arrived = arrived
        self._chunks: deque[tuple[int, bytes]] = deque()
        self._last = 0
        self._turn = 0  # which of the scheduled arrivals counts

    def send(self, data: bytes, now: int) -> None:
        """`data` is under way; _FIN is its end."""
        path = self._path
        if len(data) > 1 and path.rng.random() < SPLIT_CHANCE:
            half = path.rng.randrange(1, len(data))
            self._put(data[:half], now)
            data = data[half:]
        self._put(data, now)

    def drop(self) -> None:
        """What is under way is lost."""
        self._chunks.clear()
        self.size = 0
        self._turn += 1

    def _put(self, data: bytes, now: int) -> None:
        self.size += len(data)
        self._last = max(now + self._path.delay(), self._last)
        self._chunks.append((self._last, data))
        if len(self._chunks) == 1:
            self._path.schedule.at(self._last, self._path.actor, self._arrive, self._turn)

    def _arrive(self, turn: int) -> None:
        path = self._path
        if turn != self._turn:
            return
        if path.cut_until > path.schedule.now:
            path.schedule.at(path.cut_until + path.delay(), path.actor, self._arrive, turn)
            return
        _, data = self._chunks.popleft()
        self.size -= len(data)
        if self._chunks:
            path.schedule.at(self._chunks[0][0], path.actor, self._arrive, turn)
        if not self.lost:
            self._arrived(data)
            path.look()


class Connection:
    """One TCP connection of a board to the bridge, its ends `stream` and, once accepted, `transport`."""

    def __init__(self, path: Path, door: Door, stream: BoardStream) -> None:
        self.path = path
        self.door = door
        self.stream = stream
        self.transport: BridgeTransport | None = None
        self.up = _Way(path, self._at_bridge)
        self.down = _Way(path, self._at_board)
        path.connections.append(self)

    def knock(self) -> None:
        """The board's first packet has arrived at the bridge."""
        if self.path.cut_until > self.path.schedule.now:
            self.path.schedule.at(self.path.cut_until + self.path.delay(), self.path.actor, self.knock)
            return
        if self.stream.closed or self.up.lost:
            self.forget()
            return
        server = self.door.server
        if server is None or not server.accepting:
            if not self.door.unreachable:
                self._later(self.stream.broken, errno.ECONNREFUSED)
            self.forget()
            return
        protocol = server.factory()
        self.transport = BridgeTransport(self, protocol)
        self.door.transports.append(self.transport)
        self._later(self.stream.connected)
        protocol.connection_made(self.transport)

    def reset(self) -> None:
        """Both ends find the connection broken; what was under way is lost."""
        self.up.drop()
        self.down.drop()
        self.stream.broken(errno.ECONNRESET)
        if self.transport is not None:
            self.transport.lost(ConnectionResetError(errno.ECONNRESET, "connection reset"))
        self.forget()

    def half_open(self, up: bool, down: bool) -> None:
        """From now on nothing arrives in these directions, and nobody is told."""
        self.up.lost = self.up.lost or up
        self.down.lost = self.down.lost or down

    def forget(self) -> None:
        if self in self.path.connections:
            self.path.connections.remove(self)

    def reset_board(self) -> None:
        """The bridge's machine knows nothing of this connection (any more): it says so, once."""
        if not self.down.lost and self.path.cut_until <= self.path.schedule.now:
            self._later(self.stream.broken, errno.ECONNRESET)

    def _later(self, callback: Callable[..., None], *args: Any) -> None:
        schedule = self.path.schedule
        schedule.at(schedule.now + self.path.delay(), self.path.actor, callback, *args)

    def _at_bridge(self, data: bytes) -> None:
        transport = self.transport
        if transport is None or transport.closed:
            if data and not self.door.unreachable:
                self.reset_board()
            return
        transport.received(data)

    def _at_board(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.drained()
        if not self.stream.received(data) and self.transport is not None and data and not self.up.lost:
            # Nobody has this connection open on the board: its TCP says so.
            gone = ConnectionResetError(errno.ECONNRESET, "connection reset")
            self._later(self.transport.lost, gone)


class BoardStream:
    """The board's end, a stream of ports/README.md. `wake()` tells that `events` has changed.

    `clock()` is the board's own idea of now, which is later than the schedule's while its flash is slow.
    """

    def __init__(self, wake: Callable[[], None], clock: Callable[[], int]) -> None:
        self.events = 0
        self.closed = False
        self.dead = False  # its board lost its power: there is nobody to say anything
        self.connection: Connection | None = None
        self._wake = wake
        self._clock = clock
        self._data = bytearray()
        self._end = False
        self._error = 0

    def readinto(self, buf: bytearray | memoryview, n: int = -1) -> int | None:
        self._check()
        data = self._data
        if not data:
            return 0 if self._end else None
        count = min(len(data), len(buf) if n < 0 else n)
        buf[:count] = data[:count]
        del data[:count]
        if not data and not self._end:
            self.events &= ~READ
        return count

    def write(self, buf: bytes | bytearray | memoryview, off: int, n: int) -> int | None:
        self._check()
        connection = self.connection
        if connection is None or not self.events & WRITE:
            return None
        count = min(n, KERNEL_SIZE - connection.up.size)
        if count <= 0:
            self.events &= ~WRITE
            return None
        connection.up.send(bytes(memoryview(buf)[off : off + count]), self._clock())
        return count

    def close(self) -> None:
        if self.closed:
            raise RuntimeError("a stream was closed twice")
        self.closed = True
        connection = self.connection
        if connection is not None:
            if not self._error and connection.transport is not None:
                connection.up.send(_FIN, self._clock())
            connection.forget()

    def connected(self) -> None:
        """The connection is made."""
        self.events |= WRITE
        self._wake()

    def broken(self, number: int) -> None:
        """The connection failed."""
        if not self.closed:
            self._error = number
            self.events = READ | WRITE
            self._wake()

    def received(self, data: bytes) -> bool:
        """-> whether somebody is there to read it."""
        if self.dead:
            return True
        if self.closed or self._error:
            return False
        self._data += data
        self._end = self._end or not data
        self.events |= READ
        self._wake()
        return True

    def room(self) -> None:
        """What was sent has arrived."""
        if not self.events & WRITE and self.connection is not None and self.connection.transport is not None:
            self.connected()

    def _check(self) -> None:
        if self._error:
            raise OSError(self._error, errno.errorcode[self._error])


class BridgeTransport(asyncio.Transport):
    """The bridge's end, an asyncio transport."""

    def __init__(self, connection: Connection, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.closed = False
        self._connection = connection
        self._protocol = protocol
        self._high = 65536
        self._low = 16384
        self._paused = False  # the protocol was asked to write no more
        self._held: deque[bytes] | None = None  # what arrives while the protocol reads nothing

    # -- what the protocol calls -------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return (f"board-{self._connection.path.actor}", 0) if name == "peername" else default

    def is_closing(self) -> bool:
        return self.closed

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = high or 0
        self._low = low or 0

    def get_write_buffer_size(self) -> int:
        return max(0, self._connection.down.size - KERNEL_SIZE)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.closed:
            return
        self._connection.down.send(bytes(data), self._connection.path.schedule.now)
        if not self._paused and self.get_write_buffer_size() > self._high:
            self._paused = True
            self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self.closed:
            self._connection.down.send(_FIN, self._connection.path.schedule.now)

    def close(self) -> None:
        if not self.closed:
            self.write_eof()
            self._closed(None)

    def abort(self) -> None:
        if not self.closed:
            self._connection.down.drop()
            self._connection.reset_board()
            self._closed(None)

    def pause_reading(self) -> None:
        self._held = deque() if self._held is None else self._held

    def resume_reading(self) -> None:
        held, self._held = self._held or (), None
        for data in held:
            self.received(data)

    # -- what the network calls --------------------------------------------------------------

    def received(self, data: bytes) -> None:
        if self._held is not None:
            self._held.append(data)
        elif not self.closed and data:
            self._connection.stream.room()
            self._protocol.data_received(data)
        elif not self.closed:
            self._protocol.eof_received()
            self.close()

    def drained(self) -> None:
        if self._paused and not self.closed and self.get_write_buffer_size() <= self._low:
            self._paused = False
            self._protocol.resume_writing()

    def lost(self, error: Exception | None) -> None:
        """The connection is broken."""
        if not self.closed:
            self._closed(error)

    def _closed(self, error: Exception | None) -> None:
        self.closed = True
        self._connection.door.transports.remove(self)
        self._connection.forget()
        asyncio.get_running_loop().call_soon(self._protocol.connection_lost, error)


class Door:
    """Where the bridge listens, in the place of its socket. `server` is None while no bridge runs."""

    def __init__(self) -> None:
        self.server: VirtualServer | None = None
        self.unreachable = False  # the bridge's machine is down: nobody says that nobody listens
        self.transports: list[BridgeTransport] = []
        self.family = socket.AF_INET

    def getsockname(self) -> tuple[str, int]:
        return "bridge", 10000

    def opened(self, transport: asyncio.BaseTransport) -> None:
        """What `cloud_bridge.gate.Gate` counts handshakes by."""

    def dial(self, path: Path, stream: BoardStream, now: int) -> None:
        """Begin to connect `stream` over `path`."""
        stream.connection = connection = Connection(path, self, stream)
        path.schedule.at(now + path.delay(), path.actor, connection.knock)

    def power_off(self, power: bool) -> None:
        """The process of the bridge is gone, and with `power` its machine."""
        self.server = None
        self.unreachable = power
        for transport in list(self.transports):
            connection = transport._connection
            connection.down.drop()
            if not power:
                connection.reset_board()
            transport.lost(ConnectionResetError(errno.ECONNRESET, "the bridge is gone"))
