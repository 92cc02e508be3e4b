"""What users do to pods, and how everything about them is when all is quiet."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

from cloud_bridge.backends.base import CONFIG_MAP, POD, Key
from motelet.edged import RUNNING, TERMINATED, WAITING
from motelet.tools.simulate.board import Board
from motelet.tools.simulate.cloud import Cloud

NAMESPACE = "default"
POLICIES = ("Always", "OnFailure")
"""Of the pods of a board, one each."""
_STATES = {WAITING: "waiting", RUNNING: "running", TERMINATED: "terminated"}


class Pods:
    """The pods of those boards that run applications."""

    def __init__(self, cloud: Cloud, boards: list[Board], rng: random.Random) -> None:
        self._cloud = cloud
        self._rng = rng
        self._boards = [board for board in boards if board.app]
        self._made = 0
        self._names = {
            f"pod-{board.number}-{index}": (board.name, policy)
            for board in self._boards
            for index, policy in enumerate(POLICIES)
        }
        for name in self._names:
            self._map(name)
            self._make(name)

    def ask(self) -> None:
        """A user does something to one pod."""
        rng = self._rng
        name = rng.choice(list(self._names))
        key = Key(POD, NAMESPACE, name)
        pod = self._cloud.objects.get(key)
        draw = rng.random()
        if pod is None:
            self._make(name)
        elif draw < 0.1:
            self._cloud.delete(key)  # as with --force: nobody waits for the board
        elif draw < 0.4:
            gone = {"deletionTimestamp": "2027-01-15T08:00:00Z", "deletionGracePeriodSeconds": 2}
            self._cloud.put({**pod, "metadata": {**pod["metadata"], **gone}})
        elif draw < 0.7:
            self._map(name)
        else:
            container = {**pod["spec"]["containers"][0], "args": [str(rng.random())]}
            self._cloud.put({**pod, "spec": {**pod["spec"], "containers": [container]}})

    def _map(self, name: str) -> None:
        """Make, or change, the ConfigMap that the pod mounts."""
        metadata = {"name": name, "namespace": NAMESPACE}
        data = {"settings.txt": str(self._rng.random()) * self._rng.randrange(1, 60)}
        self._cloud.put({"apiVersion": "v1", "kind": CONFIG_MAP, "metadata": metadata, "data": data})

    def _make(self, name: str) -> None:
        node, policy = self._names[name]
        self._made += 1
        mount = {"name": "settings", "mountPath": "/etc"}
        container = {"name": "main", "image": "micropython", "command": ["app"], "volumeMounts": [mount]}
        self._cloud.put(
            {
                "apiVersion": "v1",
                "kind": POD,
                "metadata": {"name": name, "namespace": NAMESPACE, "uid": f"pod-uid-{self._made}"},
                "spec": {
                    "nodeName": node,
                    "restartPolicy": policy,
                    "terminationGracePeriodSeconds": 2,
                    "containers": [container],
                    "volumes": [{"name": "settings", "configMap": {"name": name}}],
                },
            }
        )

    # -- what has to be true -----------------------------------------------------------------

    def wrong(self) -> Iterator[str]:
        """What is not as it should be when all is quiet."""
        for board in self._boards:
            held = dict(board.gateway.edged.pods) if board.gateway.edged is not None else {}
            for name, (node, _) in self._names.items():
                if node == board.name:
                    resource = f"{NAMESPACE}/pod/{name}"
                    pod = self._cloud.objects.get(Key(POD, NAMESPACE, name))
                    yield from _wrong_pod(resource, pod, held.pop(resource, None))
            for resource in held:
                yield f"{board.name} has {resource}, which nobody asked for"


def _wrong_pod(resource: str, wanted: Mapping[str, Any] | None, held: Any) -> Iterator[str]:
    if wanted is None:
        if held is not None:
            yield f"{resource}: the board has it, and it is gone"
        return
    if wanted["metadata"].get("deletionTimestamp"):
        yield f"{resource}: it is still to go"
    elif held is None or held.uid != wanted["metadata"]["uid"]:
        yield f"{resource}: the board has {held and held.uid}"
    else:
        status = wanted.get("status", {}).get("containerStatuses") or [{}]
        yield from _wrong_container(resource, status[0], held.containers[0])


def _wrong_container(resource: str, status: Mapping[str, Any], container: Any) -> Iterator[str]:
    state = _STATES[container.state]
    if (container.run is not None) != (container.state == RUNNING) or container.stopping:
        yield f"{resource}: it is {state}, and its application {'runs' if container.run else 'does not run'}"
    if container.state == WAITING and container.due is None:
        yield f"{resource}: it waits for nothing, {container.reason} {container.message}"
    if [*status.get("state", ())] != [state] or status.get("restartCount") != container.restarts:
        yield f"{resource}: it is {state}, restarted {container.restarts} times, its status {status}"
