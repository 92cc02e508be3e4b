"""Pods of the embedded backend: what the bridge adds to them, in ``<folder>/_pods/<namespace>/<name>.yaml``.

A pod in the folder of YAML has no uid, no status and perhaps no node: an API server and a scheduler
would give it those. Here the uid is made of the pod's spec, so that a changed spec is another pod, as
with kubelet's static pods; the scheduler is `choose`; and both are kept beside the status, so that a pod
stays where it is.
"""

import json
import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml

from cloud_bridge.backends import files, nodebody, podstatus, yamlfile
from cloud_bridge.backends.base import POD, BackendError, Body, Key, NoObjectError, PodChange
from cloud_bridge.logs import Log

FOLDER = "_pods"
"""No namespace can have this name."""

_log = Log("manifests")


class PodFolder:
    """The files below `folder`, made when they are needed. `write` and `prune` block on the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._stored: dict[Key, dict[str, Any]] = {}

    def complete(self, key: Key, body: Body) -> Body:
        """The pod as an API server would show it: with uid, node and status."""
        uid = _uid(key, body)
        stored = self._load(key, uid)
        spec, metadata = body.get("spec"), body["metadata"]
        found = {
            **body,
            "metadata": {**metadata, "uid": uid, "creationTimestamp": stored["created"]},
            "spec": dict(spec) if isinstance(spec, Mapping) else {},
            "status": stored["status"],
        }
        if stored["node"] and not found["spec"].get("nodeName"):
            found["spec"]["nodeName"] = stored["node"]
        return found

    def bind(self, key: Key, node: str, message: str) -> None:
        """The scheduler has put a pod on `node`, or with "" has found none because of `message`."""
        stored = self._stored[key]
        stored["node"] = node
        condition: dict[str, Any] = {"type": "PodScheduled", "status": "True" if node else "False"}
        if not node:
            condition |= {"reason": "Unschedulable", "message": message}
        conditions = [
            each for each in stored["status"].get("conditions", ()) if each["type"] != "PodScheduled"
        ]
        condition["lastTransitionTime"] = _now()
        stored["status"] = {"phase": "Pending", **stored["status"], "conditions": [*conditions, condition]}

    def write(self, changes: Mapping[Key, PodChange], bodies: Mapping[Key, Body]) -> dict[Key, Exception]:
        """Merge each change into its file. What is not in the result is durable."""
        failures: dict[Key, Exception] = {}
        for key, change in changes.items():
            body = bodies.get(key)
            if body is None or body["metadata"]["uid"] != change.uid or change.deleted:
                failures[key] = NoObjectError(str(key))
                continue
            stored = self._stored[key]
            status = podstatus.merge(stored["status"], change.status, _now())
            try:
                if status != stored["status"]:
                    self._put(key, {**stored, "status": status})
                    stored["status"] = status
            except OSError as error:
                failures[key] = BackendError(f"{self._path(key)}: {error.strerror or error}")
        return failures

    def keep(self, key: Key) -> None:
        """Write down what `bind` said. Raises OSError."""
        self._put(key, self._stored[key])

    def prune(self, keep: Collection[Key]) -> None:
        """Remove what belongs to no pod in `keep`. Raises OSError."""
        for path in sorted(self._folder.glob("*/*.yaml")):
            key = Key(POD, path.parent.name, path.stem)
            if key not in keep:
                path.unlink(missing_ok=True)
        for key in [each for each in self._stored if each not in keep]:
            del self._stored[key]

    def _path(self, key: Key) -> Path:
        return self._folder / key.namespace / f"{key.name}.yaml"

    def _load(self, key: Key, uid: str) -> dict[str, Any]:
        stored = self._stored.get(key)
        if stored is None:
            try:
                body = yamlfile.parse(self._path(key).read_bytes())[0].body
                stored = {
                    "uid": body["metadata"]["uid"],
                    "created": body["metadata"]["creationTimestamp"],
                    "node": body["spec"].get("nodeName", ""),
                    "status": body["status"],
                }
            except (FileNotFoundError, NotADirectoryError):
                stored = None
            except (OSError, yamlfile.ManifestError, LookupError, TypeError, AttributeError) as error:
                _log.error("stored pod cannot be read, begins anew", key=key, error=error)
        if stored is None or stored["uid"] != uid:
            stored = {"uid": uid, "created": _now(), "node": "", "status": {}}
        self._stored[key] = stored
        return stored

    def _put(self, key: Key, stored: Mapping[str, Any]) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": key.name,
                "namespace": key.namespace,
                "uid": stored["uid"],
                "creationTimestamp": stored["created"],
            },
            "spec": {"nodeName": stored["node"]} if stored["node"] else {},
            "status": stored["status"],
        }
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(path, yaml.safe_dump(body, sort_keys=False, allow_unicode=True).encode())
        files.sync_folder(path.parent)


def choose(pod: Body, boards: Mapping[str, nodebody.Board], pods: Mapping[str, int]) -> tuple[str, str]:
    """The node for a pod, the one with the fewest `pods`; ("", why) when there is none."""
    spec = pod.get("spec")
    wanted = spec.get("nodeSelector") if isinstance(spec, Mapping) else None
    fit: list[tuple[int, str]] = []
    for name, board in boards.items():
        labels = nodebody.labels(name, board)
        room = int(nodebody.capacity(board)["pods"])
        if pods.get(name, 0) < room and all(labels.get(k) == v for k, v in (wanted or {}).items()):
            fit.append((pods.get(name, 0), name))
    if fit:
        return min(fit)[1], ""
    return "", f"0/{len(boards)} nodes are available: none has room for it and the labels it selects"


def _uid(key: Key, body: Body) -> str:
    text = json.dumps([key, body.get("spec"), body["metadata"].get("uid")], sort_keys=True)
    return str(UUID(bytes=sha256(text.encode()).digest()[:16], version=5))


def _now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
