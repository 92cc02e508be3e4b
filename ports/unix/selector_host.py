"""CPython's asyncio hosts the loop, so that applications run beside it in one thread.

An asyncio event loop waits in a selector; here the selector steps motelet's loop before it waits, and
has the descriptor of the loop's poller among its own.
"""

import asyncio
import selectors


class Host:
    """Runs `loop` inside asyncio."""

    def __init__(self, loop):
        self.loop = loop
        self._stopped = None

    def run(self):
        """Run the loop and whatever asyncio tasks there are, until `loop.stop()`.

        Tasks that asyncio still has then are cancelled.
        """
        self.loop.running = True
        with asyncio.Runner(loop_factory=self.event_loop) as runner:
            self._stopped = asyncio.Event()
            runner.run(self._until_stopped())

    def event_loop(self):
        """A new asyncio event loop that steps `loop`, for whoever runs asyncio by himself."""
        return asyncio.SelectorEventLoop(_Selector(self))

    def step(self):
        """Step the loop without waiting.

        Returns ms until it is due: 0 when it may have more to do, -1 when nothing is armed.
        """
        if self.loop.step(0):
            return 0  # what ran may have readied a task of asyncio, or have left bytes inside TLS
        if not self.loop.running and self._stopped is not None and not self._stopped.is_set():
            self._stopped.set()
            return 0
        return self.loop.due()

    async def _until_stopped(self):
        await self._stopped.wait()


class _Selector(selectors.DefaultSelector):
    def __init__(self, host):
        super().__init__()
        self._host = host
        self._own = self.register(host.loop.poller.fileno(), selectors.EVENT_READ)

    def select(self, timeout=None):
        due = self._host.step()
        if due >= 0 and (timeout is None or due / 1000 < timeout):
            timeout = due / 1000
        return [pair for pair in super().select(timeout) if pair[0] is not self._own]
