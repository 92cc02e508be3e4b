"""What users and devices do all the time: objects that come, change and go, values, events."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass
from typing import Any

from cloud_bridge.backends.base import DEVICE, DEVICE_MODEL, Key
from motelet.tools.simulate.board import Board
from motelet.tools.simulate.cloud import Cloud
from motelet.tools.simulate.field import COMMAND, SETPOINT, Endpoint, Unit
from motelet.tools.simulate.ledger import Ledger, Thing
from motelet.tools.simulate.pods import Pods
from motelet.tools.simulate.schedule import MS, SECOND, SHARED, Schedule

SELDOM_MS = 400_000


@dataclass(frozen=True)
class Pace:
    """How busy users and devices are: the collectCycles that are drawn from, and microseconds on average.

    ask      between two users that do something to a Device
    measure  between two changes of what a device measures
    publish  between two messages of an application
    pod      between two users that do something to a Pod
    """

    cycles_ms: tuple[int, ...]
    ask: int
    measure: int
    publish: int
    pod: int


BUSY = Pace((60_000, 180_000, 180_000, 180_000), 12 * SECOND, 6 * SECOND, 15 * SECOND, 60 * SECOND)
CALM = Pace((180_000, 240_000, 240_000, 240_000), 60 * SECOND, 12 * SECOND, 30 * SECOND, 90 * SECOND)
"""Half the work of a busy world is what its users ask for. The faults of a calm one are the same, and three
of its seeds take the time of two: more orders in which faults and work meet."""
NAMESPACE = "default"
LONG_NAME = "-" + "long" * 50
"""Makes a name that, with what is wrong with the device, is more than a reason may have."""


def model(name: str, padding: int) -> dict[str, Any]:
    """A DeviceModel; `padding` more properties make its devices too large for one message."""
    properties = [
        _property("setpoint", "ReadWrite", "HoldingRegister", SETPOINT),
        _property("command", "ReadWrite", "HoldingRegister", COMMAND, momentary=True),
        _property("level", "ReadOnly", "InputRegister", 0),
    ]
    properties[0] |= {"minimum": "0", "maximum": "65535"}
    for number in range(padding):
        padded = _property(f"padding-{number}", "ReadOnly", "InputRegister", 1 + number)
        properties.append(padded | {"unit": "u" * 500})
    return {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": DEVICE_MODEL,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"protocol": "modbus", "properties": properties},
    }


def _property(name: str, access: str, register: str, offset: int, **data: Any) -> dict[str, Any]:
    config = {"register": register, "offset": offset, "limit": 1, **data}
    visitors = {"protocolName": "modbus", "configData": config}
    return {"name": name, "type": "INT", "accessMode": access, "visitors": visitors}


def device(name: str, node: str, host: str, unit: int, cycle_ms: int, large: bool) -> dict[str, Any]:
    """A Device without desired values."""
    cycles = {"setpoint": cycle_ms, "command": SELDOM_MS, "level": cycle_ms}
    cycles |= {f"padding-{number}": SELDOM_MS for number in range(4 if large else 0)}
    return {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": DEVICE,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "deviceModelRef": {"name": "large" if large else "small"},
            "nodeName": node,
            "protocol": {
                "protocolName": "modbus",
                "configData": {"ip": host, "port": 502, "slaveID": unit, "timeout": 500},
            },
            "properties": [
                {"name": key, "collectCycle": cycle, "reportCycle": 1000} for key, cycle in cycles.items()
            ],
        },
    }


class Workload:
    """Makes the devices of `boards`, and keeps everything busy from `start` to `stop`."""

    def __init__(
        self,
        schedule: Schedule,
        ledger: Ledger,
        cloud: Cloud,
        boards: list[Board],
        devices: int,
        rng: random.Random,
        pace: Pace,
    ) -> None:
        self.bodies: dict[str, dict[str, Any]] = {}
        """Resource to what its Device is, or would be if it were not deleted."""
        self.spoiled: set[str] = set()
        self.running = True
        self._schedule = schedule
        self._ledger = ledger
        self._cloud = cloud
        self._boards = boards
        self._rng = rng
        self._pace = pace
        self._asked = 0
        for name, padding in (("small", 0), ("large", 4)):
            cloud.put(model(name, padding))
        for board in boards:
            self._equip(board, devices)
        self.pods = Pods(cloud, boards, rng)

    def start(self) -> None:
        """Begin to change things."""
        for every, act in (
            (self._pace.ask, self._ask),
            (self._pace.measure, self._measure),
            (self._pace.publish, self._publish),
            (self._pace.pod, self.pods.ask),
        ):
            self._again(every, act)
        for board in self._boards:
            board.busy_users = True

    def _equip(self, board: Board, devices: int) -> None:
        """Give a board its endpoints and devices."""
        rng = self._rng
        for number in range(devices):
            host = f"plc-{board.number}-{number * 3 // devices}"
            if host not in board.endpoints:
                board.endpoints[host] = Endpoint(self._schedule, board.number, rng)
            name = f"device-{board.number}-{number}{LONG_NAME if number == 1 else ''}"
            resource = f"{NAMESPACE}/device/{name}"
            unit = board.endpoints[host].units[number + 1] = Unit(resource, self._ledger)
            self._ledger.things[resource] = Thing(resource, unit)
            body = device(name, board.name, host, number + 1, rng.choice(self._pace.cycles_ms), number == 2)
            self.bodies[resource] = body
            if rng.random() < 0.7:
                self._desire(body, "setpoint", SETPOINT)
            self._cloud.put(body)

    def stop(self) -> None:
        """Everything stays as it is now."""
        self.running = False
        for board in self._boards:
            board.busy_users = False

    def _again(self, every: int, act: Any) -> None:
        def go() -> None:
            if self.running:
                act()
                self._again(every, act)

        after = round(self._rng.expovariate(1) * every) + MS
        self._schedule.at(self._schedule.now + after, SHARED, go)

    def _measure(self) -> None:
        rng = self._rng
        self._ledger.things[rng.choice(list(self._ledger.things))].unit.measure()

    def _publish(self) -> None:
        board = self._rng.choice(self._boards[::4])
        # Now and then many at once, more than the queue holds.
        for _ in range(80 if self._rng.random() < 0.02 else 1):
            board.publish()

    def _ask(self) -> None:
        """A user does something to one object."""
        rng = self._rng
        name = rng.choice(list(self.bodies))
        body = self.bodies[name] = copy.deepcopy(self.bodies[name])
        key = Key(DEVICE, NAMESPACE, body["metadata"]["name"])
        draw = rng.random()
        if key not in self._cloud.objects:
            self._asked += 1
            body["metadata"]["uid"] = f"uid-{self._asked}"
        elif draw < 0.05:
            self.spoiled.discard(name)
            self._mend(body)
            # A command of an object that is made again would be another command.
            body["spec"]["properties"][1].pop("desired", None)
            self._cloud.delete(key)
            return
        elif draw < 0.10:
            self.spoiled.add(name)
            _spoil(body, rng)
        elif draw < 0.20:
            body["spec"]["properties"][0]["collectCycle"] = rng.choice(self._pace.cycles_ms)
        elif draw < 0.35:
            self._desire(body, "command", COMMAND)
        else:
            self._desire(body, "setpoint", SETPOINT)
        if draw >= 0.10 and rng.random() < 0.5:
            self.spoiled.discard(name)
            self._mend(body)
        self._cloud.put(body)

    def _mend(self, body: dict[str, Any]) -> None:
        """Undo `_spoil`."""
        level = body["spec"]["properties"][2]
        level.pop("visitors", None)
        if level["collectCycle"] == 5:
            level["collectCycle"] = self._pace.cycles_ms[0]

    def _desire(self, body: dict[str, Any], prop: str, register: int) -> None:
        name = f"{NAMESPACE}/device/{body['metadata']['name']}"
        self._asked += 1
        self._ledger.things[name].registers[register].values.append(self._asked)
        for each in body["spec"]["properties"]:
            if each["name"] == prop:
                each["desired"] = {"value": str(self._asked)}


def _spoil(body: dict[str, Any], rng: random.Random) -> None:
    """Make of it what a bridge passes on and a board cannot use."""
    level = body["spec"]["properties"][2]
    if rng.random() < 0.5:
        level["collectCycle"] = 5
    else:
        level["visitors"] = {"protocolName": "modbus", "configData": {"register": "NoSuchRegister"}}
