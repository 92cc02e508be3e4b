"""From what a board says of a pod to a Kubernetes PodStatus, by kubelet's rules.

A board says of each container what it does, in the order of the spec (protocol.cddl: pod-status). Phase and
conditions follow from that and the spec, here, where memory costs nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import cbor2

from cloud_bridge.backends.base import Body
from cloud_bridge.edgecontroller.effective import HELD, UnrunnableError

STATUS_SIZE_MAX = 4096
"""Bytes of what a board says of one pod."""
WAITING, RUNNING, TERMINATED = 0, 1, 2
_EPOCH_MS_MAX = 253_402_300_799_999
_TEXT_MAX = 1024


@dataclass(frozen=True, slots=True)
class Run:
    """How a run of a container ended."""

    code: int
    since: int
    until: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    """What a container does now (`state`), and how the run before ended."""

    state: int
    ready: bool
    restarts: int
    now: Run
    last: Run | None


@dataclass(frozen=True, slots=True)
class BoardStatus:
    """What a board says of a pod; `gone`: it does not hold it any more."""

    uid: str
    gone: bool
    reason: str
    message: str
    start_ms: int
    init: Sequence[ContainerStatus]
    containers: Sequence[ContainerStatus]


def parse(data: bytes) -> BoardStatus:
    """What `data`, CBOR, says. Raises ValueError for what breaks the grammar."""
    if len(data) > STATUS_SIZE_MAX:
        raise ValueError(f"{len(data)} bytes, at most {STATUS_SIZE_MAX}")
    try:
        item = cbor2.loads(data)
    except (cbor2.CBORDecodeError, RecursionError) as error:
        raise ValueError(f"not CBOR: {error}") from error
    if not isinstance(item, dict):
        raise ValueError("not a map")
    return BoardStatus(
        _text(item.get("uid")),
        item.get("gone") is True,
        _text(item.get("reason", "")),
        _text(item.get("message", "")),
        _number(item.get("start", 0), _EPOCH_MS_MAX),
        [_container(row) for row in _rows(item.get("init", []))],
        [_container(row) for row in _rows(item.get("containers", []))],
    )


def _rows(value: Any) -> Sequence[Any]:
    if not isinstance(value, list) or len(value) > 8:
        raise ValueError("containers must be at most 8")
    return value


def _container(row: Any) -> ContainerStatus:
    if not isinstance(row, list) or not 8 <= len(row) <= 9:
        raise ValueError("a container must have 8 or 9 fields")
    state, ready, restarts, code, since, until, reason, message = row[:8]
    if not isinstance(ready, bool):
        raise ValueError("ready must be true or false")
    last = None
    if len(row) == 9:
        if not isinstance(row[8], list) or len(row[8]) != 5:
            raise ValueError("a run must have 5 fields")
        last = _run(*row[8])
    return ContainerStatus(
        _number(state, TERMINATED),
        ready,
        _number(restarts, 2**31 - 1),
        _run(code, since, until, reason, message),
        last,
    )


def _run(code: Any, since: Any, until: Any, reason: Any, message: Any) -> Run:
    if type(code) is not int or not -(2**31) <= code < 2**31:
        raise ValueError("an exit code must be a number")
    return Run(
        code, _number(since, _EPOCH_MS_MAX), _number(until, _EPOCH_MS_MAX), _text(reason), _text(message)
    )


def _number(value: Any, limit: int) -> int:
    if type(value) is not int or not 0 <= value <= limit:
        raise ValueError(f"expected a number up to {limit}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _TEXT_MAX:
        raise ValueError(f"expected a text of at most {_TEXT_MAX} characters")
    return value


def pod_status(pod: Body, board: BoardStatus, address: str) -> dict[str, Any]:
    """The fields of PodStatus that are the node's to write; `address` its IP, "" where it is not known."""
    spec = pod["spec"]
    init, containers = list(spec.get("initContainers") or ()), list(spec.get("containers") or ())
    status: dict[str, Any] = {"phase": _phase(spec, board, len(init))}
    if board.reason:
        status |= {"phase": "Failed", "reason": board.reason, "message": board.message}
    status["conditions"] = _conditions(pod, board, len(init), status["phase"])
    status["startTime"] = rfc3339(board.start_ms)
    if address:
        status |= {
            "hostIP": address,
            "hostIPs": [{"ip": address}],
            "podIP": address,
            "podIPs": [{"ip": address}],
        }
    uid = board.uid
    if init:
        status["initContainerStatuses"] = _statuses(uid, init, board.init, True)
    status["containerStatuses"] = _statuses(uid, containers, board.containers, False)
    status["qosClass"] = (pod.get("status") or {}).get("qosClass") or qos_class(pod)
    return status


def waiting_status(pod: Body, error: UnrunnableError, now_ms: int) -> dict[str, Any]:
    """The status of a pod that cannot be started at all: Pending, its containers waiting."""
    spec = pod["spec"]
    reason = Run(0, 0, 0, error.reason, str(error)[:_TEXT_MAX])
    rows = [ContainerStatus(WAITING, False, 0, reason, None)] * len(spec.get("containers") or ())
    first = [ContainerStatus(WAITING, False, 0, reason, None)] * len(spec.get("initContainers") or ())
    stored = pod.get("status") or {}
    start = stored.get("startTime") or rfc3339(now_ms)
    board = BoardStatus(str(pod["metadata"].get("uid", "")), False, "", "", now_ms, first, rows)
    status = {**pod_status(pod, board, ""), "phase": "Pending", "startTime": start}
    if error.reason == HELD:
        others = [each for each in status["conditions"] if each["type"] != HELD]
        status["conditions"] = [*others, {"type": HELD, "status": "True", "message": str(error)}]
    return status


