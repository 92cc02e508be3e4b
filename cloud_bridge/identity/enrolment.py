"""Where boards get their first certificate: KubeEdge's two requests, over TLS without a client certificate.

``GET /ca.crt`` gives the CA in DER to anyone. ``GET`` or ``POST /edge.crt`` with the headers
``Authorization: Bearer <JWT>`` and ``NodeName``, and a PKCS #10 request in DER for a body, gives the
certificate in DER. This is the one place that talks to strangers, so it speaks as little HTTP (RFC 9112)
as that takes: one request a connection, a small one, soon; no chunks, no pipelining, no keep-alive.
"""

import asyncio
import ssl
from dataclasses import dataclass
from http import HTTPStatus

from cloud_bridge import gate
from cloud_bridge.backends.base import BackendError
from cloud_bridge.identity.authority import REQUEST_SIZE_MAX
from cloud_bridge.identity.identity import Identity
from cloud_bridge.identity.tokens import TokenError
from cloud_bridge.logs import Log
from cloud_bridge.peer import RequestError

CONNECTIONS_MAX = 64
"""Connections with their handshake done."""
HANDSHAKE_SECONDS = 30.0
"""A chip takes seconds for TLS."""
REQUEST_SECONDS = 10.0
"""From the end of the handshake to the end of the answer, however slowly either side writes."""
HEAD_SIZE_MAX = 4096
"""Bytes of the request line and the headers."""
CA_PATH = "/ca.crt"
CERTIFICATE_PATH = "/edge.crt"
_HEAD_END = b"\r\n\r\n"

_log = Log("enrolment")


class HttpError(Exception):
    """What is wrong with a request."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Head:
    """A request without its body; names of headers in lower case."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def body_size(self) -> int:
        """Raises HttpError when it is not said in a way that is understood here."""
        text = self.headers.get("content-length", "0")
        if "transfer-encoding" in self.headers or not (text.isascii() and text.isdigit()) or len(text) > 9:
            raise HttpError(HTTPStatus.LENGTH_REQUIRED, "Content-Length is needed")
        if int(text) > REQUEST_SIZE_MAX:
            raise HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {REQUEST_SIZE_MAX} bytes")
        return int(text)


def parse_head(data: bytes) -> Head:
    """The head of a request, which ends with an empty line. Raises HttpError."""
    try:
        line, *lines = data.decode("ascii").removesuffix("\r\n\r\n").split("\r\n")
        method, path, version = line.split(" ")
        pairs = [each.split(":", 1) for each in lines]
        headers = {name.lower(): value.strip() for name, value in pairs}
    except ValueError as error:
        raise HttpError(HTTPStatus.BAD_REQUEST, "not HTTP") from error
    if not version.startswith("HTTP/1.") or len(headers) != len(pairs):
        raise HttpError(HTTPStatus.BAD_REQUEST, "not HTTP/1.1 with each header once")
    return Head(method, path, headers)


class _Protocol(asyncio.StreamReaderProtocol):
    """Tells the gate when the handshake is over."""

    door: gate.Gate

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.door.opened(transport)
        super().connection_made(transport)


class Enrolment:
    """The server: `start` listens, `stop` ends it."""

    def __init__(self, identity: Identity, context: ssl.SSLContext) -> None:
        self._identity = identity
        self._context = context
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; -> the port, for one that was 0. Raises OSError."""
        door = gate.listen(host, port)
        loop = asyncio.get_running_loop()

        def protocol() -> _Protocol:
            made = _Protocol(asyncio.StreamReader(HEAD_SIZE_MAX, loop), self._serve, loop)
            made.door = door
            return made

        self._server = await loop.create_server(
            protocol, sock=door, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_SECONDS
        )
        bound: int = door.getsockname()[1]
        _log.info("boards may join", host=host, port=bound)
        return bound

    async def stop(self) -> None:
        """Listen no more and drop who is connected."""
        if self._server is not None:
            self._server.close()
            serving = [task for task in self._open.values() if task is not None]
            for writer in self._open:
                writer.transport.abort()
            if serving:
                await asyncio.wait(serving)
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        if len(self._open) >= CONNECTIONS_MAX:
            _log.warning("connection refused, there are too many", peer=peer, limit=CONNECTIONS_MAX)
            writer.transport.abort()
            return
        self._open[writer] = asyncio.current_task()
        say = _log.warning
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                writer.write(await self._answer(reader, peer))
                await writer.drain()
                say = _log.debug  # who has his answer may be gone
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            say("connection dropped", peer=peer, error=repr(error))
        finally:
            writer.transport.abort()
            del self._open[writer]

    async def _answer(self, reader: asyncio.StreamReader, peer: object) -> bytes:
        try:
            try:
                head = parse_head(await reader.readuntil(_HEAD_END))
            except asyncio.LimitOverrunError as error:
                raise HttpError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers too long") from error
            body = await reader.readexactly(head.body_size)
            return _response(HTTPStatus.OK, await self._content(head, body, peer))
        except HttpError as error:
            _log.warning("request refused", peer=peer, status=int(error.status), error=error)
            return _response(error.status, f"{error}\n".encode())

    async def _content(self, head: Head, body: bytes, peer: object) -> bytes:
        if head.path == CA_PATH and head.method == "GET":
            return self._identity.authority.der
        if head.path == CERTIFICATE_PATH and head.method in ("GET", "POST"):
            return await self._certificate(head, body, peer)
        if head.path in (CA_PATH, CERTIFICATE_PATH):
            raise HttpError(HTTPStatus.METHOD_NOT_ALLOWED, "no such method")
        raise HttpError(HTTPStatus.NOT_FOUND, "no such path")

    async def _certificate(self, head: Head, body: bytes, address: object) -> bytes:
        node = head.headers.get("nodename", "")
        scheme, _, jwt = head.headers.get("authorization", "").partition(" ")
        try:
            if scheme != "Bearer":
                raise TokenError("no token")
            peer, certificate = await self._identity.enrol(jwt, node, body)
        except TokenError as error:
            # Which of its checks a token failed is for the log: who tries tokens learns nothing.
            _log.warning("token refused", peer=address, node=node, error=error)
            raise HttpError(HTTPStatus.UNAUTHORIZED, "the token is not good") from error
        except RequestError as error:
            raise HttpError(HTTPStatus.BAD_REQUEST, str(error)) from error
        except BackendError as error:
            _log.error("board not enrolled, it may try again", node=node, error=error)
            raise HttpError(HTTPStatus.SERVICE_UNAVAILABLE, "try again later") from error
        _log.info("board enrolled", node=node, serial=peer.serial, peer=address)
        return certificate


def _response(status: HTTPStatus, content: bytes) -> bytes:
    kind = "application/octet-stream" if status == HTTPStatus.OK else "text/plain"
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\n"
    head += f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    return head.encode() + content
