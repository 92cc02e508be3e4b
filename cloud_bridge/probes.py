"""What a cluster and its monitoring ask the bridge over HTTP: /healthz, /readyz, /metrics.

websockets' server answers, which the bridge has anyway: it bounds the size of a request and the time for
it, and hands every request that is no WebSocket to `process_request`.
"""

from collections.abc import Callable
from http import HTTPStatus

from prometheus_client import REGISTRY, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from cloud_bridge.logs import Log

REQUEST_SECONDS = 5.0
"""For a whole request and its answer."""

_log = Log("probes")


class Probes:
    """Serves on an address of its own; `unready()` says why the bridge is not ready, None when it is."""

    def __init__(self, unready: Callable[[], str | None]) -> None:
        self._unready = unready
        self._server: Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; -> the port, for one that was 0. Raises OSError."""
        self._server = await serve(
            self._no_websocket,
            host,
            port,
            process_request=self._answer,
            open_timeout=REQUEST_SECONDS,
            close_timeout=REQUEST_SECONDS,
            server_header=None,
        )
        bound: int = self._server.sockets[0].getsockname()[1]
        _log.info("serves probes", host=host, port=bound)
        return bound

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def _answer(self, connection: ServerConnection, request: Request) -> Response:
        path = request.path.partition("?")[0]
        if path == "/metrics":
            response = connection.respond(HTTPStatus.OK, generate_latest(REGISTRY).decode())
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = CONTENT_TYPE_PLAIN_0_0_4
            return response
        if path == "/healthz":  # that this runs is the answer
            return connection.respond(HTTPStatus.OK, "ok\n")
        if path == "/readyz":
            why = self._unready()
            return connection.respond(
                HTTPStatus.SERVICE_UNAVAILABLE if why else HTTPStatus.OK, f"{why or 'ok'}\n"
            )
        return connection.respond(HTTPStatus.NOT_FOUND, "try /healthz, /readyz or /metrics\n")

    async def _no_websocket(self, connection: ServerConnection) -> None:
        raise AssertionError("every request is answered before it gets here")
