"""One bridge after the other: CloudHub and the controllers put together as `motelet bridge` does it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, cast

from cloud_bridge.cloudhub.server import CloudHub
from cloud_bridge.controllers import Controllers
from cloud_bridge.devicecontroller.controller import DeviceController
from cloud_bridge.edgecontroller.controller import EdgeController
from cloud_bridge.gate import Gate
from motelet.tools.simulate.board import EPOCH_MS
from motelet.tools.simulate.cloud import Cloud, View
from motelet.tools.simulate.network import Door
from motelet.tools.simulate.schedule import MS, SECOND, SHARED


class Bridge:
    """The bridge's machine; it runs from `start` to a `stop`, which is one of three kinds."""

    def __init__(self, cloud: Cloud, door: Door, rng: random.Random, say: Callable[[str, str], None]) -> None:
        self.hub: CloudHub | None = None
        self.time_ms = 0  # what its clock is wrong by
        self.starts = 0
        self._cloud = cloud
        self._door = door
        self._rng = rng
        self._say = say
        self._view: View | None = None
        self._devices: Any = None
        self._pods: Any = None
        self._tasks: list[asyncio.Task[Any]] = []
        self._changing = False

    async def start(self, late: bool = False) -> None:
        """Start the process."""
        self.starts += 1
        self._view = View(self._cloud, late)
        await self._view.start()
        self._devices, self._pods = DeviceController(self._view), EdgeController(self._view)
        self._devices.start()
        self._pods.start()
        controller = Controllers(self._devices, self._pods)
        self.hub = CloudHub(controller, self._view.nodes, None, clock=self.epoch_ms)
        self._door.unreachable = False
        await self.hub.listen(cast(Gate, self._door))
        self._tasks = [asyncio.create_task(part.run()) for part in (self._devices, self._pods, self.hub)]

    def epoch_ms(self) -> int:
        """Its idea of the time."""
        return EPOCH_MS + self._cloud.schedule.now // MS + self.time_ms

    def restart(self, how: str, late: bool) -> None:
        """Have it stop now and start again after a while. Nothing when it is about to do so already.

        how: "gracefully", "killed" (its machine closes the connections), "unplugged" (nobody does).
        """
        if not self._changing:
            self._changing = True
            schedule = self._cloud.schedule
            asyncio.get_running_loop().call_soon(self._begin, how, late, self._rng.randrange(20 * SECOND))
            schedule.at(schedule.now, SHARED, lambda: None)

    def _begin(self, how: str, late: bool, pause: int) -> None:
        self._restarting = asyncio.create_task(self._restart(how, late, pause))

    async def _restart(self, how: str, late: bool, pause: int) -> None:
        assert self._view is not None and self.hub is not None
        self._say("bridge", f"stops, {how}")
        tasks, self._tasks = self._tasks, []
        if how == "gracefully":
            for task in tasks:
                task.cancel()
            await self.hub.stop()
            await self._devices.flush()
            await self._pods.flush()
            self._door.server = None
            await self._view.stop()
        else:
            self._view.die()
            self._door.power_off(how == "unplugged")
            for task in tasks:
                task.cancel()
        await asyncio.wait(tasks)
        await asyncio.sleep(pause / SECOND)
        self._say("bridge", f"starts{', with a part of the objects' if late else ''}")
        await self.start(late)
        self._changing = False

    def end(self) -> None:
        """The simulation is over."""
        if self._view is not None:
            self._view.die()
        self._door.power_off(True)
