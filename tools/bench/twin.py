"""How long a twin update takes, how many there are a second, and what each leaves as garbage.

A paho-mqtt client sends updates of UPDATE_SIZE bytes to a gateway on MicroPython, each after the result of
the one before, as the figures of KubeEdge were taken. The link to a real bridge is up and takes every report.
"""

from __future__ import annotations

import json
import queue
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import yaml
from paho.mqtt.enums import CallbackAPIVersion

from motelet.tools.bench import interpreters, world
from motelet.tools.bench.figures import Figure, quantiles
from motelet.tools.cli import UserError
from motelet.tools.freeport import free_ports

UPDATES = 1000
SUSTAINED = 4000
MEASURED = 50  # updates whose garbage is measured
UPDATE_SIZE = 140
HEAP = "160K"
WAIT_S = 20
ANSWER_S = 0.2  # for one try whether the gateway is there already
DEVICE = "$hw/events/device/default/bench/twin/"
MEMBERS = f"$hw/events/node/{world.NODE}/membership/get"


def measure() -> Iterator[Figure]:
    """`twin.updates_per_s`, `.update_result_ms`, `.sustained_updates_per_s` and `.alloc_update_bytes`.

    Without more in the name they are those of QoS 0 with the internal broker; a result is published
    once the store has it. paho-mqtt leaves Nagle's algorithm on, so that at QoS 1 each of its packets waits
    for mosquitto's delayed acknowledgement of the one before, 40 ms: `.nodelay` is without that.
    """
    for broker in ("internal", "mosquitto"):
        with _world(f"twin-{broker}", broker) as (port, config, folder), _gateway(config, port):
            for qos in (0, 1):
                yield from _latency(
                    port, qos, "" if (broker, qos) == ("internal", 0) else f".{broker}_qos{qos}"
                )
            if broker == "mosquitto":
                yield from _latency(port, 1, ".mosquitto_qos1.nodelay", nodelay=True)
            if broker == "internal":
                with Mapper(port, 0) as mapper:
                    yield from _sustained(mapper, folder)
    with _world("twin-garbage", "internal") as (port, config, _):
        yield _garbage(port, config)


def _latency(port: int, qos: int, name: str, nodelay: bool = False) -> Iterator[Figure]:
    with Mapper(port, qos, nodelay) as mapper:
        began = time.perf_counter()
        taken = [mapper.update(f"{qos}.{number}") for number in range(UPDATES)]
        rate = UPDATES / (time.perf_counter() - began)
    yield Figure(f"twin.updates_per_s{name}", rate, "1/s", UPDATES)
    yield from quantiles(f"twin.update_result_ms{name}", taken, "ms")


def _sustained(mapper: Mapper, folder: Path) -> Iterator[Figure]:
    began = time.perf_counter()
    for number in range(SUSTAINED):
        if number == SUSTAINED - UPDATES:
            late = time.perf_counter()
        mapper.update(f"s{number}")
    end = time.perf_counter()
    yield Figure("twin.sustained_updates_per_s", SUSTAINED / (end - began), "1/s", SUSTAINED)
    yield Figure("twin.sustained_updates_per_s.last", UPDATES / (end - late), "1/s", UPDATES)
    status = folder / "manifests" / "status" / "default" / "bench.yaml"
    while f"s{SUSTAINED - 1}" not in (status.read_text() if status.exists() else ""):
        if time.perf_counter() - end > WAIT_S:
            raise UserError(f"the last of {SUSTAINED} updates did not reach {status}")
        time.sleep(0.01)
    yield Figure("twin.sustained_lag_ms", (time.perf_counter() - end) * 1000, "ms")


def _garbage(port: int, config: Path) -> Figure:
    """All that the gateway allocates for an update at QoS 0: broker, twin, store and report together."""
    with interpreters.running(interpreters.command64("twin_probe", str(config))) as answers:
        if next(answers) != {"ready": True}:
            raise UserError("the probe did not start")
        with Mapper(port, 0) as mapper:
            for number in range(MEASURED):
                mapper.update(f"w{number}")
            mapper.update("start")
            for number in range(MEASURED - 1):
                mapper.update(f"m{number}")
            mapper.update("end")
            answer = next(answers)
    return Figure("twin.alloc_update_bytes", answer["bytes"], "bytes", MEASURED)


