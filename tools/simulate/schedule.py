"""Virtual time: what happens next, and when. Nothing waits; the clock jumps from one event to the next."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

MS = 1000  # microseconds
SECOND = 1_000_000
MINUTE = 60 * SECOND
SHARED = -1
"""The actor of what belongs to no board."""


class Schedule:
    """Events by time. `now` is microseconds since the start.

    Events of the same moment run in the order of their `actor` (the number of a board), then of their making:
    what a set of connections did in the order of their addresses in memory has the same order always.
    """

    def __init__(self) -> None:
        self.now = 0
        self.failure: Exception | None = None
        """Raised at the next step: what was found where nothing may be raised."""
        self._heap: list[tuple[int, int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._made = 0

    def at(self, time: int, actor: int, callback: Callable[..., None], *args: Any) -> None:
        """Have `callback(*args)` called at `time`, or now if that is over."""
        self._made += 1
        heapq.heappush(self._heap, (max(time, self.now), actor, self._made, callback, args))

    def step(self, until: int | None) -> bool:
        """Run the next event, if it is not after `until`; else it is `until` now, and the result False.

        RuntimeError when there is neither an event nor an `until`: everybody waits for somebody else.
        """
        if self.failure is not None:
            raise self.failure
        if self._heap and (until is None or self._heap[0][0] <= until):
            self.now, _, _, callback, args = heapq.heappop(self._heap)
            callback(*args)
            return True
        if until is None:
            raise RuntimeError("nothing will ever happen again")
        self.now = max(self.now, until)
        return False
