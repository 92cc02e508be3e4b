"""A gateway on each interpreter beside mosquitto, with applications that only know KubeEdge's topics."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import interpreters
import pytest
from peers import DEV, Application, gateway, mosquitto

from motelet.tools.freeport import free_port

TOPICS = (
    "$hw/events/device/+/+/twin/+/+",
    "$hw/events/device/+/+/state/update/result",
    "$hw/events/node/+/membership/get/result",
)
REPLAY = Path(__file__).parent / "kubeedge_exchanges.jsonl"


def shape(value: object) -> object:
    """`value` without what differs from run to run: times, and the ids of what nobody asked for."""
    if isinstance(value, dict):
        return {
            key: "..." if key in ("timestamp", "lastOnlineTime") else shape(entry)
            for key, entry in value.items()
        }
    return value


@pytest.mark.parametrize("broker", ["mosquitto", "internal"])
@pytest.mark.parametrize("interpreter", interpreters.NAMES)
def test_the_exchanges_of_a_real_edgecore(interpreter: str, broker: str, tmp_path: Path) -> None:
    port = free_port()
    config: dict[str, Any] = {"port": port}
    with ExitStack() as stack:
        if broker == "mosquitto":
            stack.enter_context(mosquitto(port))
        else:
            config = {"mqttMode": 0, "broker": config}
        stack.enter_context(gateway(interpreter, tmp_path, config))
        with Application(port, *TOPICS) as application:
            application.until_answered()
            while not application.got.empty():
                application.got.get()
            for line in REPLAY.read_text().splitlines():
                exchange = json.loads(line)
                said = application.ask(exchange["topic"], exchange["payload"], len(exchange["answers"]))
                for (topic, payload), expected in zip(said, exchange["answers"], strict=True):
                    assert topic == expected["topic"]
                    if expected.get("any_event_id"):
                        payload["event_id"] = "..."
                    if "reason_starts" in expected:
                        assert payload["code"] == 400 and payload["reason"].startswith(
                            expected["reason_starts"]
                        )
                    else:
                        assert shape(payload) == shape(expected["payload"]), exchange["topic"]


@pytest.mark.parametrize("interpreter", interpreters.NAMES)
def test_the_broker_goes_and_comes_back(interpreter: str, tmp_path: Path) -> None:
    port = free_port()
    with mosquitto(port), gateway(interpreter, tmp_path, {"port": port}) as running:
        with Application(port, *TOPICS) as application:
            application.until_answered()
            application.ask(
                DEV + "twin/update", {"event_id": "1", "twin": {"temperature": {"actual": {"value": "1"}}}}, 2
            )
        running.process.poll()
    # The gateway of this store starts before there is a broker, and finds it.
    with gateway(interpreter, tmp_path, {"port": port}) as running:
        for _ in range(2):
            with mosquitto(port), Application(port, *TOPICS) as application:
                application.until_answered()
                while not application.got.empty():
                    application.got.get()
                said = application.ask(DEV + "twin/get", {"event_id": "2"})
                assert said[0][1]["twin"]["temperature"]["actual"]["value"] == "1"


@pytest.mark.parametrize("interpreter", interpreters.NAMES)
def test_uploads_survive_the_gateway(interpreter: str, tmp_path: Path) -> None:
    port = free_port()
    with mosquitto(port):
        with (
            gateway(interpreter, tmp_path, {"port": port}) as running,
            Application(port, *TOPICS) as application,
        ):
            assert running.ready[1] == "0"
            application.until_answered()
            for topic in (
                "$hw/events/upload/a/b",
                "SYS/dis/upload_records",
                "me/user/x",
                "not/for/the/cloud",
            ):
                application.say(topic, b"\x00\xff")
            application.until_answered()  # what was said before has been taken
        with gateway(interpreter, tmp_path, {"port": port}) as running:
            assert running.ready[1] == "3"
