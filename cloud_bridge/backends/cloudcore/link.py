"""The shell around one node's session: a WebSocket connection to CloudHub, made again when it is lost.

It carries bytes and time, waits for the disk, and decides nothing but when to connect again. A second
connection of a node ends the first, in CloudHub; so a node has one `Link`, and this bridge one for it.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from typing import Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from cloud_bridge.backends.base import BackendError
from cloud_bridge.backends.cloudcore.access import Access
from cloud_bridge.backends.cloudcore.message import MESSAGE_SIZE_MAX, Message, MessageError
from cloud_bridge.backends.cloudcore.session import Arrived, Session
from cloud_bridge.logs import Log
from cloud_bridge.opened import forget_opening

PROJECT = "e632aba927ea4ac2b575ec1603d56f10"
"""KubeEdge's default project; CloudHub only passes it on."""
OPEN_SECONDS = 30.0
CLOSE_SECONDS = 2.0
PING_SECONDS = 20.0
"""CloudHub says nothing of itself; its answer to a ping tells that it is still there."""
RETRY_SECONDS_MIN = 1.0
RETRY_SECONDS_MAX = 30.0
"""From losing a connection to the next: doubling from the one to the other, each time a random part of it."""
GOOD_SECONDS = 30.0
"""How long a connection has to last for the next loss to count as the first."""
QUEUE_MAX = 8
"""Messages received and not yet looked at."""
WRITE_BYTES_MAX = 16384

_log = Log("cloudcore")


class Node(Protocol):
    """What a link carries messages for."""

    name: str

    def begin(self, session: Session, failed: Callable[[str], None]) -> None:
        """A connection is open, and this is its session; `failed(reason)` closes it."""

    def tick(self) -> float:
        """Do what is due; -> seconds until something is due again."""

    async def keep(self, message: Message) -> None:
        """Keep an object durably. Raises BackendError when that is not possible now."""

    def receive(self, message: Message) -> None:
        """Take a message that needs no acknowledgement."""

    def end(self, session: Session) -> None:
        """The connection of this session is gone."""


class Link:
    """Keeps a connection for `node` while `run` runs."""

    def __init__(self, url: str, node: Node, access: Access) -> None:
        self._url = f"{url}/{PROJECT}/{node.name}/events"
        self._node = node
        self._access = access
        self._session: Session | None = None
        self._kicked = asyncio.Event()
        self._storing: set[asyncio.Task[None]] = set()
        self.error = ""
        """Why there is no connection."""

    async def run(self) -> None:
        """Connect, carry messages, and connect again, until cancelled."""
        wait = RETRY_SECONDS_MIN
        while True:
            began = time.monotonic()
            error = self.error = await self._connection()
            if time.monotonic() - began > GOOD_SECONDS:
                wait = RETRY_SECONDS_MIN
            pause = wait * random.uniform(0.5, 1.5)
            _log.warning(
                "no session with CloudHub", node=self._node.name, error=error, again=f"{pause:.1f} s"
            )
            await asyncio.sleep(pause)
            wait = min(wait * 2, RETRY_SECONDS_MAX)

    def kick(self) -> None:
        """There may be something to send."""
        self._kicked.set()

    def reconnect(self) -> None:
        """End the connection for a new one."""
        if self._session is not None:
            self._fail("reconnecting, the certificate is new")

    async def _connection(self) -> str:
        """One connection from beginning to end; -> why it ended."""
        headers = {"node_id": self._node.name, "project_id": PROJECT, "ConnectionUse": "msg"}
        try:
            socket = await connect(
                self._url,
                ssl=await self._access.context(self._node.name),
                additional_headers=headers,
                user_agent_header=None,
                compression=None,
                proxy=None,
                open_timeout=OPEN_SECONDS,
                close_timeout=CLOSE_SECONDS,
                ping_interval=PING_SECONDS,
                ping_timeout=PING_SECONDS,
                max_size=MESSAGE_SIZE_MAX,
                max_queue=QUEUE_MAX,
                write_limit=WRITE_BYTES_MAX,
            )
            forget_opening(socket)
            try:
                return await self._serve(socket)
            finally:
                await socket.close()
        except (OSError, WebSocketException, TimeoutError, BackendError) as error:
            return str(error) or type(error).__name__

    async def _serve(self, socket: ClientConnection) -> str:
        self.error = "CloudHub does not answer"
        session = self._session = Session(time.monotonic, lambda: time.time_ns() // 1_000_000)
        _log.info("connected to CloudHub", node=self._node.name)
        self._node.begin(session, self._fail)
        sender = asyncio.create_task(self._send(socket, session))
        try:
            async for text in socket:
                self._take(session, text)
                if session.failed:
                    break
            return session.failed or "closed by CloudHub"
        finally:
            self._session = None
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError, WebSocketException):
                await sender
            session.end()
            self._node.end(session)

    async def _send(self, socket: ClientConnection, session: Session) -> None:
        """Send what there is to send, and do what is due, while the connection lasts."""
        while not session.failed:
            self._kicked.clear()
            due = min(self._node.tick(), session.tick())
            while (text := session.data_to_send()) is not None:
                await socket.send(text)
            if session.failed:
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(due):
                    await self._kicked.wait()
        await socket.close()

    def _take(self, session: Session, text: str | bytes) -> None:
        try:
            outputs = session.receive(text)
        except MessageError as error:
            _log.error("message of CloudCore cannot be read", node=self._node.name, error=error)
            return
        for output in outputs:
            if isinstance(output, Arrived):
                task = asyncio.create_task(self._keep(session, output.message))
                self._storing.add(task)
                task.add_done_callback(self._storing.discard)
            else:
                self._node.receive(output.message)
        self.kick()

    async def _keep(self, session: Session, message: Message) -> None:
        try:
            await self._node.keep(message)
        except BackendError as error:
            _log.error("cannot keep what CloudCore sent", resource=message.resource, error=error)
            session.give_up(message)
            return
        session.acknowledge(message)
        self.kick()

    def _fail(self, reason: str) -> None:
        if self._session is not None:
            self._session.failed = self._session.failed or reason
            self.kick()
