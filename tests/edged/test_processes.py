"""Pods on a Linux gateway, each application in a process of its own: the same as on a board."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from pod_world import PodWorld, config_map, pod, wait_for

LOOP = "import asyncio\nasync def main(context):\n    while True:\n        await asyncio.sleep(1)\n"
SPIN = "async def main(context):\n    while True:\n        pass\n"


def _world(folder: Path, without: bool) -> PodWorld:
    world = PodWorld(folder, process=True)
    if without:
        hidden = folder / "hidden"
        hidden.mkdir()
        (hidden / "sitecustomize.py").write_text(
            "import importlib.util as u\nfind = u.find_spec\n"
            "u.find_spec = lambda name, *more: None if name == 'micropython_unix' else find(name, *more)\n"
        )
        world.environment["PYTHONPATH"] = str(hidden)
    return world


@pytest.fixture(scope="module", params=["micropython", "cpython"])
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PodWorld]:
    """A gateway on CPython; its applications on the real MicroPython, and on CPython where there is none."""
    world = _world(tmp_path_factory.mktemp("gateway"), request.param == "cpython")
    try:
        world.start()
        yield world
    finally:
        world.stop()
        print(world.bridge_log.read_text()[-3000:], world.gateway_log.read_text()[-5000:], sep="\n")


@pytest.fixture
def world(gateway: PodWorld) -> Iterator[PodWorld]:
    """The gateway, emptied afterwards, and no process is left."""
    yield gateway
    gateway.clear()
    wait_for("no process is left", lambda: not applications(gateway))


def applications(world: PodWorld) -> list[int]:
    """The processes of applications that the gateway has started, by /proc, whoever their parent is now."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        launched = any(each.endswith(b"/launch.py") for each in words)
        if launched and words[words.index(b"-u") + 2].decode() == str(world.gateway_pid):
            found.append(int(path.parent.name))
    return found


def test_what_an_application_gets(world: PodWorld) -> None:
    python = "cpython" in str(world.folder) or "PYTHONPATH" in world.environment
    source = (
        "import asyncio, os, sys\n"
        "import helper\n"
        "async def main(context):\n"
        "    print(sys.implementation.name, helper.word)\n"
        "    print(sorted(context.env.items()), context.args)\n"
        "    print(repr(context.open('/conf/text').read()), os.listdir(context.path('/conf')))\n"
        "    with context.open('/scratch/a/b', 'w') as file:\n"
        "        file.write('kept')\n"
        "    print(context.open('/scratch/a/b', 'rb').read(), os.listdir('/scratch/a'))\n"
        "    os.remove('/scratch/a/b')\n"
        "    for path in ('/conf/none', '/conf/../../etc/passwd', '/scratch/a/b'):\n"
        "        try:\n"
        "            context.open(path)\n"
        "        except OSError as error:\n"
        "            print(path, error.errno)\n"
        "    for path, text in (('/conf/text', 'x'), ('/scratch/c', 'x' * 5000)):\n"
        "        try:\n"
        "            with context.open(path, 'w') as file:\n"
        "                file.write(text)\n"
        "        except OSError as error:\n"
        "            print(path, error.errno)\n"
        "    print(await context.get('n'))\n"
        "    await context.put('n', b'\\x00\\xff')\n"
        "    print(await context.get('n'))\n"
        "    await context.put('n', None)\n"
        "    print(await context.get('n'))\n"
        "    no = context.get(''), context.publish('#', 'x'), context.read('none', 'x'), context.receive()\n"
        "    for what in no:\n"
        "        try:\n"
        "            await what\n"
        "        except (ValueError, KeyError) as error:\n"
        "            print(type(error).__name__)\n"
        "    await context.subscribe('room/+')\n"
        "    try:\n"
        "        await asyncio.wait_for(context.receive(), 0.05)\n"
        "    except asyncio.TimeoutError:\n"
        "        print('nothing')\n"
        "    await context.publish('room/a', 'one')\n"
        "    await context.publish('room/a', b'two')\n"
        "    print(await context.receive(), await context.receive())\n"
        "    context.log('ended', 1)\n"
    )
    objects = pod(
        "all",
        source,
        restartPolicy="Never",
        container={
            "args": ["x", "grün"],
            "env": [{"name": "A", "value": "1"}],
            "volumeMounts": [{"name": "conf", "mountPath": "/conf"}, {"name": "s", "mountPath": "/scratch"}],
        },
        volumes=[{"name": "conf", "configMap": {"name": "conf"}}, {"name": "s", "emptyDir": {}}],
    )
    objects[0]["data"]["helper.py"] = "word = 'helped'\n"
    world.apply(config_map("conf", text="grün\n"), *objects)
    wait_for("it has ended", lambda: world.status("all").get("phase") in ("Succeeded", "Failed"))
    shown = str if python else lambda text: text.replace("ü", "\\xfc")
    assert world.logs("all").splitlines() == [
        f"{'cpython' if python else 'micropython'} helped",
        shown("[('A', '1')] ['x', 'grün']"),
        shown("'grün\\n' ['text']"),
        "b'kept' ['b']",
        "/conf/none 2",
        "/conf/../../etc/passwd 2",
        "/scratch/a/b 2",
        "/conf/text 13",
        "/scratch/c 28",
        "None",
        "b'\\x00\\xff'",
        "None",
        "ValueError",
        "ValueError",
        "KeyError",
        "KeyError",
        "nothing",
        "('room/a', b'one') ('room/a', b'two')",
        "ended 1",
    ]
    assert world.status("all")["phase"] == "Succeeded"


