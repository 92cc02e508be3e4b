"""Virtual time: what happens next, and when. Nothing waits; the clock jumps from one event to the next."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from heapq import heappop, heappush
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
        """Raised before the next event: what was found where nothing may be raised."""
        self._heap: list[tuple[int, int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._made = 0

    def at(self, time: int, actor: int, callback: Callable[..., None], *args: Any) -> None:
        """Have `callback(*args)` called at `time`, or now if that is over."""
        self._made += 1
        heappush(self._heap, (time if time > self.now else self.now, actor, self._made, callback, args))

    def run(self, until: int | None, ready: Collection[object]) -> None:
        """Run events until something is `ready`, or none is left before `until`: then it is `until` now.

        RuntimeError when there is neither an event nor an `until`: everybody waits for somebody else.
        """
        heap = self._heap
        end = sys.maxsize if until is None else until
        while not ready:
            if self.failure is not None:
                raise self.failure
            if not heap or heap[0][0] > end:
                if until is None:
                    raise RuntimeError("nothing will ever happen again")
                self.now = max(self.now, until)
                return
            self.now, _, _, callback, args = heappop(heap)
            callback(*args)
