"""Calls that block, on a real loop: results, errors, and calls that do not come back."""

import threading

import pytest

from motelet.loop import Loop
from motelet.ports.rpi import Port


def fail(_task, error):
    raise error


class World:
    """A loop with one task that makes calls, and ends when they are over."""

    def __init__(self):
        port = Port()
        self.loop = Loop(port.clock, port.poller(), fail)
        self.worker = port.worker(self.loop)
        self.steps = 0

    def call(self, timeout_ms, function, *args):
        """What the task gets in the end: a result or an exception."""
        got = []

        def run(task):
            while True:
                try:
                    result = self.worker.call(task, timeout_ms, function, *args)
                except (OSError, ValueError) as error:
                    got.append(error)
                    return
                if result is not None:
                    got.append(result)
                    return
                task.sleep(timeout_ms)
                yield

        self.loop.spawn("caller", run)
        while not got:
            self.steps += 1
            self.loop.step(-1)
        return got[0]


@pytest.fixture
def world():
    world = World()
    yield world
    world.worker.close()


def test_the_result_comes_while_the_loop_waits_in_its_poller(world):
    assert world.call(60000, lambda a, b: a + b, 2, 3) == 5
    assert world.call(60000, threading.get_ident) != threading.get_ident()
    assert world.steps < 20  # woken, not polled


def test_an_error_is_raised_where_the_result_was_asked_for(world):
    error = world.call(60000, int, "x")
    assert isinstance(error, ValueError) and "invalid literal" in str(error)
    assert world.call(60000, int, "7") == 7


def test_a_call_that_does_not_come_back_is_given_up_and_stays_the_only_one(world):
    release = threading.Event()
    before = threading.active_count()
    error = world.call(50, release.wait)
    assert isinstance(error, OSError) and "no answer within 50 ms" in str(error)
    for _ in range(3):
        error = world.call(60000, int, "7")
        assert isinstance(error, OSError) and "has not come back" in str(error)
    assert threading.active_count() == before + 1
    release.set()
    world.worker._thread.join()
    assert world.call(60000, int, "7") == 7


def test_what_a_closed_worker_returns_late_is_nobodys(world):
    release = threading.Event()
    assert isinstance(world.call(50, lambda: release.wait() and "late"), OSError)
    world.worker.close()
    release.set()
    world.worker._thread.join()
    assert world.call(60000, int, "7") == 7
