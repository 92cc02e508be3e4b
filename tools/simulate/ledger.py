"""What was promised to whom, and whether it was kept: the invariants of the system.

The ledger is told what users ask for, what devices are written, what the backend stores and what is
acknowledged on either side. It knows nothing of how boards and bridges work, only what must be true:

- a register is written a desired value that somebody asked for, never an older one than before, never one
  that it holds already, and once for each time that it was asked for or that the device forgot it;
  a command is written once, whatever happens;
- what the bridge acknowledged is in the backend, and what the board acknowledged is in its flash, at that
  moment and after every cut; an event that was taken arrives unless the log says that it was dropped;
- a measured value, an observed desired value and a version on a board are never followed by an older one;
- a board is told to forget only what is not there (any more);
- an application runs once at a time and not after its pod has succeeded, and finds what it has kept; the
  restarts that a pod's status counts become no fewer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cloud_bridge.backends.base import StatusChange
from cloud_bridge.devicecontroller import values
from motelet.tools.simulate.field import COMMAND, SETPOINT, Unit
from motelet.tools.simulate.schedule import SECOND, Schedule


class InvariantError(Exception):
    """The system broke a promise; the text says when and which."""


@dataclass
class Asked:
    """What users asked of one register: the values in their order, and how often each was written."""

    values: list[int] = field(default_factory=list)
    written: dict[int, int] = field(default_factory=dict)
    resets: dict[int, int] = field(default_factory=dict)  # of the device, when the value was written first
    newest: int = -1  # index in `values` of the newest that was written


@dataclass
class Thing:
    """One device, over all its lives as an object."""

    name: str
    unit: Unit
    registers: Mapping[int, Asked] = field(default_factory=lambda: {SETPOINT: Asked(), COMMAND: Asked()})
    level: int = -1  # the newest in the backend
    observed: int = -1


class Ledger:
    """Watches over the promises; the first that is broken ends the simulation."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.failing_tasks = False
        """A task of a board may fail, and a board may fail to start: an error was injected."""
        self.over = False
        """The simulation has ended, and what is cleared away is nobody's fault."""
        self.things: dict[str, Thing] = {}
        self.versions: defaultdict[str, list[str]] = defaultdict(list)
        """Resource to the versions that boards were to have of it, in their order."""
        self.runs: dict[str, int] = {}
        """UID of a pod to what its application has counted its runs to."""
        self.unkept: set[str] = set()
        """Pods of which a full flash could not keep how they are, which the board's log says."""
        self._restarts: dict[tuple[str, str], int] = {}
        self._succeeded: set[str] = set()
        self.events: set[str] = set()  # what applications handed to a board and may not be lost
        self.dropped: set[str] = set()
        self.arrived: dict[str, int] = {}
        self.device_writes = 0
        self.acknowledged = 0

    def fail(self, text: str) -> None:
        """A promise was broken."""
        if self.schedule.failure is None and not self.over:
            self.schedule.failure = InvariantError(f"at {self.schedule.now / SECOND:.3f} s: {text}")

    # -- devices -----------------------------------------------------------------------------

    def written(self, unit: Unit, register: int, value: int) -> None:
        """A gateway writes `value` to a register, which holds what it held so far."""
        self.device_writes += 1
        asked = self.things[unit.name].registers.get(register)
        what = f"{unit.name}: register {register} is written {value}"
        if asked is None or value not in asked.values:
            self.fail(f"{what}, which nobody asked for")
            return
        index = asked.values.index(value)
        asked.written[value] = times = asked.written.get(value, 0) + 1
        if index < asked.newest:
            self.fail(f"{what} after {asked.values[asked.newest]}, which is newer")
        if register == COMMAND:
            if times > 1:
                self.fail(f"{what}: a command, for the {times}. time")
        else:
            if unit.holding[register] == value:
                self.fail(f"{what}, which it holds already")
            lost = unit.resets - asked.resets.setdefault(value, unit.resets)
            if times > 1 + lost:
                self.fail(f"{what} for the {times}. time, the device has forgotten it {lost} times")
        asked.newest = index

    # -- the backend -------------------------------------------------------------------------

    def stored(self, name: str, change: StatusChange) -> None:
        """The backend stores this for a device."""
        thing = self.things[name]
        for prop, twin in change.twins.items():
            if prop == "level":
                level = int(twin.value)
                if level < thing.level:
                    self.fail(f"{name}: level {level} is stored after {thing.level}")
                thing.level = level
            if prop == "setpoint" and twin.observed_desired is not None:
                asked = thing.registers[SETPOINT].values
                index = asked.index(int(twin.observed_desired))
                if index < thing.observed:
                    older, newer = asked[index], asked[thing.observed]
                    self.fail(f"{name}: observed {older} is stored after {newer}")
                thing.observed = index

    def acked_up(self, name: str, status: Mapping[str, Any] | None, prop: str | None, sent: Any) -> None:
        """A board was told that the backend holds what it sent; `status` is what the backend holds."""
        self.acknowledged += 1
        if status is None:
            return  # the Device was deleted meanwhile, and its status with it
        if prop is None:
            state, reason = sent
            held = status.get("state"), status.get("extensions", {}).get("stateReason")
            if held[0] != state or not isinstance(held[1], str) or not reason.startswith(held[1]):
                self.fail(f"{name}: state {state} ({reason}) was acknowledged, the backend holds {held}")
            return
        value, observed = sent
        twin = next((each for each in status.get("twins", ()) if each["propertyName"] == prop), None)
        if twin is None or twin["reported"]["value"] != values.to_text("INT", value):
            self.fail(f"{name}: {prop} {value} was acknowledged, the backend holds {twin}")
        elif observed is not None and twin.get("observedDesired", {}).get("value") != observed:
            self.fail(f"{name}: {prop} observed {observed} was acknowledged, the backend holds {twin}")

    def arrived_event(self, topic: str) -> None:
        """The backend stores an event."""
        self.arrived[topic] = self.arrived.get(topic, 0) + 1

    def acked_event(self, topic: str) -> None:
        """A board was told that the backend holds an event."""
        self.acknowledged += 1
        if topic not in self.arrived:
            self.fail(f"event {topic} was acknowledged, the backend does not have it")

    def missing_events(self) -> list[str]:
        """What was taken, not dropped, and is not in the backend."""
        return sorted(self.events - self.dropped - self.arrived.keys())

    # -- pods --------------------------------------------------------------------------------

    def application(self, resource: str, uid: str, running: bool) -> None:
        """A board starts the application of a pod, which is `running`, or is not."""
        if running:
            self.fail(f"{resource} runs twice")
        if uid in self._succeeded and resource not in self.unkept:
            self.fail(f"{resource} is started although it has succeeded")

    def runs_found(self, resource: str, uid: str, runs: int) -> None:
        """An application finds that it has run so many times."""
        if uid not in self.runs and runs:
            self.fail(f"{resource} finds {runs} runs of a pod before it")
        if runs < self.runs.setdefault(uid, 0):
            self.fail(f"{resource} has counted {self.runs[uid]} runs, and finds {runs}")

    def stored_pod(self, resource: str, uid: str, status: Mapping[str, Any]) -> None:
        """The backend stores this status of a pod."""
        if status["phase"] == "Succeeded":
            self._succeeded.add(uid)
        elif uid in self._succeeded:
            self.fail(f"{resource} is {status['phase']} after it has succeeded")
        for each in status["containerStatuses"]:
            restarts, before = each["restartCount"], self._restarts.get((uid, each["name"]), 0)
            if restarts < before and resource not in self.unkept:
                self.fail(f"{resource}: {restarts} restarts are stored after {before}")
            self._restarts[uid, each["name"]] = restarts

    def acked_pod(self, pod: Any, body: Mapping[str, Any] | None) -> None:
        """A board was told that the backend, where the Pod is `body`, holds what it says of `pod` now."""
        self.acknowledged += 1
        if body is None or body["metadata"]["uid"] != pod.uid or pod.uid in self._succeeded:
            return
        stored = body.get("status", {}).get("containerStatuses", ())
        if [each["restartCount"] for each in stored] != [each.restarts for each in pod.containers]:
            self.fail(f"{pod.resource}: its status was acknowledged, the backend holds {stored}")

    # -- what boards hold --------------------------------------------------------------------

    def version(self, name: str, version: str) -> None:
        """The effective object has this version from now on."""
        self.versions[name].append(version)

    def acked_down(self, name: str, version: str, held: str | None) -> None:
        """The bridge was told, or was told before, that a board holds `version`; it holds `held`."""
        versions = self.versions[name]
        if held is not None and held not in versions and name not in self.things:
            return  # newer than all that was acknowledged
        if _last(versions, held) < versions.index(version):
            self.fail(f"{name}: version {version} was acknowledged, the board holds {held or 'nothing'}")


def _last(items: list[str], item: str | None) -> int:
    return max((at for at, each in enumerate(items) if each == item), default=-1)
