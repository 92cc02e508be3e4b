"""The shell around `session`: a WebSocket server with TLS that carries its bytes, and nothing else.

Who a board is comes from its certificate, never from what it says. A node has one session; a newer
connection takes it over. Everything that a peer could make grow has a limit: connections, the size
and number of messages waiting either way, the time for opening and closing, and for silence.
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame
from websockets.http11 import Request, Response

from cloud_bridge import gate, metrics
from cloud_bridge.backends.base import NODE, BackendError, Key, Nodes
from cloud_bridge.cloudhub import messages
from cloud_bridge.cloudhub.session import (
    Close,
    Delivered,
    NodeStatus,
    Opened,
    Output,
    Refused,
    Requested,
    Session,
)
from cloud_bridge.cloudhub.tls import certificate_peer
from cloud_bridge.logs import Log
from cloud_bridge.names import is_subdomain
from cloud_bridge.opened import forget_opening
from cloud_bridge.peer import Guard, Peer, RequestError
from cloud_bridge.resources import Controller, PublishError, Refusal
from motelet import protocol

CONNECTIONS_MAX = 1000
"""Boards connected at a time."""
OPEN_SECONDS = 30.0
"""For TLS and for the upgrade, each; a chip takes seconds for TLS."""
CLOSE_SECONDS = 5.0
"""For closing a connection before it is cut."""
SILENCE_SECONDS = protocol.DEAD_MS / 1000
ROOM_SECONDS = 60.0
"""How often a board is offered again what it had no room for."""
SWEEP_SECONDS = 1.0
"""How often it is looked who has been silent for too long, and whose certificate is revoked."""
TIME_SECONDS = 3600.0
"""How often a board is told the time."""
QUEUE_MAX = 4
"""Messages received and not yet looked at, a connection."""
WRITE_BYTES_MAX = 16384
"""Bytes waiting to be written, a connection, beyond which the session waits."""
BYTES_PER_SECOND = 65536
"""What is read of one node; who sends more feels it as a slow link."""
BYTES_BURST = 262144
MESSAGE_COST = 64
"""Bytes that a message counts for besides its own: the small ones cost work too."""
CONTROL_BYTES_MAX = 65536
"""Bytes waiting to be written to who sends pings and reads no pongs, before it is cut off."""
CLOSE_REPLACED = 4003
"""WebSocket close code: the node has connected again."""
CLOSE_CERTIFICATE = 4004
"""WebSocket close code: the certificate counts no more."""
CLOSE_NOT_SERVED = 4005
"""WebSocket close code: this bridge may not serve the node, or not any more; the reason says why."""
CLAIM_SECONDS = 20.0
"""For the backend to let this bridge serve a board that said hello; the board waits 30."""
CLOSE_GOING_AWAY = 1001
LOG_SECONDS = 10.0
"""For a board to answer with a log."""
LOG_PARTS_MAX = 64
"""Messages of one log."""

Tell = Callable[[Key, str, str, bool], None]
"""`Backend.tell`."""

_log = Log("cloudhub")
_queued_up = metrics.queued_messages.labels("up")
_ack_seconds_up = metrics.ack_seconds.labels("up")


def epoch_ms() -> int:
    """The time now, in milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


class _Connection(ServerConnection):
    """A connection that knows when the last whole frame came, of whatever kind."""

    heard = 0.0
    node = ""
    peer: Peer | None = None
    door: gate.Gate

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.door.opened(transport)
        super().connection_made(transport)

    def process_event(self, event: Any) -> None:
        if isinstance(event, Frame):
            self.heard = self.loop.time()
            if self.transport.get_write_buffer_size() > CONTROL_BYTES_MAX:
                metrics.dropped_connections.labels("reads nothing").inc()
                _log.warning("board reads nothing, cut off", node=self.node)
                self.transport.abort()
        super().process_event(event)


