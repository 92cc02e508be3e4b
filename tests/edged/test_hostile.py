"""Applications that do everything wrong, on one board: the board serves on, and each is told what it did."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pod_world import PodWorld, pod, wait_for

GOOD = (
    "import asyncio\n"
    "async def main(context):\n"
    "    n = 0\n"
    "    while True:\n"
    "        n += 1\n"
    "        print('good', n)\n"
    "        await asyncio.sleep_ms(100)\n"
)


@pytest.fixture
def hostile(world: PodWorld) -> Iterator[PodWorld]:
    """The board with a good application on it, which is unharmed in the end."""
    yield from good_beside(world)


def good_beside(world: PodWorld) -> Iterator[PodWorld]:
    """`world` with the good application, which has gone on when its user is done."""
    world.apply(*pod("good", GOOD))
    world.logged("good", "good 1")
    yield world
    number = int(world.logs("good", "--tail", "1").split()[1])
    world.logged("good", f"good {number + 3}\n")
    assert world.container("good")["restartCount"] == 0


def ended(world: PodWorld, name: str) -> dict[str, object]:
    """Wait for the pod's second restart; -> how its last run ended."""
    wait_for(f"{name} was started again", lambda: world.container(name).get("restartCount", 0) >= 2)
    return dict(world.container(name)["lastState"]["terminated"])


def test_memory_hog(hostile: PodWorld) -> None:
    hostile.apply(
        *pod(
            "hog",
            "async def main(context):\n    keep = []\n    while True:\n        keep.append(bytes(999))\n",
        )
    )
    last = ended(hostile, "hog")
    assert (last["exitCode"], last["reason"]) == (137, "OOMKilled")


def test_memory_hog_that_shares(world: PodWorld) -> None:
    """It yields between, so that sooner or later somebody else finds no memory: it is ended all the same."""
    world.apply(*pod("good", GOOD))
    source = (
        "import asyncio\n"
        "async def main(context):\n"
        "    keep = []\n"
        "    while True:\n"
        "        try:\n"
        "            keep.append(bytes(99))\n"
        "        except MemoryError:\n"
        "            pass\n"
        "        await asyncio.sleep(0)\n"
    )
    world.apply(*pod("sharer", source))
    last = ended(world, "sharer")
    assert (last["exitCode"], last["reason"]) == (137, "OOMKilled")
    assert "grew the most" in str(last["message"])
    world.remove("Pod", "sharer")
    world.running("good")


def test_log_flood(hostile: PodWorld) -> None:
    source = (
        "import asyncio\n"
        "async def main(context):\n"
        "    for n in range(100000):\n"
        "        print('flood', n, 'x' * 500)\n"
        "        await asyncio.sleep(0)\n"
    )
    hostile.apply(*pod("flood", source))
    log = hostile.logged("flood", "were dropped]")
    assert len(log) <= 1024 + 60 and max(map(len, log.splitlines())) <= 256


def test_exception_at_import(hostile: PodWorld) -> None:
    hostile.apply(*pod("broken", "raise RuntimeError('at import')\n"))
    last = ended(hostile, "broken")
    assert last["exitCode"] == 1 and "RuntimeError: at import" in str(last["message"])


def test_no_main(hostile: PodWorld) -> None:
    hostile.apply(*pod("nomain", "x = 1\n"))
    assert "main" in str(ended(hostile, "nomain")["message"])


def test_a_hundred_sockets(hostile: PodWorld) -> None:
    source = (
        "import asyncio, socket\n"
        "async def wait(s):\n"
        "    await asyncio.StreamReader(s).read(1)\n"
        "async def main(context):\n"
        "    server = socket.socket()\n"
        "    server.bind(socket.getaddrinfo('127.0.0.1', 0)[0][-1])\n"
        "    server.listen(100)\n"
        "    keep, refused = [], 0\n"
        "    for n in range(100):\n"
        "        s = socket.socket()\n"
        "        s.setblocking(False)\n"
        "        keep.append(s)\n"
        "        try:\n"
        "            core = asyncio.core\n"
        "            core._io_queue._waiter(s)\n"
        "        except OSError:\n"
        "            refused += 1\n"
        "    print('refused', refused)\n"
        "    for s in keep:\n"
        "        core._io_queue.map.pop(s, None)\n"
        "    await asyncio.sleep(1000)\n"
    )
    hostile.apply(*pod("sockets", source))
    hostile.logged("sockets", "refused 68")


def test_a_hundred_tasks(hostile: PodWorld) -> None:
    source = (
        "import asyncio\n"
        "async def forever():\n"
        "    while True:\n"
        "        try:\n"
        "            await asyncio.sleep(1)\n"
        "        except asyncio.CancelledError:\n"
        "            pass\n"
        "async def main(context):\n"
        "    for n in range(100):\n"
        "        asyncio.create_task(forever())\n"
    )
    hostile.apply(*pod("tasks", source))
    assert "more than 16 tasks" in str(ended(hostile, "tasks")["message"])


