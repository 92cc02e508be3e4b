"""What devices report, on its way to CloudCore: the newest of each value, until CloudCore confirms it.

Without I/O. CloudCore confirms a report that it wrote and says nothing of one that it dropped; it
stores the first report of a property empty; and two reports in a row may undo each other, for it writes
a device's whole list of twins from a copy that may be old. So a report has all that was reported of the
device, a device has one report under way at a time, a property that this session had not reported before
is reported twice, and what stays unconfirmed is tried again, less and less often, up to a bound.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cloud_bridge.backends.base import StateChange, StatusChange
from cloud_bridge.backends.cloudcore.message import OK, RESOURCE, TWIN, UPDATE

TRIES_MAX = 5
"""How often a report is tried, each time asked `session.ATTEMPTS_MAX` times, before it is given up."""
RETRY_SECONDS_MIN = 2.0
RETRY_SECONDS_MAX = 60.0
UNHEALTHY = "unhealthy"
"""KubeEdge's state of a device with which something is wrong."""

_UNKNOWN = {"state": "unknown", "online": "", "reason": ""}


@dataclass(slots=True)
class Part:
    """Something of which CloudCore is to have the newest: which number that has, and which it confirmed."""

    number: int = 0
    confirmed: int = 0
    asking: bool = False
    tries: int = 0
    due: float = 0.0
    given_up: bool = False

    def renew(self) -> None:
        """There is something newer: it is sent at once, whatever became of what was before."""
        self.number += 1
        self.tries, self.due = 0, 0.0

    @property
    def waits(self) -> bool:
        """Whether it is to be sent, now or later."""
        return self.number > self.confirmed and not self.asking

    def is_due(self, now: float) -> bool:
        """Whether it is to be sent now."""
        return self.waits and now >= self.due

    def ask(self) -> int:
        """It is being sent; -> the number of what is."""
        self.asking = True
        return self.number

    def confirm(self, number: int) -> bool:
        """CloudCore has that; -> whether it had been given up before."""
        self.asking = False
        self.confirmed = number
        self.tries = 0
        gave_up, self.given_up = self.given_up, False
        return gave_up

    def postpone(self, now: float) -> bool:
        """CloudCore did not confirm it: later again; -> whether that was the last time."""
        self.asking = False
        self.tries += 1
        self.due = now + min(RETRY_SECONDS_MIN * 2**self.tries, RETRY_SECONDS_MAX)
        if self.tries >= TRIES_MAX:
            self.confirmed, self.given_up = self.number, True
        return self.given_up


@dataclass(slots=True)
class _Device:
    content: dict[str, Any]
    twins: Part = field(default_factory=Part)
    state: Part = field(default_factory=Part)
    seeded: set[str] = field(default_factory=set)
    complaint: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """A message to be sent; `answer` takes the content of CloudCore's answer, or UNANSWERED."""

    operation: str
    resource: str
    content: Any
    source: str
    group: str
    answer: Callable[[Any], None]


