"""What a board says of its pods, on its way to CloudCore: the newest status of each, until it is confirmed.

Without I/O. A status goes up as a patch that is guarded by the pod's uid (`podpatch`), and that the pod is
gone as a `delete` with the uid for a precondition, which is how kubelet ends a pod that was asked to go;
CloudCore's own `delete` follows. A pod that the cluster does not have any more needs nothing.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cloud_bridge.backends import nodebody, podstatus
from cloud_bridge.backends.base import PodChange
from cloud_bridge.backends.cloudcore.message import DELETE, EDGED, META, OK, PATCH, code_of
from cloud_bridge.backends.cloudcore.reports import Part, Question

_GONE = (404, 409)
"""Codes of a pod that is not there, and of another one by its name."""


@dataclass(slots=True)
class _Pod:
    content: dict[str, Any]
    part: Part = field(default_factory=Part)


class Pods:
    """The pods of one node by resource; `stored` is what was last said of each, as `merge` returned it."""

    def __init__(
        self, stored: Mapping[str, dict[str, Any]], now: Callable[[], float], epoch_ms: Callable[[], int]
    ) -> None:
        self._pods = {resource: _Pod(content) for resource, content in stored.items()}
        self._now = now
        self._epoch_ms = epoch_ms
        self.begin()

    def merge(self, resource: str, change: PodChange) -> dict[str, Any]:
        """Take what the board says of a pod; -> all that it said, to be kept on disk."""
        pod = self._pods.get(resource)
        if pod is None or pod.content["uid"] != change.uid:
            pod = self._pods[resource] = _Pod({"uid": change.uid, "status": {}, "deleted": False})
        status = podstatus.merge(pod.content["status"], change.status, nodebody.rfc3339(self._epoch_ms()))
        content = {"uid": change.uid, "status": status, "deleted": change.deleted or pod.content["deleted"]}
        if content != pod.content:
            pod.content = content
            pod.part.renew()
        return content

    def forget(self, resource: str) -> None:
        """The pod is gone."""
        self._pods.pop(resource, None)

    def begin(self) -> None:
        """A session has begun: everything is told once."""
        for pod in self._pods.values():
            pod.part.asking = False
            pod.part.renew()

    def questions(self) -> Iterator[Question]:
        """What is to be sent now."""
        for resource, pod in self._pods.items():
            if pod.part.is_due(self._now()):
                namespace, _, name = resource.split("/")
                answer = self._asked(pod)
                if pod.content["deleted"]:
                    body: Any = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod.content["uid"]}}
                    yield Question(DELETE, resource, body, EDGED, META, answer)
                else:
                    patch = {"metadata": {"uid": pod.content["uid"]}, "status": _whole(pod.content["status"])}
                    text = json.dumps(patch, separators=(",", ":"))
                    yield Question(PATCH, f"{namespace}/podpatch/{name}", text, EDGED, META, answer)

    def parts(self) -> Iterator[Part]:
        """What may be waiting."""
        for pod in self._pods.values():
            yield pod.part

    def _asked(self, pod: _Pod) -> Callable[[Any], None]:
        number = pod.part.ask()

        def answered(content: Any) -> None:
            done = content == OK or (isinstance(content, Mapping) and content.get("Err", content) is None)
            error = content.get("Err", content) if isinstance(content, Mapping) else content
            if done or code_of(error) in _GONE:
                pod.part.confirm(number)
            else:
                pod.part.postpone(self._now())

        return answered


def _whole(status: Mapping[str, Any]) -> dict[str, Any]:
    """The status as a patch that leaves no reason of before in it: what is not said is null."""
    nothing = {"reason": None, "message": None}
    conditions = [{**nothing, **each} for each in status.get("conditions", ())]
    return {**nothing, **status, "conditions": conditions}