def test_new_event_loop(hostile: PodWorld) -> None:
    source = (
        "import asyncio\n"
        "async def main(context):\n"
        "    asyncio.new_event_loop()\n"
        "    await asyncio.sleep_ms(10)\n"
        "    print('still here')\n"
        "    await asyncio.sleep(1000)\n"
    )
    hostile.apply(*pod("newloop", source))
    hostile.logged("newloop", "still here")


def test_who_ignores_that_it_is_cancelled_is_killed(hostile: PodWorld) -> None:
    source = (
        "import asyncio\n"
        "async def main(context):\n"
        "    while True:\n"
        "        try:\n"
        "            await asyncio.sleep(1)\n"
        "        except:\n"
        "            print('no')\n"
    )
    hostile.apply(*pod("stubborn", source, terminationGracePeriodSeconds=1))
    hostile.running("stubborn")
    hostile.remove("Pod", "stubborn")
    wait_for("it is gone", lambda: "pod gone pod=default/pod/stubborn" in hostile.gateway_log.read_text())


@pytest.fixture
def overseen(tmp_path: Path) -> Iterator[PodWorld]:
    """A board that looks twice a second who runs; the good application on it is unharmed in the end."""
    world = PodWorld(tmp_path, mark=str(tmp_path / "mark"), alarm_s=0.5)
    try:
        world.start()
        yield from good_beside(world)
        assert world.gateway is not None and world.gateway.poll() is None
        log = world.gateway_log.read_text()
        assert log.count("edgehub synced") == 1 and "Traceback" not in log and "Error" not in log, log
    finally:
        world.stop()


SPIN = "    while True:\n        pass\n"
IN_A_TASK = (
    "async def main(context):\n    asyncio.create_task(other())\n    while True:\n"
    "        await asyncio.sleep(1)\n"
)


LOOPS = {
    "main": "async def main(context):\n" + SPIN,
    "import": "while True:\n    pass\n",
    "task": "import asyncio\nasync def other():\n" + SPIN + IN_A_TASK,
    # In what belongs to the gateway nobody is interrupted, so these are between two calls of that.
    "service": "async def main(context):\n    while True:\n        await context.put('key', b'value')\n",
    "file": "async def main(context):\n    while True:\n        context.open('/app/main.mpy', 'rb').read()\n",
}


def test_infinite_loops_are_interrupted(overseen: PodWorld) -> None:
    for name, source in LOOPS.items():
        overseen.apply(*pod(name, source))
    for name in LOOPS:
        found = wait_for(
            f"back-off of {name}",
            lambda name=name: (
                "CrashLoopBackOff" in str(overseen.container(name)) and overseen.container(name)
            ),
        )
        last = found["lastState"]["terminated"]
        assert (last["exitCode"], last["reason"]) == (137, "Error"), (name, last)
        assert "it did not let others run" in last["message"], (name, last)


@pytest.mark.parametrize(
    ("error", "code", "reason"), [("KeyboardInterrupt", 1, "Error"), ("SystemExit(3)", 3, "Error")]
)
def test_what_asyncio_lets_pass_ends_nobody_else(
    hostile: PodWorld, error: str, code: int, reason: str
) -> None:
    hostile.apply(*pod("raises", f"import asyncio\nasync def other():\n    raise {error}\n" + IN_A_TASK))
    last = ended(hostile, "raises")
    assert (last["exitCode"], last["reason"]) == (code, reason)


def test_an_infinite_loop_that_holds_its_interrupts_is_known_after_the_watchdog(tmp_path: Path) -> None:
    """The test is the watchdog: it resets a board from which nothing is heard."""
    world = PodWorld(tmp_path, mark=str(tmp_path / "mark"), alarm_s=0.5)
    held = tmp_path / "held"
    source = (
        "async def main(context):\n    held = 0\n    while True:\n        try:\n"
        "            while True:\n                pass\n        except:\n            held += 1\n"
        f"            with open('{held}', 'w') as file:\n                file.write(str(held))\n"
    )
    try:
        world.start()
        world.apply(*pod("good", GOOD))
        world.logged("good", "good 1")
        world.apply(*pod("loop", source))
        wait_for("it was interrupted twice", lambda: held.exists() and held.read_text() == "2")
        assert "default/pod/loop/main" in (tmp_path / "mark").read_text()
        world.kill_gateway()
        world.start_gateway()
        found = wait_for(
            "back-off", lambda: "CrashLoopBackOff" in str(world.container("loop")) and world.container("loop")
        )
        assert "watchdog" in found["lastState"]["terminated"]["message"]
        wait_for("good is back", lambda: world.container("good").get("restartCount") == 1)
        world.logged("good", "good 2")
    finally:
        world.stop()
