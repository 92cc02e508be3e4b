"""A `SimulatedBoard` on a real WebSocket connection, plain or with TLS."""

import asyncio
import ssl
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect

from motelet import protocol
from motelet.tools.load.board import BridgeError, SimulatedBoard


class BoardClient:
    """Connects `board` to the bridge on `port`; as a context manager it says hello and closes in the end.

    `options` go to `websockets.connect`. Raises what that does, and what `carry` does.
    """

    def __init__(
        self,
        board: SimulatedBoard,
        port: int,
        context: ssl.SSLContext | None = None,
        path: str = protocol.PATH,
        host: str = "localhost",
        **options: Any,
    ) -> None:
        self.board = board
        self.socket: ClientConnection
        self._sending = asyncio.Lock()
        scheme = "ws" if context is None else "wss"
        self._connecting = {
            "uri": f"{scheme}://{host}:{port}{path}",
            "subprotocols": [protocol.SUBPROTOCOL],
            "compression": None,
            "ping_interval": None,
            "proxy": None,
            **({"ssl": context} if context else {}),
            **options,
        }

    async def __aenter__(self) -> Self:
        self.board.power_cut()
        self.socket = await connect(**self._connecting)
        self.board.hello()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.socket.close()

    async def flush(self) -> None:
        """Send what the board has to say, in its order whoever else does so too."""
        async with self._sending:
            for data in self.board.take_out():
                await self.socket.send(data)

    async def carry(self) -> None:
        """Carry messages both ways until the connection ends. Raises BridgeError, ConnectionClosed."""
        await self.flush()
        while True:
            self.receive(await self.socket.recv())
            await self.flush()

    def receive(self, data: str | bytes) -> None:
        """Give the board a message. Raises BridgeError."""
        if isinstance(data, str):
            raise BridgeError("the bridge sent a text message")
        self.board.receive(data)