class _Link:
    """One connected board: its session, its connection, and the way between them."""

    def __init__(
        self,
        connection: _Connection,
        controller: Controller,
        nodes: Nodes,
        guard: Guard | None,
        clock: Callable[[], int],
    ) -> None:
        self.node = connection.node
        self.peer = connection.peer
        self.connection = connection
        self.session = Session(clock)
        self._clock = clock
        self.told_time = 0.0
        self.told_heard = 0.0
        self.offered = 0.0
        self._controller = controller
        self._nodes = nodes
        self._claiming = self._served = False
        self._guard = guard
        self._allowance = gate.Allowance(BYTES_PER_SECOND, BYTES_BURST, connection.loop.time)
        self._sending = asyncio.Lock()
        self._flusher: asyncio.Task[None] | None = None
        self._to_flush = False
        self._asked: dict[str, tuple[list[str], asyncio.Future[str]]] = {}

    async def serve(self) -> None:
        """Carry messages until the connection closes."""
        self.refresh()
        async for data in self.connection:
            if isinstance(data, str):
                self.session.fail("a text message")
            else:
                metrics.count("up", data)
                for output in self.session.receive(data):
                    if not isinstance(output, Opened) or await self._claim(output.info):
                        await self._take(output)
            # Who does not read the answers to this message is not heard any more.
            await self._flush()
            if owed := self._allowance.owe(len(data) + MESSAGE_COST):
                await asyncio.sleep(owed)

    def check_certificate(self) -> None:
        """End the session when its certificate counts no more; have one renewed that is old enough."""
        if self._guard is None or self.peer is None:
            return
        refusal = self._guard.refusal(self.peer)
        if refusal is not None and self.session.closing is None:
            metrics.dropped_connections.labels("certificate").inc()
            _log.warning("session ended, its certificate counts no more", **_shown(self.peer), error=refusal)
            self.session.end(CLOSE_CERTIFICATE, f"certificate {refusal}")
            self.kick()
        elif self._guard.renewal_due(self.peer) and self.session.renew():
            _log.info("board is to renew its certificate", **_shown(self.peer))
            self.kick()

    def tell_heard(self, now: float) -> None:
        """Tell the backend when the last frame came."""
        heard = self.connection.heard
        if self._served:
            self.told_heard = heard
            at = self._clock() - round((now - heard) * 1000)
            metrics.last_seen.labels(self.node).set(at / 1000)
            self._nodes.heard(self.node, at)

    def offer_again(self, now: float) -> None:
        """Offer the board what it had no room for: it may have made some."""
        self.offered = now
        if self.session.offer_again():
            self.kick()

    def refresh(self) -> None:
        """What the node should hold may have changed."""
        self.session.desire(self._controller.desired(self.node))
        self.kick()

    def kick(self) -> None:
        """There may be something to send."""
        self._to_flush = True
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._kicked())

    async def close(self, close: Close) -> None:
        """Close the connection, which ends `serve`."""
        await self.connection.close(close.code, close.reason.encode()[:120].decode(errors="ignore"))

    async def _claim(self, info: Mapping[str, Any]) -> bool:
        """Have the backend let this bridge serve the board, which gets nothing before; -> whether it does."""
        self._claiming = True
        peer = self.connection.remote_address
        try:
            async with asyncio.timeout(CLAIM_SECONDS):
                await self._nodes.connect(self.node, info, peer[0] if peer else "", self._drop)
                if self._guard is not None and self.peer is not None:
                    await self._guard.connected(self.peer)
        except (BackendError, TimeoutError) as error:
            reason = str(error) or f"the backend did not answer within {CLAIM_SECONDS:.0f} s"
            _log.warning("board cannot be served", node=self.node, error=reason)
            self.session.end(CLOSE_NOT_SERVED, reason)
            return False
        self._claiming, self._served = False, True
        self.refresh()  # now the backend may know more of what the node should hold
        return True

    def _drop(self, reason: str) -> None:
        _log.warning("session ended, the node is not served here any more", node=self.node, error=reason)
        self.session.end(CLOSE_NOT_SERVED, reason)
        self.kick()

    async def _kicked(self) -> None:
        try:
            while self._to_flush:
                self._to_flush = False
                await self._flush()
        except ConnectionClosed:
            return  # `serve` sees it too

    async def _flush(self) -> None:
        async with self._sending:
            while not self._claiming and (data := self.session.data_to_send()) is not None:
                metrics.count("down", data)
                await self.connection.send(data)
        if self.session.closing:
            await self.close(self.session.closing)

    async def _take(self, output: Output) -> None:
        match output:
            case Opened(info):
                said = {key: info[key] for key in ("software", "platform", "boot") if key in info}
                _log.info("board said hello", node=self.node, **said)
                self.check_certificate()
                peer = self.connection.remote_address
                self._controller.opened(self.node, info, peer[0] if peer else "")
            case Requested(request):
                await self._certify(request)
            case messages.Log():
                self._logged(output)
            case NodeStatus(fields):
                metrics.uploads_dropped.labels(self.node).set(fields.get("uploads_dropped", 0))
                self._nodes.status(self.node, fields)
            case Delivered(resource, version):
                _log.info("board holds", node=self.node, resource=resource, version=version or "none")
            case Refused(resource, version, refusal):
                where = {"node": self.node, "resource": resource, "version": version or "none"}
                metrics.refusals.labels("down").inc()
                _log.warning("board refused", **where, code=refusal.code, error=refusal.reason)
                self._controller.refused(self.node, resource, refusal)
            case _:
                self._controller.take(self.node, output, self._settler(output.seq))

    async def log(self, resource: str, lines: int) -> str:
        """The newest `lines` lines of a container's log. TimeoutError when the board does not answer."""
        answer = self._asked.get(resource)
        if answer is None:
            answer = self._asked[resource] = ([], asyncio.get_running_loop().create_future())
            self.session.ask_log(resource, lines)
            self.kick()
        try:
            async with asyncio.timeout(LOG_SECONDS):
                return await asyncio.shield(answer[1])
        finally:
            self._asked.pop(resource, None)

    def _logged(self, part: messages.Log) -> None:
        parts, answer = self._asked.get(part.resource, ([], None))
        if answer is None or answer.done():
            return  # who asked has gone
        parts.append(part.text)
        if not part.more or len(parts) >= LOG_PARTS_MAX:
            answer.set_result("".join(parts))

    async def _certify(self, request: bytes) -> None:
        if self._guard is None:
            return  # never: nobody was told to ask
        try:
            async with asyncio.timeout(CLAIM_SECONDS):
                peer, certificate = await self._guard.renew(self.node, request)
        except RequestError as error:
            self.session.fail(str(error))
            return
        except (BackendError, TimeoutError) as error:
            # The board connects again, and is told again to renew it.
            _log.error("certificate not renewed", node=self.node, error=str(error) or "the backend is silent")
            self.session.end(CLOSE_NOT_SERVED, "the certificate cannot be renewed now")
            return
        _log.info("certificate renewed", **_shown(peer))
        self.session.certify(certificate)

    def _settler(self, seq: int) -> Callable[[Refusal | None], None]:
        begun = time.monotonic()
        _queued_up.inc()

        def settle(refusal: Refusal | None) -> None:
            _queued_up.dec()
            _ack_seconds_up.observe(time.monotonic() - begun)
            if refusal is not None:
                metrics.refusals.labels("up").inc()
                _log.warning("report refused", node=self.node, code=refusal.code, error=refusal.reason)
            self.session.settle(seq, refusal)
            self.kick()

        return settle


