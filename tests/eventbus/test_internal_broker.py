"""The internal broker of a gateway on each interpreter, with paho-mqtt and umqtt.simple as applications."""

import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

import interpreters
import pytest
import umqtt_source
from peers import BUILD, DEV, HEAP, WAIT_S, Application, gateway

from motelet.tools import mpy
from motelet.tools.freeport import free_port

TOPICS = ("$hw/events/device/+/+/twin/+/+", "$hw/events/node/+/membership/get/result")
CLIENTS = 6
MANY = 100


@pytest.mark.parametrize("interpreter", interpreters.NAMES)
def test_applications_without_another_broker(interpreter: str, tmp_path: Path) -> None:
    port = free_port()
    with gateway(interpreter, tmp_path, {"mqttMode": 0, "broker": {"port": port}}):
        with Application(port, *TOPICS) as application, Application(port, "chat/#") as other:
            application.until_answered()
            for qos in (0, 1):
                for i in range(20):
                    update = {
                        "event_id": f"{qos} {i}",
                        "twin": {"temperature": {"actual": {"value": str(i)}}},
                    }
                    said = application.ask(DEV + "twin/update", update, 2, qos)
                    assert [topic for topic, _ in said] == [
                        DEV + "twin/update/result",
                        DEV + "twin/update/document",
                    ]
                    assert said[0][1]["event_id"] == f"{qos} {i}"
            application.say("chat/x", {"a": "b"})
            assert other.hear() == ("chat/x", {"a": "b"})
            application.say("chat/kept", {"c": "d"}, retain=True)
            with Application(port, "chat/+") as late:
                assert late.hear() == ("chat/kept", {"c": "d"})
        crowd = [Application(port, "crowd", name=f"c{i}") for i in range(CLIENTS)]
        try:
            crowd[0].say("crowd", {"to": "all"})
            assert [client.hear() for client in crowd] == [("crowd", {"to": "all"})] * CLIENTS
        finally:
            for client in crowd:
                client.__exit__()


@pytest.mark.parametrize("interpreter", interpreters.NAMES)
def test_wills_sessions_and_users(interpreter: str, tmp_path: Path) -> None:
    port = free_port()
    users = {"app": {"password": "one", "publish": ["will", "queue"]}, "own": {"password": "two"}}
    with gateway(interpreter, tmp_path, {"mqttMode": 0, "broker": {"port": port, "users": users}}):
        own = {"username_pw_set": ("own", "two")}
        with Application(port, "will", **own) as watcher:
            dying = Application(
                port, name="d", username_pw_set=("app", "one"), will_set=("will", '{"x":"gone"}', 1)
            )
            dying.say("secret", b"x")
            dying.say("will", {"x": "here"})
            assert watcher.hear() == ("will", {"x": "here"})
            dying.client.socket().close()  # no DISCONNECT
            assert watcher.hear() == ("will", {"x": "gone"})
            dying.client.loop_stop()
        with Application(port, "queue", name="away", clean=False, **own):
            pass
        with Application(port, **own) as sender:
            for i in range(5):
                sender.say("queue", {"i": i})
        with Application(port, "queue", name="away", clean=False, **own) as back:
            assert [back.hear()[1]["i"] for _ in range(5)] == list(range(5))


@pytest.mark.parametrize("interpreter", interpreters.NAMES)
def test_umqtt_on_micropython_as_application(interpreter: str, tmp_path: Path) -> None:
    found = mpy.interpreter()
    if found is None:
        pytest.skip("PyPI has no MicroPython for this computer")
    port = free_port()
    with gateway(interpreter, tmp_path, {"mqttMode": 0, "broker": {"port": port}}):
        with Application(port, *TOPICS) as application:
            application.until_answered()
        program = Path(__file__).parent / "umqtt_application.py"
        environment = mpy.environment(umqtt_source.folder(), BUILD)
        done = subprocess.run(
            [*found, "-X", f"heapsize={HEAP}", str(program), str(port)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert done.stdout.split("\n")[-2:] == ["done", ""], done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("interpreter", interpreters.NAMES)
def test_a_linux_gateway_holds_a_hundred_clients(interpreter: str, tmp_path: Path) -> None:
    port = free_port()
    config = {"mqttMode": 0, "broker": {"port": port, "clients": MANY}}
    with gateway(interpreter, tmp_path, config, heap="1M"), ExitStack() as stack:
        crowd = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(MANY)]
        for number, client in enumerate(crowd):
            client.settimeout(WAIT_S)
            client.sendall(packet(0x10, b"\0\4MQTT\4\2\0\x3c" + string(f"c{number}")))
            assert client.recv(4) == b"\x20\2\0\0"
            client.sendall(packet(0x82, b"\0\1" + string("to/all") + b"\0"))
            assert client.recv(5) == b"\x90\3\0\1\0"
        with socket.create_connection(("127.0.0.1", port)) as more:
            more.settimeout(WAIT_S)
            assert more.recv(1) == b"", "one more than the limit is sent away"
        for client in crowd[:3]:
            message = packet(0x30, string("to/all") + b"hello")
            client.sendall(message)
            for each in crowd:
                heard = b""
                while len(heard) < len(message):
                    heard += each.recv(len(message) - len(heard))
                assert heard == message


def string(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()


def packet(kind: int, body: bytes) -> bytes:
    return bytes((kind, len(body))) + body
