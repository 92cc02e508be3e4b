"""CloudHub and DeviceController on a free port, in front of a backend in memory."""

import asyncio

from board_client import BoardClient
from memory_backend import MemoryBackend, device, model

from cloud_bridge.cloudhub.server import CloudHub
from cloud_bridge.devicecontroller.controller import DeviceController
from motelet import protocol as p
from motelet.tools.load.board import SimulatedBoard


class Bridge:
    """The whole but for its backend; without a `context` it is plain, so that a test may be any node."""

    def __init__(self, context=None, guard=None, others=()):
        self.backend = MemoryBackend()
        self.backend.put(model(), device(), *others)
        self.controller = DeviceController(self.backend)
        self.controller.start()
        self.guard = guard
        self.hub = CloudHub(self.controller, self.backend.nodes, context, guard, tell=self.backend.tell)
        self._plain = context is None

    async def __aenter__(self):
        self.port = await self.hub.start("localhost", 0)
        self._tasks = [asyncio.create_task(part.run()) for part in (self.controller, self.hub)]
        return self

    async def __aexit__(self, *_):
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self.hub.stop()
        assert all(task.cancelled() for task in self._tasks)

    def board(self, board=None, node="board-1", **options):
        path = {"path": f"{p.PATH}/{node}"} if self._plain else {}
        return BoardClient(board or SimulatedBoard(), self.port, **path | options)

    def link(self, node="board-1"):
        return self.hub._links[node]