class CloudHub:
    """The server: `start` listens, `run` watches over the connections until cancelled, `stop` closes them."""

    def __init__(
        self,
        controller: Controller,
        nodes: Nodes,
        context: ssl.SSLContext | None,
        guard: Guard | None = None,
        clock: Callable[[], int] = epoch_ms,
        tell: Tell | None = None,
    ) -> None:
        """Without a `context` connections are plain and say themselves who they are: for tests only.

        Without a `guard` every certificate counts that the context lets in, and none is renewed. Boards are
        told the time of `clock`, milliseconds since 1970 UTC. `tell` is the backend's, for events on Nodes.
        """
        self._clock = clock
        self._tell = tell
        self._controller = controller
        self._boards = nodes
        self._guard = guard
        self._context = context
        self._links: dict[str, _Link] = {}
        self._known: set[str] = set()
        self._server: Server | None = None
        controller.watch(self._changed)
        metrics.queued_messages.labels("down").set_function(
            lambda: sum(link.session.waiting for link in self._links.values())
        )

    async def start(self, host: str, port: int) -> int:
        """Listen; -> the port, for one that was 0. Raises OSError."""
        bound = await self.listen(gate.listen(host, port, tls=self._context is not None))
        _log.info("listening", host=host, port=bound, tls=self._context is not None)
        return bound

    async def listen(self, listener: gate.Gate) -> int:
        """Serve who comes through `listener`; -> its port."""

        class Connection(_Connection):
            door = listener

        self._server = await serve(
            self._handle,
            sock=listener,
            ssl=self._context,
            ssl_handshake_timeout=OPEN_SECONDS if self._context else None,
            create_connection=Connection,
            process_request=self._admit,
            subprotocols=[protocol.SUBPROTOCOL],  # type: ignore[list-item]
            compression=None,
            origins=[None],  # a browser names one, a board does not
            server_header=None,
            open_timeout=OPEN_SECONDS,
            close_timeout=CLOSE_SECONDS,
            ping_interval=None,  # boards ping, and `run` cuts off who is silent
            max_size=protocol.MESSAGE_SIZE_MAX,
            max_queue=QUEUE_MAX,
            write_limit=WRITE_BYTES_MAX,
        )
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def run(self) -> None:
        """Cut off who is silent or shut out, tell the others the time now and then, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = loop.time()
            if self._guard is not None:
                self._guard.refresh()
            for link in list(self._links.values()):
                if self._guard is not None:
                    link.check_certificate()
                if link.connection.heard > link.told_heard:
                    link.tell_heard(now)
                if now - link.offered >= ROOM_SECONDS:
                    link.offer_again(now)
                if now - link.connection.heard > SILENCE_SECONDS:
                    metrics.dropped_connections.labels("silent").inc()
                    _log.warning("board is silent, cut off", node=link.node, seconds=SILENCE_SECONDS)
                    link.connection.transport.abort()
                elif now - link.told_time > TIME_SECONDS:
                    link.told_time = now
                    link.session.tell_time()
                    link.kick()

    async def stop(self) -> None:
        """Listen no more and close every connection."""
        if self._server is not None:
            self._server.close(code=CLOSE_GOING_AWAY, reason="the bridge stops")
            await self._server.wait_closed()

    async def log(self, node: str, resource: str, lines: int) -> str:
        """The newest `lines` lines of the log of a container, ``<namespace>/pod/<name>/<container>``.

        LookupError when the node is not connected here, TimeoutError when it does not answer.
        """
        link = self._links.get(node)
        if link is None:
            raise LookupError(f"node {node} is not connected")
        return await link.log(resource, lines)

    @property
    def nodes(self) -> list[str]:
        """The nodes that are connected."""
        return sorted(self._links)

    async def publish(self, node: str, topic: str, payload: bytes) -> None:
        """Have a message published on the EventBus of `node`; returns once the board has it in flash.

        Raises PublishError when the node is not connected, refuses, or is lost meanwhile (then it may have
        been published nevertheless), and ValueError for what the link cannot carry.
        """
        link = self._links.get(node)
        if link is None:
            raise PublishError(f"{node} is not connected")
        done: asyncio.Future[Refusal | None] = asyncio.get_running_loop().create_future()

        def settle(refusal: Refusal | None) -> None:
            if not done.done():  # it is when who asked was cancelled
                done.set_result(refusal)

        link.session.publish(topic, payload, settle)
        link.kick()
        refusal = await done
        if refusal is not None:
            raise PublishError(refusal.reason)

    def _changed(self, node: str | None) -> None:
        for link in self._links.values() if node is None else filter(None, [self._links.get(node)]):
            link.refresh()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer an upgrade with an error, or let it happen (None)."""
        path, node, peer = request.path, None, None
        if self._context is None:
            path, _, name = request.path.rpartition("/")
            node = name if is_subdomain(name) else None
        else:
            certificate = connection.transport.get_extra_info("peercert")
            peer = certificate_peer(certificate or {})
            node = peer.node if peer else None
        if path != protocol.PATH:
            return connection.respond(HTTPStatus.NOT_FOUND, "no such path\n")
        if node is None:
            _log.warning("connection refused, it names no node", peer=connection.remote_address)
            return connection.respond(HTTPStatus.FORBIDDEN, "the certificate names no node\n")
        refusal = self._refusal(peer) if peer else None
        if peer is not None and refusal is not None:
            _log.warning("connection refused, its certificate does not count", **_shown(peer), error=refusal)
            return connection.respond(HTTPStatus.FORBIDDEN, f"certificate {refusal}\n")
        if len(self._links) >= CONNECTIONS_MAX and node not in self._links:
            _log.error("too many boards, one was sent away", node=node, limit=CONNECTIONS_MAX)
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "too many boards\n")
        assert isinstance(connection, _Connection)
        connection.node, connection.peer = node, peer
        return None

    def _refusal(self, peer: Peer) -> str | None:
        """Why this certificate does not count; of two boards with one name the newer one's does."""
        link = self._links.get(peer.node)
        if link is not None and link.peer is not None and link.peer.age > peer.age:
            self._two(link.peer, "stays connected", peer)
            return "older than that of the board that is connected"
        if self._guard is None:
            return None
        self._guard.refresh()
        return self._guard.refusal(peer)

    async def _handle(self, connection: ServerConnection) -> None:
        assert isinstance(connection, _Connection)
        node = connection.node
        link = _Link(connection, self._controller, self._boards, self._guard, self._clock)
        forget_opening(connection)
        connection.heard = link.told_time = asyncio.get_running_loop().time()
        self._take_over(link)
        _log.info("board connected", node=node, peer=connection.remote_address)
        try:
            await link.serve()
        except ConnectionClosed as error:
            _log.debug("connection lost", node=node, error=error)
        except Exception as error:
            _log.error("session failed", node=node, error=repr(error))
            raise  # which closes the connection, and only this one
        finally:
            link.session.lost()
            if self._links.get(node) is link:
                self._count(node, None)
                self._controller.closed(node)
                await self._boards.disconnect(node)
            why = {"code": connection.close_code, "error": connection.close_reason or "-"}
            _log.info("board disconnected", node=node, **why)

    def _take_over(self, link: _Link) -> None:
        """Serve the node by `link`; the older one, if there is one, ends and is not held on to."""
        before = self._links.get(link.node)
        self._count(link.node, link)
        if before is None:
            return
        _log.info("board has connected again, the older connection is closed", node=link.node)
        if link.peer and before.peer and link.peer.serial != before.peer.serial:
            self._two(link.peer, "is connected now", before.peer)
        before.session.end(CLOSE_REPLACED, "connected again")
        before.kick()

    def _two(self, newer: Peer, what: str, older: Peer) -> None:
        """Two certificates of one node were used at a time: say which counts, and that it is so."""
        text = (
            f"the board with the newer certificate {newer.serial} {what}, the one with {older.serial} is not"
        )
        _log.warning("two certificates of one node", **_shown(newer), older=older.serial, error=text)
        if self._tell is not None:
            self._tell(Key(NODE, "", newer.node), "TwoCertificates", text, True)

    def _count(self, node: str, link: _Link | None) -> None:
        """The node is connected by `link` now, or not any more."""
        if link is None:
            del self._links[node]
        else:
            self._links[node] = link
            if node in self._known:
                metrics.reconnects.inc()
            self._known.add(node)
            if link.peer is not None:
                metrics.certificate_expiry.labels(node).set(link.peer.not_after)
        metrics.connected_nodes.set(len(self._links))


def _shown(peer: Peer) -> dict[str, object]:
    return {"node": peer.node, "serial": peer.serial}
