"""What a node's mirror has that CloudCore has forgotten: is it still there? Without I/O.

When a Node is deleted, CloudCore forgets what it sent for it. Registered again the node gets what changes
from then on, and nothing of what was before; and what was deleted in between it is not told of either. So
the mirror keeps what it has, but doubts it, and asks, each kind as it can be asked: a ConfigMap or Secret by
a query, a pod by a patch of its status that changes nothing, a device by a report without a value, which is
confirmed for a device that exists and dropped for one that does not. Silence proves the latter only where
CloudCore does confirm reports, which `confirms` says.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cloud_bridge.backends.cloudcore.message import (
    EDGED,
    META,
    OK,
    PATCH,
    QUERY,
    RESOURCE,
    TWIN,
    UPDATE,
    code_of,
    split,
)
from cloud_bridge.backends.cloudcore.objects import Known
from cloud_bridge.backends.cloudcore.reports import Question, twin_report

ASK_SECONDS = 30.0
"""Between two questions about one resource."""
BUSY_SECONDS = 1.0
"""Until it is looked again whether a report is under way still."""
ASKED_MAX = 32
"""Questions under way."""
SILENCES = 3
"""Questions about a device without an answer in one session, each asked `session.ATTEMPTS_MAX` times."""
GONE = (404, 409)
"""Codes of an object that is not there, and of another one by its name."""


@dataclass(slots=True)
class _Doubt:
    due: float = 0.0
    asking: bool = False
    silences: int = 0


class Doubts:
    """What is doubted of one node; `settle(resource, there)` is told what has become clear.

    `uses(resource)` says whether the mirror has a device of this DeviceModel.
    """

    def __init__(
        self,
        now: Callable[[], float],
        epoch_ms: Callable[[], int],
        confirms: Callable[[], bool],
        uses: Callable[[str], bool],
        settle: Callable[[str, bool], None],
    ) -> None:
        self._now = now
        self._epoch_ms = epoch_ms
        self._confirms = confirms
        self._uses = uses
        self._settle = settle
        self._doubts: dict[str, _Doubt] = {}

    def __contains__(self, resource: str) -> bool:
        """Whether the resource is doubted."""
        return resource in self._doubts

    def add(self, resources: Collection[str]) -> None:
        """Doubt these."""
        self._doubts |= {each: _Doubt() for each in resources}

    def drop(self, resource: str) -> None:
        """The resource has come, or has gone."""
        self._doubts.pop(resource, None)

    def begin(self) -> None:
        """A session has begun: everything is asked anew."""
        for doubt in self._doubts.values():
            doubt.asking, doubt.due, doubt.silences = False, 0.0, 0

    def questions(self, known: Mapping[str, Known], busy: Callable[[str], bool]) -> Iterator[Question]:
        """What is to be asked now; the mirror has `known`, and of what is `busy` a report is under way."""
        now = self._now()
        for resource, doubt in tuple(self._doubts.items()):
            if self._full:
                return
            if doubt.asking or now < doubt.due:
                continue
            if busy(resource):
                doubt.due = now + BUSY_SECONDS
                continue
            doubt.due = now + ASK_SECONDS
            question = self._question(resource, doubt, known[resource].uid)
            if question is not None:
                doubt.asking = True
                yield question
            elif not any(split(each)[1] == "device" for each in self._doubts):
                self._settle(resource, split(resource)[1] != "devicemodel" or self._uses(resource))

    @property
    def _full(self) -> bool:
        return sum(each.asking for each in self._doubts.values()) >= ASKED_MAX

    def _question(self, resource: str, doubt: _Doubt, uid: str) -> Question | None:
        namespace, kind, name = split(resource)
        answer = self._asked(resource, doubt)
        if kind in ("configmap", "secret"):
            return Question(QUERY, resource, None, EDGED, META, answer)
        if kind == "pod":
            patch = json.dumps({"metadata": {"uid": uid}, "status": {}})
            return Question(PATCH, f"{namespace}/podpatch/{name}", patch, EDGED, META, answer)
        if kind == "device":
            where = f"device/{namespace}/{name}/twin/edge_updated"
            return Question(UPDATE, where, twin_report({}, self._epoch_ms()), TWIN, RESOURCE, answer)
        return None

    def due(self) -> float:
        """When something is to be asked next, as far as that does not depend on an answer."""
        if self._full:
            return float("inf")
        return min((each.due for each in self._doubts.values() if not each.asking), default=float("inf"))

    def _asked(self, resource: str, doubt: _Doubt) -> Callable[[Any], None]:
        def answered(content: Any) -> None:
            doubt.asking = False
            if self._doubts.get(resource) is not doubt:
                return  # it has come meanwhile
            there = _judge(content)
            if there is None and split(resource)[1] == "device":
                doubt.silences += 1
                if doubt.silences >= SILENCES and self._confirms():
                    there = False
            if there is not None:
                self._settle(resource, there)

        return answered


def _judge(content: Any) -> bool | None:
    """Whether the object is there, by what CloudCore answered; None when that does not tell."""
    if content == OK:
        return True
    if not isinstance(content, Mapping):
        return None
    error = content.get("Err", content)
    if code_of(error) in GONE:
        return False
    return True if error is None or "metadata" in content else None
