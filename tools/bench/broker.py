"""The internal MQTT broker: messages a second beside mosquitto's, and the heap it takes on a board."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

from motelet.tools.bench import interpreters, world
from motelet.tools.bench.figures import Figure
from motelet.tools.cli import UserError
from motelet.tools.freeport import free_port

MESSAGES = 10000
WINDOW = 8  # messages under way: fewer than any broker here has room for, so that none is dropped
PAYLOAD = b"x" * 64
HEAP = "160K"
WAIT_S = 20
TOPIC = b"bench/messages"


def measure() -> Iterator[Figure]:
    """`broker.messages_per_s`, at QoS 0 from one sender to one receiver, and `broker.heap_bytes` at 32 bits.

    On MicroPython without more in the name; `.cpython` and `.mosquitto` beside it.
    """
    folder = world.fresh("broker")
    port = free_port()
    with world.mosquitto(folder, port):
        yield _rate(".mosquitto", port)
    for interpreter in ("cpython", "micropython"):
        port = free_port()
        config = folder / "gateway.json"
        link = {"host": world.HOST, "port": 1, "path": f"/motelet/v1/{world.NODE}"}  # nobody is there
        store = {"path": str(folder / f"{interpreter}.img"), "size": 262144}
        mqtt = {"mqttMode": 0, "broker": {"host": world.HOST, "port": port}}
        whole = {"node": world.NODE, "bridge": link, "store": store, "mqtt": mqtt, "log_level": "error"}
        config.write_text(json.dumps(whole))
        heap = HEAP if interpreter == "micropython" else None
        with interpreters.serving("motelet.ports.unix.run", config, heap):
            yield _rate("" if heap else f".{interpreter}", port)
    yield from _heap()


def _rate(name: str, port: int) -> Figure:
    sender, receiver = _client(port, b"sender"), _client(port, b"receiver")
    with sender, receiver:
        receiver.sendall(_packet(0x82, b"\0\1" + _string(TOPIC) + b"\0"))
        if receiver.recv(5) != b"\x90\3\0\1\0":
            raise UserError(f"the broker{name} does not let us subscribe")
        message = _packet(0x30, _string(TOPIC) + PAYLOAD)
        sent = heard = 0
        began = time.perf_counter()
        while heard < MESSAGES * len(message):
            count = min(WINDOW - (sent - heard) // len(message), MESSAGES - sent // len(message))
            if count:
                sender.sendall(message * count)
                sent += count * len(message)
            data = receiver.recv(65536)
            if not data:
                raise UserError(f"the broker{name} has closed the connection")
            heard += len(data)
        taken = time.perf_counter() - began
    return Figure(f"broker.messages_per_s{name}", MESSAGES / taken, "1/s", MESSAGES)


def _client(port: int, name: bytes) -> socket.socket:
    world.wait_for(port)
    client = socket.create_connection((world.HOST, port), WAIT_S)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(_packet(0x10, b"\0\4MQTT\4\2\0\x3c" + _string(name)))
    if client.recv(4) != b"\x20\2\0\0":
        raise UserError("a broker refuses us")
    return client


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def _packet(kind: int, body: bytes) -> bytes:
    return bytes((kind, len(body))) + body


def _heap() -> Iterator[Figure]:
    """`broker.heap_bytes`: code and eight clients with a subscription each; `.empty`: without clients."""
    with interpreters.running(interpreters.command32("broker_probe")) as answers:
        for answer in answers:
            suffix = "" if answer["clients"] else ".empty"
            yield Figure(f"broker.heap_bytes{suffix}", answer["bytes"], "bytes")