def _phase(spec: Mapping[str, Any], board: BoardStatus, init_count: int) -> str:
    policy = spec.get("restartPolicy", "Always")
    done = sum(each.state == TERMINATED and each.now.code == 0 for each in board.init)
    if any(each.state == TERMINATED and each.now.code for each in board.init) and policy == "Never":
        return "Failed"
    if done < init_count:
        return "Pending"
    # One that waits to be started again has stopped; one that never ran is still to come.
    waiting = sum(each.state == WAITING and each.last is None for each in board.containers)
    running = sum(each.state == RUNNING for each in board.containers)
    codes = [each.now.code if each.state == TERMINATED else each.last.code if each.last else 0
             for each in board.containers if each.state != RUNNING]  # fmt: skip
    if waiting:
        return "Pending"
    if running or policy == "Always":
        return "Running"
    if not any(codes):
        return "Succeeded" if all(each.state == TERMINATED for each in board.containers) else "Running"
    return "Failed" if policy == "Never" else "Running"


def _conditions(pod: Body, board: BoardStatus, init_count: int, phase: str) -> list[dict[str, str]]:
    names = [str(each.get("name", "")) for each in pod["spec"].get("containers") or ()]
    unready = [name for name, each in zip(names, board.containers, strict=False) if not each.ready]
    unready += names[len(board.containers) :]
    done = sum(each.state == TERMINATED and each.now.code == 0 for each in board.init) >= init_count
    not_ready: dict[str, str] = {}
    if phase == "Succeeded":
        not_ready = {"reason": "PodCompleted"}
    elif phase == "Failed":
        not_ready = {"reason": "PodFailed"}
    elif unready:
        not_ready = {
            "reason": "ContainersNotReady",
            "message": f"containers with unready status: [{' '.join(unready)}]",
        }
    found = [{"type": "Initialized", "status": "True" if done else "False"}]
    if not done:
        found[0]["reason"] = "ContainersNotInitialized"
    found.append({"type": "ContainersReady", "status": "False" if not_ready else "True", **not_ready})
    found.append({**found[-1], "type": "Ready"} if not_ready else ready_of(pod))
    stored = (pod.get("status") or {}).get("conditions") or ()
    if any(each.get("type") == HELD for each in stored):
        found.append({"type": HELD, "status": "False"})
    return [*found, {"type": "PodScheduled", "status": "True"}]


def ready_of(pod: Body) -> dict[str, str]:
    """The condition Ready of a pod whose containers are ready: that is left to its readiness gates."""
    stored = {each.get("type"): each for each in (pod.get("status") or {}).get("conditions") or ()}
    gates = [str(each.get("conditionType", "")) for each in pod["spec"].get("readinessGates") or ()]
    closed = [each for each in gates if stored.get(each, {}).get("status") != "True"]
    if not closed:
        return {"type": "Ready", "status": "True"}
    text = f"the condition {closed[0]} of a readiness gate is not True"
    return {"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady", "message": text}


def gate_moved(pod: Body) -> bool:
    """Whether Ready is stored otherwise than `ready_of` has it, of a pod whose containers are ready."""
    stored = {
        each.get("type"): each.get("status") for each in (pod.get("status") or {}).get("conditions") or ()
    }
    if not pod["spec"].get("readinessGates") or stored.get("ContainersReady") != "True":
        return False
    return stored.get("Ready") != ready_of(pod)["status"]


def _statuses(
    uid: str, specs: Sequence[Mapping[str, Any]], found: Sequence[ContainerStatus], init: bool
) -> list[dict[str, Any]]:
    statuses = []
    creating = ContainerStatus(WAITING, False, 0, Run(0, 0, 0, "PodInitializing", ""), None)
    for index, spec in enumerate(specs):
        each = found[index] if index < len(found) else creating
        name = str(spec.get("name", ""))
        identity = f"motelet://{uid}/{name}/{each.restarts}"
        statuses.append(
            {
                "name": name,
                "image": str(spec.get("image", "")),
                "imageID": str(spec.get("image", "")),
                "containerID": identity if each.state != WAITING else "",
                "ready": each.ready or (init and each.state == TERMINATED and each.now.code == 0),
                "started": each.state == RUNNING,
                "restartCount": each.restarts,
                "state": _state(each, identity),
                "lastState": {"terminated": _terminated(each.last, "")} if each.last else {},
            }
        )
    return statuses


def _state(each: ContainerStatus, identity: str) -> dict[str, Any]:
    if each.state == WAITING:
        message = {"message": each.now.message} if each.now.message else {}
        return {"waiting": {"reason": each.now.reason or "ContainerCreating", **message}}
    if each.state == RUNNING:
        return {"running": {"startedAt": rfc3339(each.now.since)}}
    return {"terminated": _terminated(each.now, identity)}


def _terminated(run: Run, identity: str) -> dict[str, Any]:
    found: dict[str, Any] = {"exitCode": run.code, "reason": run.reason}
    if run.message:
        found["message"] = run.message
    found |= {"startedAt": rfc3339(run.since), "finishedAt": rfc3339(run.until)}
    if identity:
        found["containerID"] = identity
    return found


def qos_class(pod: Body) -> str:
    """Guaranteed, Burstable or BestEffort, from requests and limits of cpu and memory."""
    spec = pod["spec"]
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    guaranteed, anything = True, False
    for each in containers:
        resources = each.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        for name in ("cpu", "memory"):
            anything |= name in limits or name in requests
            guaranteed &= name in limits and requests.get(name, limits.get(name)) == limits.get(name)
    return "Guaranteed" if guaranteed and anything else "Burstable" if anything else "BestEffort"


def rfc3339(epoch_ms: int) -> str:
    """The moment as Kubernetes writes it, in UTC and whole seconds."""
    return datetime.fromtimestamp(epoch_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
