"""Tokens of service accounts on virtual time: asked for once, renewed in time, no storm, dropped."""

import asyncio
from contextlib import suppress
from itertools import pairwise

import pytest

from cloud_bridge.backends.base import POD, BackendError, Key, RefusedError, Token, TokenRequest
from cloud_bridge.edgecontroller import tokens as tokens_module
from cloud_bridge.edgecontroller.effective import PendingError, UnrunnableError
from cloud_bridge.edgecontroller.tokens import Tokens
from motelet.tools.simulate.eventloop import VirtualLoop
from motelet.tools.simulate.schedule import Schedule

APP = Key(POD, "default", "app")
HOUR = 3600


def request(pod=APP, seconds=HOUR, uid="u1"):
    return TokenRequest(pod, uid, "default", "", seconds)


class Issuer:
    """A backend that makes tokens `token-1`, `token-2`, .. or raises `error`; each takes `delay` seconds."""

    def __init__(self):
        self.error = None
        self.delay = 0.0
        self.asked = []
        self.busy = self.busy_max = 0

    async def request_token(self, request):
        self.asked.append((asyncio.get_running_loop().time(), request))
        number = len(self.asked)
        self.busy += 1
        self.busy_max = max(self.busy_max, self.busy)
        await asyncio.sleep(self.delay)
        self.busy -= 1
        if self.error is not None:
            raise self.error
        return Token(f"token-{number}", request.seconds)


class World:
    """`tokens` on virtual time; `changed` is what was told."""

    def __init__(self):
        self.issuer = Issuer()
        self.changed = []
        loop = asyncio.get_running_loop()
        self.tokens = Tokens(self.issuer, self.changed.append, loop.time)

    def want(self, *requests, pod=APP, node="board", urgent=False):
        self.tokens.want(pod, node, urgent, requests)

    def times(self):
        return [time for time, _ in self.issuer.asked]


def virtual(test):
    """Run the test on virtual time with a World, whose tokens are asked for meanwhile."""

    async def run():
        world = World()
        running = asyncio.create_task(world.tokens.run())
        try:
            await test(world)
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    def on_virtual_time():
        loop = VirtualLoop(Schedule())
        try:
            loop.run_until_complete(run())
        finally:
            loop.close()

    on_virtual_time.__name__ = test.__name__
    return on_virtual_time


@virtual
async def test_a_token_is_asked_for_once_and_its_node_is_told(world):
    world.tokens.opened("board")
    world.want(request())
    with pytest.raises(PendingError):
        world.tokens.get(request())
    await asyncio.sleep(1)
    assert world.tokens.get(request()) == b"token-1" and world.changed == ["board"]
    world.want(request())
    await asyncio.sleep(HOUR / 2)
    assert len(world.issuer.asked) == 1


@virtual
async def test_it_is_renewed_after_four_fifths_of_its_life_and_one_that_lasts_after_a_day(world):
    world.tokens.opened("board")
    day = 86400
    world.want(request(), request(seconds=30 * day))
    await asyncio.sleep(2 * day - 60)
    hourly = [time for time, each in world.issuer.asked if each.seconds == HOUR]
    daily = [time for time, each in world.issuer.asked if each.seconds != HOUR]
    steps = [after - before for before, after in pairwise(hourly)]
    assert len(steps) > 50 and all(0.8 * HOUR - 10 <= step <= 0.8 * HOUR for step in steps), steps
    assert len(daily) == 2 and day - 10 <= daily[1] - daily[0] <= day
    assert world.tokens.get(request()) == f"token-{len(world.issuer.asked)}".encode()


@virtual
async def test_one_that_is_refused_says_why_and_is_asked_for_less_and_less(world):
    world.tokens.opened("board")
    world.issuer.error = RefusedError("forbidden")
    world.want(request())
    await asyncio.sleep(1)
    with pytest.raises(UnrunnableError, match="forbidden"):
        world.tokens.get(request())
    await asyncio.sleep(599)
    steps = [after - before for before, after in pairwise(world.times())]
    assert len(steps) < 20 and steps[0] < 2 and steps[-1] > 45
    world.issuer.error = None
    await asyncio.sleep(75)
    assert world.tokens.get(request()).startswith(b"token-")


@virtual
async def test_an_old_token_counts_until_it_expires_and_an_api_that_is_away_is_waited_for(world):
    world.tokens.opened("board")
    world.want(request())
    await asyncio.sleep(1)
    world.issuer.error = BackendError("cannot be reached")
    await asyncio.sleep(HOUR - 2)
    assert world.tokens.get(request()) == b"token-1"
    told = len(world.changed)
    await asyncio.sleep(75)
    assert len(world.changed) > told
    with pytest.raises(PendingError):  # it may come any moment: nobody is told that the pod cannot run
        world.tokens.get(request())
    world.issuer.error = RefusedError("forbidden")
    await asyncio.sleep(75)
    with pytest.raises(UnrunnableError, match="forbidden"):
        world.tokens.get(request())


@virtual
async def test_many_at_once_are_no_storm_and_pods_that_wait_come_first(world):
    world.issuer.delay = 0.05
    others = [Key(POD, "default", f"p{number}") for number in range(200)]
    for pod in others:
        world.want(request(pod), pod=pod)
    world.want(request(), urgent=True)
    world.tokens.opened("board")
    await asyncio.sleep(60)
    assert len(world.issuer.asked) == 201 and world.issuer.asked[0][1] == request()
    assert world.issuer.busy_max == tokens_module.REQUESTS_MAX
    within = [sum(start <= time < start + 1 for time in world.times()) for start in range(60)]
    assert max(within) <= tokens_module.REQUESTS_MAX / (0.05 + tokens_module.PAUSE_SECONDS) + 4


@virtual
async def test_only_for_boards_that_are_here(world):
    world.want(request())
    await asyncio.sleep(10)
    assert not world.issuer.asked
    world.tokens.opened("board")
    await asyncio.sleep(1)
    world.tokens.closed("board")
    await asyncio.sleep(HOUR / 2)
    world.tokens.opened("board")  # a link that flaps
    await asyncio.sleep(1)
    assert len(world.issuer.asked) == 1
    world.tokens.closed("board")
    await asyncio.sleep(HOUR)
    world.tokens.opened("board")
    await asyncio.sleep(1)
    assert len(world.issuer.asked) == 2 and world.tokens.get(request()) == b"token-2"


@virtual
async def test_it_goes_with_its_pod_even_while_it_is_being_made(world):
    world.tokens.opened("board")
    world.issuer.delay = 5.0
    world.want(request())
    await asyncio.sleep(1)
    world.want(request(uid="u2"))  # another pod by that name
    await asyncio.sleep(20)
    assert world.tokens.get(request(uid="u2")) == b"token-2" and world.changed == ["board"]
    world.tokens.forget(APP)
    world.tokens.forget(APP)
    for each in ("u1", "u2"):
        with pytest.raises(KeyError):
            world.tokens.get(request(uid=each))
    await asyncio.sleep(HOUR)
    assert len(world.issuer.asked) == 2


@virtual
async def test_there_is_a_limit(world):
    limit, tokens_module.TOKENS_MAX = tokens_module.TOKENS_MAX, 2
    try:
        world.want(request(), request(seconds=700))
        with pytest.raises(UnrunnableError, match="2 tokens"):
            world.want(request(Key(POD, "default", "other")), pod=Key(POD, "default", "other"))
        world.want(request(seconds=800), request(seconds=900))
    finally:
        tokens_module.TOKENS_MAX = limit


def test_a_token_is_in_no_text_that_could_be_logged():
    assert "secret" not in repr(Token("secret", 1.0))
