"""A whole bridge on the stand-in for CloudCore, in one process, and boards that connect to it."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from board_client import BoardClient, until
from cloudhub_peer import CloudHubPeer
from memory_backend import device, model

from cloud_bridge.backends.cloudcore.access import Access, PlainAccess
from cloud_bridge.backends.cloudcore.backend import CloudCore
from cloud_bridge.cloudhub.server import CloudHub
from cloud_bridge.controllers import Controllers
from cloud_bridge.devicecontroller.controller import DeviceController
from cloud_bridge.edgecontroller.controller import EdgeController
from cloud_bridge.router import Router
from motelet import protocol
from motelet.tools.load.board import SimulatedBoard

NODE = "board-1"
LAMP = "default/device/lamp"
SCALE = 0.05
"""Of the stand-in's times: it sends again after 0.25 s, and waits 1.5 s for a keepalive."""


class Bridge:
    """A bridge in `folder`, from `start` to `stop`; `kill` is a stop that finishes nothing."""

    def __init__(self, folder: Path, url: str, access: Access | None = None) -> None:
        self.backend = CloudCore(url, folder, access or PlainAccess())
        self._tasks: list[asyncio.Task[Any]] = []

    async def start(self) -> None:
        await self.backend.start()
        self.devices, self.pods = DeviceController(self.backend), EdgeController(self.backend)
        self.devices.start()
        self.pods.start()
        router = Router(Controllers(self.devices, self.pods), self.backend)
        router.start()
        self.hub = CloudHub(router, self.backend.nodes, None)
        self.backend.publish_by(self.hub.publish)
        self.port = await self.hub.start("localhost", 0)
        parts = (self.backend, self.devices, self.pods, self.hub)
        self._tasks = [asyncio.create_task(part.run()) for part in parts]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self.hub.stop()
        await self.devices.flush()
        await self.pods.flush()
        await self.backend.stop()

    def board(self, board: SimulatedBoard, node: str = NODE) -> BoardClient:
        return BoardClient(board, self.port, path=f"{protocol.PATH}/{node}")


class World:
    """The stand-in and a bridge on it, as a context manager."""

    def __init__(self, folder: Path, scale: float = SCALE, **options: Any) -> None:
        self.folder = folder
        self.peer = CloudHubPeer(scale, **options)

    async def __aenter__(self) -> "World":
        self.port = await self.peer.start()
        self.bridge = await self.start_bridge()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.bridge.stop()
        await self.peer.stop()

    async def start_bridge(self, folder: Path | None = None) -> Bridge:
        bridge = Bridge(folder or self.folder, f"ws://127.0.0.1:{self.port}")
        await bridge.start()
        return bridge

    def lamp(self) -> None:
        """A lamp and its model are made in the cluster."""
        self.peer.apply(model())
        self.peer.apply(device())

    def sent(self, operation: str = "", resource: str = "") -> list[dict[str, Any]]:
        return _found(self.peer.sent, operation, resource)

    def received(self, operation: str = "", resource: str = "") -> list[dict[str, Any]]:
        return _found(self.peer.received, operation, resource)

    async def until(self, condition: Callable[[], Any]) -> None:
        await until(condition)


def _found(log: list[tuple[str, dict[str, Any]]], operation: str, resource: str) -> list[dict[str, Any]]:
    return [
        message
        for _, message in log
        if operation in ("", message["route"]["operation"])
        and resource in message["route"].get("resource", "")
    ]