def test_a_changed_config_map_reaches_it(world: PodWorld) -> None:
    source = (
        "import asyncio\nasync def main(context):\n    last = None\n    while True:\n"
        "        text = context.open('/conf/value').read()\n        if text != last:\n"
        "            last = text\n            print('now', text)\n        await asyncio.sleep_ms(20)\n"
    )
    mounts = {"volumeMounts": [{"name": "conf", "mountPath": "/conf"}]}
    volumes = [{"name": "conf", "configMap": {"name": "conf"}}]
    world.apply(config_map("conf", value="one"), *pod("live", source, container=mounts, volumes=volumes))
    world.logged("live", "now one")
    world.apply(config_map("conf", value="two"))
    world.logged("live", "now two")
    assert world.container("live")["restartCount"] == 0


def test_how_each_ends_is_said(world: PodWorld) -> None:
    """Exit codes and reasons; a limit is what there is, whoever asks for more is OOMKilled alone."""
    megabytes = {"resources": {"limits": {"memory": "20Mi"}}}
    world.apply(
        *pod("good", LOOP),
        *pod("three", "async def main():\n    raise SystemExit(3)\n", restartPolicy="Never"),
        *pod(
            "raises",
            "async def main(context):\n    raise ValueError('no such thing')\n",
            restartPolicy="Never",
        ),
        *pod("import", "raise RuntimeError('at import')\n", restartPolicy="Never"),
        *pod(
            "hog",
            "async def main(context):\n    keep = []\n    while True:\n        keep.append(bytes(9999))\n",
            restartPolicy="Never",
            container=megabytes,
        ),
    )
    ends = {}
    for name in ("three", "raises", "import", "hog"):
        wait_for(name, lambda name=name: world.status(name).get("phase") == "Failed")
        end = world.container(name)["state"]["terminated"]
        ends[name] = (end["exitCode"], end["reason"])
        assert "no such thing" in end.get("message", "") or name != "raises"
        assert "RuntimeError: at import" in end.get("message", "") or name != "import"
    assert ends == {
        "three": (3, "Error"),
        "raises": (1, "Error"),
        "import": (1, "Error"),
        "hog": (137, "OOMKilled"),
    }
    assert "main.py" in world.logs("raises") and "line 2" in world.logs("raises")
    world.running("good")
    assert world.container("good")["restartCount"] == 0


def test_who_spins_is_killed_when_its_time_is_over(world: PodWorld) -> None:
    world.apply(*pod("spin", SPIN, terminationGracePeriodSeconds=1), *pod("good", LOOP))
    world.running("spin")
    world.running("good")
    world.remove("Pod", "spin")
    wait_for("it is gone", lambda: "pod gone pod=default/pod/spin" in world.gateway_log.read_text())
    assert world.container("good")["restartCount"] == 0


def test_who_is_cancelled_may_tidy_up(world: PodWorld) -> None:
    source = (
        "import asyncio\nasync def main(context):\n    try:\n        print('begun')\n"
        "        await asyncio.sleep(1000)\n    finally:\n        await context.publish('bye', 'x')\n"
    )
    listener = (
        "async def main(context):\n    await context.subscribe('bye')\n    print('listening')\n"
        "    print(await context.receive())\n    raise SystemExit(0)\n"
    )
    world.apply(
        *pod("listener", listener, restartPolicy="Never"),
        *pod("tidy", source, terminationGracePeriodSeconds=30),
    )
    world.logged("listener", "listening")
    world.logged("tidy", "begun")
    world.remove("Pod", "tidy")
    world.logged("listener", "('bye', b'x')")


