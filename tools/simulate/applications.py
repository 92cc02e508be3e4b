"""The applications of a board's pods: the runner that Edged has, played, and what each of them does.

An application counts its runs in a value of its own, works for a while, and ends when it has failed, when it
is done, or when it is told to; a few have to be killed.
"""

from __future__ import annotations

import errno
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any
from weakref import ref

from motelet.tools.simulate.ledger import Ledger
from motelet.tools.simulate.schedule import MS, SECOND

if TYPE_CHECKING:
    from motelet.tools.simulate.board import Board

WORK = 200 * SECOND
"""How long an application works, on average."""
STOP_MAX = 3 * SECOND
TERMINATED, KILLED = 143, 137
_RUNS = "runs"


class App:
    """One run of a container."""

    def __init__(self, container: Any) -> None:
        self.container = container


class Applications:
    """The runner of `edged` (see motelet.edged), of one start of `board`."""

    def __init__(self, board: Board, ledger: Ledger, edged: Any, services: Any) -> None:
        self._board = board
        self._ledger = ledger
        self._edged = edged
        self._services = services
        self._running: dict[tuple[str, str], App] = {}

    def start(self, container: Any, _spec: Any) -> None:
        """Have the application run."""
        key = container.pod.uid, container.name
        self._ledger.application(container.pod.resource, container.pod.uid, key in self._running)
        app = App(container)
        self._count(app)
        container.run = self._running[key] = app
        if self._board.busy_users:
            rng = self._board.rng
            self._later(round(rng.expovariate(1) * WORK), app, rng.choice((0, 1, 1)))

    def stop(self, container: Any) -> None:
        """Ask it to end, which most do after a moment."""
        if self._board.rng.random() < 0.85:
            self._later(self._board.rng.randrange(MS, STOP_MAX), container.run, TERMINATED)

    def kill(self, container: Any) -> None:
        """End it."""
        self._finish(container.run, KILLED, "Error")

    def shed(self) -> None:
        """Memory has run out: end one of them."""
        for app in self._running.values():
            self._finish(app, KILLED, "OOMKilled")
            break

    def _count(self, app: App) -> None:
        """Count this run in a value of the pod's own."""
        pod = app.container.pod
        held = _done(self._services.get(app, _RUNS))
        runs = int(held or b"0")
        self._ledger.runs_found(pod.resource, pod.uid, runs)
        try:
            _done(self._services.put(app, _RUNS, b"%d" % (runs + 1)))
        except OSError:
            return  # there is no room, and it was told so, or it does not wait for some
        self._ledger.runs[pod.uid] = runs + 1

    def _later(self, after: int, app: App, code: int) -> None:
        # Weak: the gateway of a board that lost its power is not kept until its applications end.
        schedule = self._board.schedule
        schedule.at(schedule.now + after, self._board.number, _end, ref(self), ref(app), code)

    def end(self, app: App, code: int) -> None:
        """It ends by itself, if it still runs."""
        gateway = self._board.gateway
        if gateway is not None and gateway.edged is self._edged and app.container.run is app:
            self._finish(app, code, "Error" if code else "Completed")
            self._board.wake()

    def _finish(self, app: App, code: int, reason: str) -> None:
        del self._running[app.container.pod.uid, app.container.name]
        self._edged.exited(app.container, code, reason)


def _end(applications: ref[Applications], app: ref[App], code: int) -> None:
    there, run = applications(), app()
    if there is not None and run is not None:
        there.end(run, code)


def _done(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that does not wait. OSError (EAGAIN) for one that does, which is ended."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise BlockingIOError(errno.EAGAIN, "it waits")
