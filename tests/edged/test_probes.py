"""Probes on a board: a function of the application, and a TCP port."""

from pod_world import PodWorld, pod, wait_for

SERVER = (
    "import asyncio\n"
    "well = True\n"
    "def alive():\n"
    "    return well\n"
    "async def ready():\n"
    "    if not well:\n"
    "        raise ValueError('not well')\n"
    "async def serve(reader, writer):\n"
    "    writer.close()\n"
    "async def main(context):\n"
    "    global well\n"
    "    await asyncio.sleep_ms(1500)\n"
    "    await asyncio.start_server(serve, '127.0.0.1', int(context.args[0]))\n"
    "    print('serving')\n"
    "    await asyncio.sleep(4)\n"
    "    well = False\n"
    "    await asyncio.sleep(1000)\n"
)
FAST = {"periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 60}  # the computer may be busy


def test_readiness_follows_a_port(world: PodWorld) -> None:
    port = world.port + 1
    probe = {"tcpSocket": {"host": "127.0.0.1", "port": port}, **FAST}
    world.apply(*pod("tcp", SERVER, container={"args": [str(port)], "readinessProbe": probe}))
    world.running("tcp")
    assert not world.container("tcp")["ready"]
    wait_for("it is ready", lambda: world.container("tcp")["ready"])
    assert "serving" in world.logs("tcp")


def test_who_is_not_alive_is_started_again(world: PodWorld) -> None:
    container = {
        "args": [str(world.port + 2)],
        "livenessProbe": {"exec": {"command": ["alive"]}, **FAST},
        "readinessProbe": {"exec": {"command": ["ready"]}, **FAST},
    }
    world.apply(*pod("exec", SERVER, container=container))
    wait_for("it is ready", lambda: world.container("exec").get("ready"))
    wait_for("it was started again", lambda: world.container("exec").get("restartCount"))
    assert "livenessProbe failed" in str(world.container("exec")["lastState"])
