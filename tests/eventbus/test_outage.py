"""The bridge is away, for long, and the gateway loses its power meanwhile: what applications said arrives.

Everything is real: the bridge with its folder, the gateway on MicroPython in a board's heap, mosquitto and a
paho client that only knows KubeEdge's topics.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from installation import BRIDGE, HOST, Process, micropython, wait_for
from peers import DEV, Application, mosquitto

from motelet.tools.freeport import free_port
from motelet.uploads import UPLOADS_MAX

pytestmark = pytest.mark.slow
RESULT = DEV + "twin/update/result"
OVER = 6  # uploads more than the gateway has room for
MANIFESTS = """
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: model, namespace: default}
spec:
  protocol: mqtt
  properties:
  - {name: temperature, type: STRING, accessMode: ReadWrite, visitors: {protocolName: mqtt, configData: {}}}
  - {name: setpoint, type: STRING, accessMode: ReadWrite, visitors: {protocolName: mqtt, configData: {}}}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: dev1, namespace: default}
spec:
  deviceModelRef: {name: model}
  nodeName: edge-1
  protocol: {protocolName: mqtt}
  properties:
  - {name: temperature, reportToCloud: true}
  - {name: setpoint, reportToCloud: true}
---
apiVersion: rules.kubeedge.io/v1
kind: RuleEndpoint
metadata: {name: my-eventbus, namespace: default}
spec: {ruleEndpointType: eventbus, properties: {}}
---
apiVersion: rules.kubeedge.io/v1
kind: RuleEndpoint
metadata: {name: my-rest, namespace: default}
spec: {ruleEndpointType: rest, properties: {}}
"""
RULE = """
apiVersion: rules.kubeedge.io/v1
kind: Rule
metadata: {name: alarms, namespace: default}
spec:
  source: my-eventbus
  sourceResource: {topic: alarm/+, node_name: edge-1}
  target: my-rest
  targetResource: {resource: "http://example.invalid/"}
"""


class System:
    """The processes; `port` is that of mosquitto, which the test starts."""

    def __init__(self, folder: Path) -> None:
        self.manifests = folder / "manifests"
        self.manifests.mkdir()
        (self.manifests / "all.yaml").write_text(MANIFESTS)
        self.port, bridge_port = free_port(), free_port()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [
            *BRIDGE,
            "--plain",
            "--listen",
            f"{HOST}:{bridge_port}",
            "--manifests",
            str(self.manifests),
        ]
        self.bridge = Process(command, folder / "bridge.log", environment, folder)
        link = {"host": HOST, "port": bridge_port, "path": "/motelet/v1/edge-1"}
        config = {
            "node": "edge-1",
            "bridge": link,
            "store": {"path": "flash.img", "size": 262144},
            "mqtt": {"host": HOST, "port": self.port},
        }
        (folder / "gateway.json").write_text(json.dumps(config))
        command, environment = micropython(["-m", "motelet.ports.unix.run", str(folder / "gateway.json")])
        self.gateway = Process(command, folder / "gateway.log", environment, folder)

    def twins(self) -> dict[str, Any]:
        """The DeviceStatus as the bridge wrote it: property -> (value, milliseconds)."""
        path = self.manifests / "status" / "default" / "dev1.yaml"
        status = yaml.safe_load(path.read_text())["status"] if path.exists() else {}
        reported = {each["propertyName"]: each["reported"] for each in status.get("twins", ())}
        return {name: (each["value"], int(each["metadata"]["timestamp"])) for name, each in reported.items()}

    def events(self) -> list[tuple[str, str]]:
        """(topic, payload) of what came up, oldest first."""
        path = self.manifests / "status" / "events.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(each["topic"], each["payload"]) for each in map(json.loads, lines)]


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    running = System(tmp_path)
    with mosquitto(running.port):
        try:
            running.bridge.start()
            running.gateway.start()
            yield running
        finally:
            running.gateway.kill()
            running.bridge.kill()


def tell(application: Application, name: str, value: str) -> tuple[str, int]:
    """Tell a value; -> it and the time that the twin gave it."""
    update = {"event_id": value, "twin": {name: {"actual": {"value": value}}}}
    ((_, payload),) = application.ask(DEV + "twin/update", update)
    assert payload["event_id"] == value
    return value, int(payload["twin"][name]["actual"]["metadata"]["timestamp"])


def test_reports_and_uploads_of_an_outage_arrive_newest_first_and_none_is_lost(system: System) -> None:
    with Application(system.port, RESULT, "$hw/events/node/+/membership/get/result") as application:
        application.until_device()
        first = tell(application, "temperature", "before")
        wait_for("the first report of a property is there", lambda: system.twins() == {"temperature": first})
        system.bridge.kill()
        for number in range(3):
            temperature = tell(application, "temperature", f"t{number}")
            setpoint = tell(application, "setpoint", f"s{number}")
        for number in range(10):
            application.say("$hw/events/upload/count", f"u{number}")
        tell(application, "temperature", "last")  # what was said before it is in flash
        system.gateway.kill()
        system.gateway.start()
        application.until_device()
        setpoint = tell(application, "setpoint", "after the power was back")
        for number in range(10, UPLOADS_MAX + OVER):
            application.say("SYS/dis/upload_records", f"u{number}")
        temperature = tell(application, "temperature", "newest")
        system.bridge.start()
        wanted = {"temperature": temperature, "setpoint": setpoint}
        wait_for("the newest of each is there, with its own time", lambda: system.twins() == wanted)
        kept = [f"u{number}" for number in range(OVER, UPLOADS_MAX + OVER)]
        wait_for("the uploads are there", lambda: len(system.events()) >= len(kept))
        assert [payload for _, payload in system.events()] == kept
        dropped = system.gateway.lines("upload dropped", 'reason="queue full"')
        assert len(dropped) == OVER
        assert f"sum={OVER}" in dropped[-1]


def test_a_rule_is_made_while_the_gateway_is_away_and_holds_while_the_bridge_is(system: System) -> None:
    with Application(system.port, RESULT, "$hw/events/node/+/membership/get/result") as application:
        application.until_device()
        system.gateway.kill()
        (system.manifests / "rule.yaml").write_text(RULE)
        system.gateway.start()
        system.bridge.wait("board holds", "kubeedge/rules/subscriptions")
        system.bridge.kill()
        system.gateway.kill()
        system.gateway.start()
        application.until_device()
        application.say("default/alarm/door", "open")
        application.say("default/other", "not asked for")
        tell(application, "temperature", "1")  # what was said before it is in flash
        system.bridge.start()
        wait_for("the message is there", lambda: system.events() == [("default/alarm/door", "open")])
        (system.manifests / "rule.yaml").unlink()
        system.bridge.wait("board holds", "kubeedge/rules/subscriptions", "version=none")
        application.until_device()
        application.say("default/alarm/door", "closed")
        application.say("$hw/events/upload/end", "end")
        wait_for("the end is there", lambda: len(system.events()) == 2)
        assert system.events()[1] == ("$hw/events/upload/end", "end")
