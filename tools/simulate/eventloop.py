"""asyncio on virtual time: an event loop whose clock is the schedule's, and whose waiting advances it.

Coroutines of the bridge run as they do anywhere. Instead of sleeping in a selector the loop runs the
schedule until one of them has something to do. There are no sockets: `create_server` only keeps what makes
protocols, for the network of the simulation to call.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Any

from motelet.tools.simulate.schedule import SECOND, SHARED, Schedule


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
        self._ready: deque[asyncio.Handle]

    def time(self) -> float:
        """Virtual seconds."""
        return self._schedule.now / SECOND

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """A timer is an event of the schedule, which has a heap of its own."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._schedule.at(math.ceil(when * SECOND), SHARED, self._ready.append, timer)
        return timer

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.Handle:
        """Without looking whether it may be called, which is looked at outside of simulations."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def _run_once(self) -> None:
        """What BaseEventLoop repeats: run what is ready, after the schedule until something is."""
        ready = self._ready
        if not ready:
            self._schedule.run(None, ready)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()

    def _write_to_self(self) -> None:
        """Nothing to be woken from: there is one thread."""

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], *_args: Any, sock: Any, **_kwargs: Any
    ) -> VirtualServer:
        """Keep `protocol_factory` in `sock`, the door that the network knocks at."""
        server = VirtualServer(self, protocol_factory, sock)
        sock.server = server
        return server
