"""What boards say of their pods, written as PodStatus: the newest of each pod, as often as it takes.

A status counts as taken when the backend holds it. The deletion of a pod is confirmed when its board,
connected, says that it does not hold it; nobody else can know. Events are derived from what changed
between the stored status and the new one, so a board does not have to keep any.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cloud_bridge.backends.base import (
    POD,
    Backend,
    BackendError,
    Body,
    Key,
    LostError,
    NoObjectError,
    PodChange,
)
from cloud_bridge.edgecontroller.downstream import FINISHED, Downstream, node_of, phase_of
from cloud_bridge.edgecontroller.effective import HELD, deleted
from cloud_bridge.edgecontroller.status import (
    BoardStatus,
    gate_moved,
    parse,
    pod_status,
    ready_of,
    waiting_status,
)
from cloud_bridge.logs import Log
from cloud_bridge.resources import PodReport, Refusal, Settle
from motelet import protocol

RETRY_SECONDS_MIN = 0.2
RETRY_SECONDS_MAX = 10.0
"""How long to wait after a write that failed: doubling from the one to the other."""

_log = Log("edgecontroller")


@dataclass(slots=True)
class _Pending:
    """What waits to be written for one pod, and whom to tell."""

    change: PodChange
    settle: list[Settle] = field(default_factory=list)


class Upstream:
    """Takes the status of pods and writes it. `run` does the writing."""

    def __init__(self, backend: Backend, downstream: Downstream) -> None:
        self._backend = backend
        self._downstream = downstream
        self._pending: dict[Key, _Pending] = {}
        self._told: dict[Key, tuple[str, str]] = {}
        self._work = asyncio.Event()
        self.addresses: dict[str, str] = {}
        self.connected: set[str] = set()

    def take(self, node: str, message: PodReport, settle: Settle) -> None:
        """Take what `node` says of a pod; `settle` is called when it is durable, or refused."""
        key = key_of(message.resource)
        pod = self._backend.get(key) if key is not None else None
        try:
            board = parse(message.content)
        except ValueError as error:
            settle(Refusal(protocol.INVALID, f"{message.resource}: {error}"))
            return
        if key is None or pod is None or node_of(pod) != node or pod["metadata"].get("uid") != board.uid:
            settle(Refusal(protocol.UNKNOWN, f"{message.resource} is not a pod of this node"))
            return
        change = self._change(node, key, pod, board)
        if change is None:
            settle(None)
            return
        waiting = self._pending.pop(key, None)
        self._pending[key] = _Pending(change, [*(waiting.settle if waiting else ()), settle])
        self._work.set()

    def look(self, node: str) -> None:
        """Tell what the node cannot run; only of one that is connected, for who has it writes its pods."""
        if node not in self.connected:
            return
        problems = self._downstream.problems(node)
        for key, error in problems.items():
            pod = self._backend.get(key)
            if pod is None or self._told.get(key) == (error.reason, str(error)):
                continue
            self._told[key] = (error.reason, str(error))
            if error.reason == HELD:
                self._backend.tell(key, HELD, str(error), False)
            else:
                self._backend.tell(key, "Failed", f"Error: {error.reason}: {error}", True)
            if phase_of(pod) in ("", "Pending") and not deleted(pod):
                self._say(key, pod, waiting_status(pod, error, time.time_ns() // 1_000_000))
        for key in self._downstream.pods.nodes.get(node, ()):
            pod = self._backend.get(key)
            if pod is not None and gate_moved(pod) and key not in self._pending:
                self._say(key, pod, {"conditions": [ready_of(pod)]})
        for key in [
            each
            for each in self._told
            if each not in problems and self._downstream.pods.node(each) in ("", node)
        ]:
            del self._told[key]

    async def run(self) -> None:
        """Write what was taken, until cancelled; what is under way is finished by `flush`."""
        retry = RETRY_SECONDS_MIN
        while True:
            await self._work.wait()
            if await self.flush():
                retry = RETRY_SECONDS_MIN
            else:
                await asyncio.sleep(retry)
                retry = min(retry * 2, RETRY_SECONDS_MAX)

    async def flush(self) -> bool:
        """Write all that waits, once. False when some of it has to be tried again."""
        self._work.clear()
        pending, self._pending = self._pending, {}
        if not pending:
            return True
        failures = await self._backend.write_pods({key: each.change for key, each in pending.items()})
        again = False
        for key, each in pending.items():
            failure = failures.get(key)
            if isinstance(failure, BackendError):
                _log.warning("pod status not written, will try again", key=key, error=failure)
                again = True
                newer = self._pending.get(key)
                if newer is None:
                    self._pending[key] = each
                else:
                    newer.settle = each.settle + newer.settle
                self._work.set()
                continue
            if isinstance(failure, LostError):
                continue  # not acknowledged: the board says it again to the bridge that has it now
            refusal = None
            if isinstance(failure, NoObjectError):
                refusal = Refusal(protocol.UNKNOWN, f"there is no {key} any more")
            for settle in each.settle:
                settle(refusal)
        return not again

    def _say(self, key: Key, pod: Body, status: Mapping[str, Any]) -> None:
        """Have the status written that follows from what is stored."""
        waiting = self._pending.pop(key, None)
        change = PodChange(str(pod["metadata"].get("uid", "")), status)
        self._pending[key] = _Pending(change, waiting.settle if waiting else [])
        self._work.set()

    def _change(self, node: str, key: Key, pod: Body, board: BoardStatus) -> PodChange | None:
        if board.gone:
            if not deleted(pod):
                return None  # it is wanted again under the same uid: nothing to be told
            return PodChange(board.uid, {}, deleted=True)
        if phase_of(pod) in FINISHED:
            return None  # the end of a pod is its end
        status = pod_status(pod, board, self.addresses.get(node, ""))
        for reason, text, warning in events(pod.get("status") or {}, status):
            self._backend.tell(key, reason, text, warning)
        return PodChange(board.uid, status)


def events(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """What `kubectl describe` shall show of the change: (reason, text, whether it is a warning)."""
    if after.get("reason") and after["reason"] != before.get("reason"):
        yield str(after["reason"]), str(after.get("message", "")), True
    for kind in ("initContainerStatuses", "containerStatuses"):
        known = {each.get("name"): each for each in before.get(kind) or ()}
        for each in after.get(kind) or ():
            yield from _container_events(known.get(each["name"]) or {}, each)


def _container_events(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    name = after["name"]
    was, state = before.get("state") or {}, after["state"]
    if after["restartCount"] != before.get("restartCount", 0) and "terminated" in after["lastState"]:
        run = after["lastState"]["terminated"]
        if run["exitCode"]:
            why = run.get("message", "").splitlines()[-1:] or [run["reason"]]
            yield "Failed", f"Container {name} ended with {run['exitCode']}: {why[0]}", True
    if "running" in state and state != was:
        yield "Started", f"Started container {name}", False
    elif "waiting" in state and state["waiting"]["reason"] != (was.get("waiting") or {}).get("reason"):
        if state["waiting"]["reason"] == "CrashLoopBackOff":
            yield "BackOff", f"Back-off restarting failed container {name}", True
        elif state["waiting"]["reason"] not in ("ContainerCreating", "PodInitializing"):
            yield "Failed", f"Error: {state['waiting'].get('message', state['waiting']['reason'])}", True


def key_of(resource: str) -> Key | None:
    """The Pod that a resource names, None when it names none."""
    parts = resource.split("/")
    return Key(POD, parts[0], parts[2]) if len(parts) == 3 and parts[1] == "pod" else None