class Mapper:
    """A client that knows KubeEdge's topics; it hears results of updates only."""

    def __init__(self, port: int, qos: int, nodelay: bool = False) -> None:
        self._qos = qos
        self._heard: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        subscribed: queue.Queue[bool] = queue.Queue()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = lambda _client, _data, message: self._heard.put(
            (message.topic, json.loads(message.payload))
        )
        self._client.on_subscribe = lambda *_: subscribed.put(True)
        self._client.connect(world.HOST, port)
        if nodelay:
            connection = self._client.socket()
            assert isinstance(connection, socket.socket)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client.loop_start()
        for topic in (DEVICE + "update/result", MEMBERS + "/result"):
            self._client.subscribe(topic, qos)
            subscribed.get(timeout=WAIT_S)

    def __enter__(self) -> Mapper:
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            self._client.publish(MEMBERS, '{"event_id":"knock"}')
            try:
                if self._heard.get(timeout=ANSWER_S)[1]["devices"]:
                    break
            except queue.Empty:
                continue
            time.sleep(ANSWER_S)
        else:
            raise UserError("the gateway does not answer, or has no device")
        time.sleep(ANSWER_S)
        while not self._heard.empty():
            self._heard.get()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def update(self, value: str) -> float:
        """Tell one value and wait for the result; -> milliseconds. Raises UserError if there is another."""
        payload = '{"event_id":"%s","timestamp":1795377013096,"twin":{"temperature":{"actual":{"value":"%s"},'
        payload = payload % (value, value) + '"metadata":{"type":"string"}}}}'
        payload = payload.ljust(UPDATE_SIZE)
        began = time.perf_counter()
        self._client.publish(DEVICE + "update", payload, self._qos)
        try:
            topic, result = self._heard.get(timeout=WAIT_S)
        except queue.Empty as error:
            raise UserError(f"the update {value} was not answered") from error
        taken = (time.perf_counter() - began) * 1000
        if result.get("event_id") != value or "twin" not in result:
            raise UserError(f"the update {value} was answered on {topic} by {result}")
        return taken


@contextmanager
def _gateway(config: Path, port: int) -> Iterator[None]:
    with interpreters.serving("motelet.ports.unix.run", config, HEAP):
        world.wait_for(port)
        yield


@contextmanager
def _world(name: str, broker: str) -> Iterator[tuple[int, Path, Path]]:
    """Bridge and broker: -> port of the broker, file of the gateway's configuration, folder of all files."""
    folder = world.fresh(name)
    mqtt_port, bridge_port = free_ports(2)
    with ExitStack() as stack:
        mqtt: dict[str, Any] = {"mqttMode": 0, "broker": {"host": world.HOST, "port": mqtt_port}}
        if broker == "mosquitto":
            mqtt = {"host": world.HOST, "port": mqtt_port}
            stack.enter_context(world.mosquitto(folder, mqtt_port))
        manifests = folder / "manifests"
        manifests.mkdir()
        (manifests / "device.yaml").write_text(yaml.safe_dump_all([_model(), _device()]))
        stack.enter_context(world.plain_bridge(folder, bridge_port))
        config = folder / "gateway.json"
        link = {"host": world.HOST, "port": bridge_port, "path": f"/motelet/v1/{world.NODE}"}
        store = {"path": str(folder / "flash.img"), "size": 262144}
        whole = {"node": world.NODE, "bridge": link, "store": store, "mqtt": mqtt, "log_level": "error"}
        config.write_text(json.dumps(whole))
        print(f"... {name}", file=sys.stderr, flush=True)
        yield mqtt_port, config, folder


def _model() -> dict[str, Any]:
    return {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "DeviceModel",
        "metadata": {"name": "twin-model", "namespace": "default"},
        "spec": {
            "protocol": "mqtt",
            "properties": [
                {
                    "name": "temperature",
                    "type": "STRING",
                    "accessMode": "ReadWrite",
                    "visitors": {"protocolName": "mqtt", "configData": {}},
                }
            ],
        },
    }


def _device() -> dict[str, Any]:
    return {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "Device",
        "metadata": {"name": "bench", "namespace": "default"},
        "spec": {
            "deviceModelRef": {"name": "twin-model"},
            "nodeName": world.NODE,
            "protocol": {"protocolName": "mqtt"},
            "properties": [{"name": "temperature", "reportToCloud": True}],
        },
    }