class Reports:
    """The reports of one node; resources are ``<namespace>/device/<name>``.

    `stored` is what was last reported of each, as `merge` returned it. `given_up(resource, why)` is
    called for what CloudCore does not confirm; with an empty text for what it does again.
    """

    def __init__(
        self,
        stored: Mapping[str, dict[str, Any]],
        now: Callable[[], float],
        epoch_ms: Callable[[], int],
        given_up: Callable[[str, str], None],
    ) -> None:
        self._devices = {resource: _Device(content) for resource, content in stored.items()}
        self._now = now
        self._epoch_ms = epoch_ms
        self._given_up = given_up
        self.begin()

    def merge(self, resource: str, change: StatusChange) -> dict[str, Any]:
        """Take a report; -> all that was reported of the resource, to be kept on disk."""
        device = self._devices.setdefault(resource, _Device({"twins": {}, "state": None}))
        twins = dict(device.content["twins"])
        for name, twin in change.twins.items():
            observed = twin.observed_desired
            if observed is None:
                observed = twins.get(name, {}).get("observed")
            twins[name] = {"value": twin.value, "type": twin.type, "at": twin.timestamp, "observed": observed}
        if change.properties is not None:
            twins = {name: twin for name, twin in twins.items() if name in change.properties}
        state = device.content["state"] if change.state is None else _state(change.state, device.content)
        if twins != device.content["twins"]:
            device.twins.renew()
        if state != device.content["state"]:
            device.state.renew()
        device.seeded &= twins.keys()
        device.content = {"twins": twins, "state": state}
        return device.content

    def complain(self, resource: str, complaint: str) -> None:
        """Show in the device's state that something is wrong with it; with an empty text, that nothing is."""
        device = self._devices.setdefault(resource, _Device({"twins": {}, "state": None}))
        if complaint != device.complaint:
            device.complaint = complaint
            device.content["state"] = device.content["state"] or _UNKNOWN
            device.state.renew()

    def forget(self, resource: str) -> None:
        """The device is gone."""
        self._devices.pop(resource, None)

    def replaced(self, resource: str) -> None:
        """The device is another one now, or has other properties: tell everything of it anew."""
        if resource in self._devices:
            self._devices[resource].seeded.clear()
            self._devices[resource].twins.renew()
            self._devices[resource].state.renew()

    def begin(self) -> None:
        """A session has begun: everything is told once, for what became of it in the last is not known."""
        for device in self._devices.values():
            device.seeded.clear()
            for part in (device.twins, device.state):
                part.asking = False
                part.renew()

    def questions(self) -> Iterator[Question]:
        """What is to be sent now."""
        for resource, device in self._devices.items():
            namespace, _, name = resource.split("/")
            where = f"device/{namespace}/{name}"
            if device.content["twins"] and device.twins.is_due(self._now()):
                answer = self._asked(resource, device, device.twins)
                content = self._twins(device)
                yield Question(UPDATE, f"{where}/twin/edge_updated", content, TWIN, RESOURCE, answer)
            if device.content["state"] and device.state.is_due(self._now()):
                answer = self._asked(resource, device, device.state)
                content = self._state(device, name)
                yield Question(UPDATE, f"{where}/state/update", content, TWIN, RESOURCE, answer)

    def parts(self) -> Iterator[Part]:
        """What may be waiting."""
        for device in self._devices.values():
            if device.content["twins"]:
                yield device.twins
            if device.content["state"]:
                yield device.state

    def _asked(self, resource: str, device: _Device, part: Part) -> Callable[[Any], None]:
        number, names = part.ask(), set(device.content["twins"])

        def answered(content: Any) -> None:
            if content != OK:
                if part.postpone(self._now()):
                    self._given_up(resource, "CloudCore does not confirm what is reported of it")
                return
            if part.confirm(number):
                self._given_up(resource, "")
            if part is device.twins and not names <= device.seeded:
                device.seeded |= names
                part.number += 1

        return answered

    def asking(self, resource: str) -> bool:
        """Whether a report of the device is under way."""
        return resource in self._devices and self._devices[resource].twins.asking

    def _twins(self, device: _Device) -> dict[str, Any]:
        twins = {name: _twin(twin) for name, twin in device.content["twins"].items()}
        return twin_report(twins, self._epoch_ms())

    def _state(self, device: _Device, name: str) -> dict[str, Any]:
        state = device.content["state"]
        shown = UNHEALTHY if device.complaint else state["state"]
        told = {"name": name, "state": shown, "lastOnlineTime": state["online"]}
        return {"event_id": str(uuid.uuid4()), "timestamp": self._epoch_ms(), "device": told}


def twin_report(twins: Mapping[str, Any], epoch_ms: int) -> dict[str, Any]:
    """The content of a message that reports these twins."""
    return {"event_id": str(uuid.uuid4()), "timestamp": epoch_ms, "twin": twins}


def _twin(twin: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {"timestamp": int(twin["at"])}
    told = {
        "actual": {"value": twin["value"], "metadata": metadata},
        "optional": True,
        "metadata": {"type": twin["type"]},
    }
    if twin["observed"] is not None:
        told["expected"] = {"value": twin["observed"], "metadata": metadata}
    return told


def _state(change: StateChange, content: Mapping[str, Any]) -> dict[str, str]:
    before = content["state"] or {}
    online = change.last_online_time or before.get("online", "")
    return {"state": change.state, "online": online, "reason": change.reason}
