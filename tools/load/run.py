"""One load, from the first connection to the last figure."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from motelet.tools.bench.figures import Figure, quantiles
from motelet.tools.cli import UserError
from motelet.tools.load.fleet import Fleet
from motelet.tools.load.worlds import World

CONNECT_SECONDS_MAX = 300.0
FANOUT_SECONDS_MAX = 600.0
FIRST_SECONDS_MAX = 600.0
"""For all Devices to reach their boards, and for the first report of each property."""
WANTED = "2"
"""What every Device desires after the change."""
FILES_SPARE = 100
"""File descriptors for everything but the boards."""


@dataclass(frozen=True)
class Reporting:
    """How boards report: `rate` a second and board (0: as fast as goes), for so many seconds (0: not)."""

    rate: float
    seconds: float


def need_files(count: int) -> None:
    """Have the system allow `count` connections. Raises UserError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + FILES_SPARE
    if soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise UserError(f"{count} boards need {wanted} open files, the system allows {hard} (ulimit -n)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def load(
    fleet: Fleet, world: World | None, reporting: Reporting, show: Callable[[Figure], None]
) -> None:
    """Put the load on the bridge and `show` each figure as it is there. Raises UserError."""
    if world is None:
        await _measure(fleet, None, reporting, show)
        return
    try:
        await world.create()
        await _measure(fleet, world, reporting, show)
    finally:
        await world.remove()


async def _measure(
    fleet: Fleet, world: World | None, reporting: Reporting, show: Callable[[Figure], None]
) -> None:
    count = len(fleet.boards)
    began = time.perf_counter()
    async with _running(fleet):
        took = await fleet.synced.wait(CONNECT_SECONDS_MAX, fleet.failures) - began
        show(Figure("load.connects_per_s", count / took, "1/s", count))
        if world is not None:
            resources = world.resources()
            await fleet.holding(resources).wait(FIRST_SECONDS_MAX, fleet.failures)
            show(Figure("load.fanout_s", await _fan_out(fleet, world), "s", len(resources)))
        if reporting.seconds:
            show(Figure("load.first_reports_s", await fleet.report_once(FIRST_SECONDS_MAX), "s"))
            for figure in await _report(fleet, reporting):
                show(figure)
        if fleet.tally.retries:
            show(Figure("load.connections_tried_again", fleet.tally.retries, ""))


async def _fan_out(fleet: Fleet, world: World) -> float:
    """Seconds from the first change of a desired value to the last board holding its."""
    goal = fleet.holding(world.resources(), WANTED)
    began = time.perf_counter()
    await world.desire(WANTED)
    return await goal.wait(FANOUT_SECONDS_MAX, fleet.failures) - began


async def _report(fleet: Fleet, reporting: Reporting) -> list[Figure]:
    tally = fleet.tally
    figures = [Figure("load.reports_per_s", await fleet.report(reporting.rate, reporting.seconds), "1/s")]
    if tally.refused:
        raise UserError(f"{tally.refused} reports were refused{fleet.failures()}")
    if len(tally.latencies) < 2:
        raise UserError(f"no report was acknowledged within {reporting.seconds:g} s{fleet.failures()}")
    milliseconds = [each * 1000 for each in tally.latencies]
    figures += quantiles("load.report_to_ack_ms", milliseconds, "ms")
    if tally.held_back:
        figures.append(Figure("load.reports_held_back", tally.held_back, ""))
    return figures


@asynccontextmanager
async def _running(fleet: Fleet) -> AsyncIterator[None]:
    """The boards are connected within; if one of them gives up, that is what is raised."""
    caller = asyncio.current_task()
    assert caller is not None
    boards = asyncio.create_task(fleet.run())
    boards.add_done_callback(lambda task: None if task.cancelled() else caller.cancel())
    try:
        yield
    except asyncio.CancelledError:
        if not boards.done() or boards.cancelled():
            raise
        caller.uncancel()
        errors = boards.exception()
        assert isinstance(errors, BaseExceptionGroup)
        raise errors.exceptions[0] from None
    finally:
        boards.cancel()
        await asyncio.wait([boards])