def test_probes(world: PodWorld) -> None:
    source = (
        "import asyncio\nn = 0\n"
        "def alive():\n    global n\n    n += 1\n    return n < 3\n"
        "async def ready():\n    await asyncio.sleep(0)\n"
        "async def main(context):\n    await asyncio.sleep(1000)\n"
    )
    fast = {"periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 60}  # the computer may be busy
    container = {
        "livenessProbe": {"exec": {"command": ["alive"]}, **fast},
        "readinessProbe": {"exec": {"command": ["ready"]}, **fast},
    }
    world.apply(*pod("probed", source, container=container))
    wait_for("it is ready", lambda: world.container("probed").get("ready"))
    wait_for("it was started again", lambda: world.container("probed").get("restartCount"))
    assert "livenessProbe failed" in str(world.container("probed")["lastState"])


def test_a_log_flood_is_bounded(world: PodWorld) -> None:
    world.apply(*pod("flood", "async def main(context):\n    while True:\n        print('flood' * 99)\n"))
    log = world.logged("flood", "were dropped]")
    assert len(log) <= 1024 + 60 and max(map(len, log.splitlines())) <= 256
    world.apply(*pod("good", LOOP))
    world.running("good")


def test_a_hundred_sockets(world: PodWorld) -> None:
    source = (
        "import asyncio, socket\nasync def main(context):\n    keep = []\n    try:\n"
        "        for n in range(100):\n"
        "            keep.append(socket.socket())\n    except OSError as error:\n"
        "        print('refused', len(keep) > 30, error.errno)\n    await asyncio.sleep(1000)\n"
    )
    world.apply(*pod("sockets", source), *pod("good", LOOP))
    world.logged("sockets", "refused True 24")  # EMFILE
    world.running("good")


def test_nothing_starts_processes_or_sees_the_computers_files(world: PodWorld) -> None:
    if "PYTHONPATH" in world.environment:
        return  # CPython's applications are not fenced off, as process_cpython.py says
    source = (
        "import os\nasync def main(context):\n    for path in ('/etc/passwd', '/'):\n        try:\n"
        "            open(path)\n            print('opened')\n        except OSError as error:\n"
        "            print(path, error.errno)\n"
    )
    world.apply(*pod("curious", source, restartPolicy="Never"))
    wait_for("it has ended", lambda: world.status("curious").get("phase") == "Succeeded")
    assert world.logs("curious") == "/etc/passwd 2\n/ 1\n"


def test_one_that_sends_nonsense_is_ended(world: PodWorld) -> None:
    """It gets hold of its socket, which on MicroPython is a number, and says what no application says."""
    source = (
        "import os, sys\nasync def main(context):\n"
        "    os_write = context._services.send_bytes\n"
        "    os_write(b'\\x00\\x00\\x00\\x01\\xff\\xff\\xff\\xff\\xff\\xff')\n"
        "    while True:\n        pass\n"
    )
    world.apply(*pod("nonsense", source, restartPolicy="Never"))
    wait_for("it has ended", lambda: world.status("nonsense").get("phase") == "Failed")
    assert "no sense in what it sent" in world.container("nonsense")["state"]["terminated"]["message"]


def test_a_gateway_that_is_killed_leaves_no_process_and_starts_all_again(tmp_path: Path) -> None:
    world = _world(tmp_path, False)
    try:
        world.start()
        world.apply(*pod("spin", SPIN), *pod("loop", LOOP))
        world.running("spin")
        world.running("loop")
        pids = wait_for("two processes", lambda: len(found := applications(world)) == 2 and found)
        world.kill_gateway()
        wait_for("both are gone", lambda: not any(alive(pid) for pid in pids))
        world.start_gateway()
        wait_for("again", lambda: world.container("loop").get("restartCount") == 1)
        last = world.container("loop")["lastState"]["terminated"]
        assert (last["exitCode"], last["reason"]) == (137, "ContainerStatusUnknown")
        wait_for("and the other", lambda: world.container("spin").get("restartCount") == 1)
        for pid in applications(world):
            os.kill(pid, signal.SIGKILL)
        wait_for("what is killed is started", lambda: world.container("loop").get("restartCount") == 2)
        assert world.container("loop")["lastState"]["terminated"]["exitCode"] == 137
    finally:
        world.stop()
        print(world.gateway_log.read_text()[-3000:])


def alive(pid: int) -> bool:
    """Whether there is such a process, and more of it than its status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
