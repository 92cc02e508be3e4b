"""How many writes a second the API server is asked for: as configured, and fewer while it is busy."""

import asyncio

BURST_SECONDS = 1.0
"""What was not used of the budget for so long may be used at once."""


class Budget:
    """Lets through `rate` writes a second, 0 for any number, in the order in which they came."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._next = float("-inf")
        self._turn = asyncio.Lock()

    async def take(self) -> None:
        """Wait for the next write's turn."""
        if not self._rate:
            return
        loop = asyncio.get_running_loop()
        async with self._turn:
            now = loop.time()
            self._next = max(self._next, now - BURST_SECONDS) + 1 / self._rate
            if self._next > now:
                await asyncio.sleep(self._next - now)
