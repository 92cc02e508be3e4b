"""DeviceStatus objects as YAML files: ``<folder>/<namespace>/<name>.yaml``, one a Device.

A change is merged into what is stored, so that a restarted bridge keeps what is not reported again.
All calls block on the disk; the caller runs them in a thread, one at a time.
"""

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cloud_bridge.backends import files, yamlfile
from cloud_bridge.backends.base import (
    DEVICE,
    BackendError,
    EdgeEvent,
    Key,
    StateChange,
    StatusChange,
    TwinChange,
)
from cloud_bridge.logs import Log
from cloud_bridge.names import is_label

EVENTS_SIZE_MAX = 1024 * 1024
"""Bytes of the file of events; a full one becomes ``events.jsonl.1``, in the place of the one before."""

_log = Log("manifests")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9._/-]*\Z")
_BREAKS = re.compile("[\x85\u2028\u2029]")
_NO_WORDS = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Quotes every text that any reader of YAML could take for something else, such as 1e3."""

    def text(self, text: str) -> yaml.ScalarNode:
        if _WORD.match(text) and text.lower() not in _NO_WORDS:
            style = None
        else:
            # What is a line break to YAML 1.1 and none to 1.2 is escaped, and only so within double quotes.
            style = '"' if _BREAKS.search(text) else "'"
        node: yaml.ScalarNode = self.represent_scalar("tag:yaml.org,2002:str", text, style=style)
        return node


_Dumper.add_representer(str, _Dumper.text)


class StatusFolder:
    """The files below `folder`, which is made when it is needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stored: dict[Key, dict[str, Any]] = {}

    def write(self, changes: Mapping[Key, StatusChange]) -> dict[Key, Exception]:
        """Merge each change into its file. What is not in the result is durable."""
        failures: dict[Key, Exception] = {}
        merged: dict[Key, dict[str, Any]] = {}
        folders: dict[Path, OSError | None] = {}
        for key, change in changes.items():
            path = self._path(key)
            try:
                stored = self._load(key)
                status = merge(stored or {}, change)
                if status != stored:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    files.replace(path, _dump(key, status))
                    merged[key] = status
                    folders[path.parent] = None
            except OSError as error:
                failures[key] = BackendError(f"{path}: {error.strerror or error}")
        for folder in folders:
            try:
                files.sync_folder(folder)
            except OSError as error:
                folders[folder] = error
        for key, status in merged.items():
            failed = folders[self._path(key).parent]
            if failed is None:
                self._stored[key] = status
            else:
                failures[key] = BackendError(f"{self._path(key).parent}: {failed.strerror or failed}")
        return failures

    def prune(self, keep: Collection[Key]) -> None:
        """Remove the status of every Device that is not in `keep`. Raises OSError."""
        for path in sorted(self._folder.glob("*/*.yaml")):
            key = Key(DEVICE, path.parent.name, path.stem)
            if key not in keep and is_label(key.namespace):
                path.unlink(missing_ok=True)
                self._stored.pop(key, None)
                _log.info("status removed", key=key)

    def append(self, events: Sequence[EdgeEvent]) -> None:
        """Append the events to the file of events, durably. Raises OSError."""
        path = self._folder / "events.jsonl"
        self._folder.mkdir(parents=True, exist_ok=True)
        data = "".join(_event_line(event) for event in events).encode()
        with open(path, "ab") as file:
            size = file.tell()
            if size and size + len(data) > EVENTS_SIZE_MAX:
                os.replace(path, path.with_name("events.jsonl.1"))
                size = 0
        with open(path, "ab") as file:
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.truncate(path, size)  # no half of it
                raise
        files.sync_folder(self._folder)

    def _path(self, key: Key) -> Path:
        return self._folder / key.namespace / f"{key.name}.yaml"

    def _load(self, key: Key) -> dict[str, Any] | None:
        if key not in self._stored:
            path = self._path(key)
            try:
                documents = yamlfile.parse(path.read_bytes())
                self._stored[key] = dict(documents[0].body["status"])
            except FileNotFoundError:
                return None
            except (yamlfile.ManifestError, LookupError, TypeError, ValueError) as error:
                _log.error("stored status cannot be read, begins anew", key=key, file=path, error=error)
                return None
        return self._stored[key]


def merge(stored: Mapping[str, Any], change: StatusChange) -> dict[str, Any]:
    """`stored` (a DeviceStatus' ``status``) with the change in it; `stored` itself stays as it is."""
    status = dict(stored)  # what is in it is replaced below, never changed
    twins = {each["propertyName"]: each for each in _twins(status)}
    for name, twin in change.twins.items():
        twins[name] = _twin(name, twins.get(name, {}), twin)
    if change.properties is not None:
        twins = {name: twin for name, twin in twins.items() if name in change.properties}
    status["twins"] = list(twins.values())
    if change.state is not None:
        _merge_state(status, change.state)
    return status


def _twins(status: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    twins = status.get("twins")
    for each in twins if isinstance(twins, list) else ():
        if isinstance(each, dict) and isinstance(each.get("propertyName"), str):
            yield each


def _twin(name: str, stored: Mapping[str, Any], change: TwinChange) -> dict[str, Any]:
    metadata = {"timestamp": change.timestamp, "type": change.type}
    twin = {"propertyName": name, "reported": {"value": change.value, "metadata": metadata}}
    if change.observed_desired is not None:
        twin["observedDesired"] = {"value": change.observed_desired, "metadata": dict(metadata)}
    elif "observedDesired" in stored:
        twin["observedDesired"] = stored["observedDesired"]
    return twin


def _merge_state(status: dict[str, Any], change: StateChange) -> None:
    status["state"] = change.state
    if change.last_online_time is not None:
        status["lastOnlineTime"] = change.last_online_time
    extensions = status.get("extensions")
    known = extensions if isinstance(extensions, dict) else {}
    status["extensions"] = {**known, "stateReason": change.reason, "stateTimestamp": change.timestamp}


def _dump(key: Key, status: Mapping[str, Any]) -> bytes:
    body = {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "DeviceStatus",
        "metadata": {"name": key.name, "namespace": key.namespace},
        "spec": {},
        "status": status,
    }
    data: bytes = yaml.dump(body, Dumper=_Dumper, sort_keys=False, encoding="utf-8", allow_unicode=True)
    return data


def _event_line(event: EdgeEvent) -> str:
    payload: dict[str, str]
    try:
        payload = {"payload": event.payload.decode()}
    except UnicodeDecodeError:
        payload = {"payloadHex": event.payload.hex()}
    fields = {"node": event.node, "topic": event.topic, "timestamp": event.epoch_ms, **payload}
    return json.dumps(fields) + "\n"
