"""What the demo's YAML says: one row a property, joined from Device, DeviceModel and DeviceStatus.

The demo reads the same files as the bridge and takes nothing from the bridge's memory: what the table
shows is what a user with a text editor would find.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Objects = dict[tuple[str, str, str], dict[str, Any]]
"""Resources by kind, namespace and name."""

# The parser written in C is not in every PyYAML; it is ten times as fast and otherwise the same.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

IN_SYNC = "in-sync"
PENDING = "pending"
OFFLINE = "offline"


@dataclass(frozen=True)
class Twin:
    """One property of one device as the files have it; the values are texts, None where a file names none."""

    node: str
    device: str
    name: str
    type: str
    desired: str | None
    reported: str | None
    age: float | None
    """Seconds since the value was reported."""
    state: str
    """The device's own state: online, offline, or empty as long as none was reported."""
    reason: str = ""
    """Why it is in this state, or what is wrong with it though it is online."""

    @property
    def synchronised(self) -> bool:
        """Whether something was reported, and it is what is desired, if anything is."""
        if self.reported is None or self.desired is None:
            return self.reported is not None
        return self._same(self.desired, self.reported)

    def _same(self, desired: str, reported: str) -> bool:
        if self.type in ("INT", "FLOAT", "DOUBLE"):
            try:
                return abs(float(desired) - float(reported)) < 1e-6
            except ValueError:
                return False
        if self.type == "BOOLEAN":
            return desired.lower() == reported.lower()
        return desired == reported

    def sync(self, reachable: bool) -> str:
        """The word for the table. `reachable`: bridge and gateway run, so that this can change at all."""
        if not reachable or self.state == "offline":
            return OFFLINE
        if self.desired is None and self.reported is not None:
            return "-"
        return IN_SYNC if self.synchronised else PENDING


class Reader:
    """Reads a folder of manifests again and again; a file that has not changed is not parsed again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[Path, tuple[object, Objects, str | None]] = {}

    def read(self) -> tuple[list[Twin], list[str]]:
        """The rows, and a line for each file that cannot be read, of which the last good state is shown."""
        objects: Objects = {}
        problems = []
        # The set is taken anew each time: a file that is gone takes its objects along.
        self._files = {path: self._file(path) for path in sorted(self._folder.rglob("[!.]*.yaml"))}
        for _, found, problem in self._files.values():
            objects |= found
            if problem is not None:
                problems.append(problem)
        return list(_twins(objects, time.time())), problems

    def _file(self, path: Path) -> tuple[object, Objects, str | None]:
        stamp: object = None
        known = self._files.get(path, (None, {}, None))
        try:
            status = os.stat(path)
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            if stamp == known[0]:
                return known
            return stamp, _objects(path.read_text(encoding="utf-8")), None
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            return stamp, known[1], f"{path.name}, line {line}: {error.problem}"
        except (OSError, ValueError, yaml.YAMLError) as error:
            return stamp, known[1], f"{path.name}: {error}"


def _objects(text: str) -> Objects:
    found = {}
    for document in yaml.load_all(text, Loader=_LOADER):
        if isinstance(document, dict):
            metadata = _mapping(document.get("metadata"))
            key = (
                str(document.get("kind")),
                str(metadata.get("namespace", "default")),
                str(metadata.get("name")),
            )
            found[key] = document
    return found


def _twins(objects: Objects, now: float) -> Iterator[Twin]:
    for (kind, namespace, name), device in objects.items():
        if kind != "Device":
            continue
        spec = _mapping(device.get("spec"))
        model = objects.get(
            ("DeviceModel", namespace, str(_mapping(spec.get("deviceModelRef")).get("name"))), {}
        )
        types = {
            each["name"]: each.get("type")
            for each in _named(_mapping(model.get("spec")).get("properties"), "name")
        }
        status = _mapping(objects.get(("DeviceStatus", namespace, name), {}).get("status"))
        reports = {each["propertyName"]: each for each in _named(status.get("twins"), "propertyName")}
        for each in _named(spec.get("properties"), "name"):
            reported = _mapping(reports.get(each["name"], {}).get("reported"))
            yield Twin(
                node=str(spec.get("nodeName", "")),
                device=name,
                name=each["name"],
                type=str(types.get(each["name"])),
                desired=_text(_mapping(each.get("desired")).get("value")),
                reported=_text(reported.get("value")),
                age=_age(reported, now),
                state=str(status.get("state", "")),
                reason=str(_mapping(status.get("extensions")).get("stateReason", "")),
            )


def _age(reported: dict[str, Any], now: float) -> float | None:
    """KubeEdge keeps the time of a report as decimal milliseconds in its metadata."""
    try:
        return now - float(_mapping(reported.get("metadata"))["timestamp"]) / 1000
    except (KeyError, ValueError, TypeError):
        return None


def _named(value: Any, key: str) -> list[dict[str, Any]]:
    """The items of a list that are mappings with a text under `key`; a file half edited has others too."""
    items = value if isinstance(value, list) else []
    return [item for item in items if isinstance(item, dict) and isinstance(item.get(key), str)]


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
