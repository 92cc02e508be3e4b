"""asyncio on virtual time: an event loop whose clock is the schedule's, and whose waiting advances it.

Coroutines of the bridge run as they do anywhere. Instead of sleeping in a selector the loop runs the
schedule until one of them has something to do. There are no sockets: `create_server` only keeps what makes
protocols, for the network of the simulation to call.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, cast

from motelet.tools.simulate.schedule import SECOND, Schedule


class VirtualServer:
    """What `create_server` gives: asyncio.Server as far as websockets uses it."""

    def __init__(self, loop: VirtualLoop, factory: Callable[[], asyncio.Protocol], door: Any) -> None:
        self.accepting = True
        self.factory = factory
        self.sockets = [door]
        self._loop = loop

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def is_serving(self) -> bool:
        return self.accepting

    def close(self) -> None:
        self.accepting = False

    async def wait_closed(self) -> None:
        """Connections end by themselves; websockets waits for their handlers."""


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop over `schedule`."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self._schedule = schedule
        self._selector = self  # BaseEventLoop waits in `_selector.select`

    def time(self) -> float:
        """Virtual seconds."""
        return self._schedule.now / SECOND

    def select(self, timeout: float | None) -> tuple[()]:
        """Run the schedule until a callback of asyncio is ready, at most `timeout` seconds."""
        schedule = self._schedule
        until = None if timeout is None else schedule.now + math.ceil(timeout * SECOND)
        schedule.run(until, cast(Any, self)._ready)
        return ()

    def _process_events(self, event_list: tuple[()]) -> None:
        """There are none: the schedule calls protocols itself."""

    def _write_to_self(self) -> None:
        """Nothing to be woken from: there is one thread."""

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], *_args: Any, sock: Any, **_kwargs: Any
    ) -> VirtualServer:
        """Keep `protocol_factory` in `sock`, the door that the network knocks at."""
        server = VirtualServer(self, protocol_factory, sock)
        sock.server = server
        return server
