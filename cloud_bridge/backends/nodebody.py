"""What a board is as a Kubernetes Node: its labels, its taint and its status, from what the board says.

Every backend that shows boards as Nodes shows the same. The operating system is `micropython` whatever
the board runs on: what is made for Linux nodes (kube-proxy, log shippers, each with its ``nodeSelector``)
stays away from it. The taint is for the rest that tolerates nothing.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cloud_bridge.names import NAMESPACE_SIZE_MAX

OPERATING_SYSTEM = "micropython"
TAINT = "motelet.dev/micropython"
"""Key of the taint of every board; pods that are meant for boards tolerate it."""
PRESSURE = 0.1
"""The free part of heap or flash below which the board is under pressure."""
TEXT_MAX = 1024
"""Characters of a condition's message."""

_ARCHITECTURES = {"esp32": "xtensa", "esp32s3": "xtensa", "esp32c3": "riscv32", "esp32c6": "riscv32"}
_ADDRESSES_NOT = ("is_loopback", "is_unspecified", "is_multicast", "is_link_local")


@dataclass(slots=True)
class Board:
    """What is known of a connected board.

    info     what it said in HELLO
    address  where its connection comes from, an IP address
    fields   what it said last in NODE
    heard_ms when its last frame came (milliseconds since 1970)
    """

    info: Mapping[str, Any]
    address: str
    heard_ms: int
    fields: Mapping[str, Any] = field(default_factory=dict)

    def said(self, key: str) -> Any:
        """A field of NODE, or else of HELLO; None without."""
        return self.fields.get(key, self.info.get(key))


def labels(node: str, board: Board) -> dict[str, str]:
    """Kubernetes' and KubeEdge's labels of the node."""
    found = {
        "kubernetes.io/os": OPERATING_SYSTEM,
        "kubernetes.io/arch": architecture(board),
        "node-role.kubernetes.io/edge": "",
        "node-role.kubernetes.io/agent": "",
    }
    if len(node) <= NAMESPACE_SIZE_MAX:  # that of a label's value too
        found["kubernetes.io/hostname"] = node
    return found


def taints() -> list[dict[str, str]]:
    """What keeps pods away that are not meant for boards."""
    return [{"key": TAINT, "effect": "NoSchedule"}]


def architecture(board: Board) -> str:
    """What the processor is, as far as the platform tells."""
    return _ARCHITECTURES.get(str(board.info.get("platform", "")), "unknown")


def status(node: str, board: Board, stored: Mapping[str, Any], now_ms: int) -> dict[str, Any]:
    """The status of a connected board's Node; `stored` is what it was, for the times of transition."""
    resources = capacity(board)
    found: dict[str, Any] = {
        "capacity": resources,
        "allocatable": {**resources, **allocatable(board)},
        "conditions": conditions(board, stored.get("conditions") or (), now_ms),
        "addresses": addresses(board),
        "nodeInfo": _node_info(node, board),
    }
    return found


def gone(node: str, board: Board, stored: Mapping[str, Any], now_ms: int) -> dict[str, Any]:
    """The Node's status once the board has gone: of what depends on being connected nothing is known."""
    found = status(node, board, stored, now_ms)
    asleep = next(each for each in found["conditions"] if each["type"] == "Sleeping")
    found["conditions"] = [
        condition(each["type"], None, "BoardGone", "", stored.get("conditions") or (), now_ms, board.heard_ms)
        for each in found["conditions"]
        if each is not asleep
    ] + [asleep]
    return found


def capacity(board: Board) -> dict[str, str]:
    """Heap and flash in bytes, and how many pods the board says it can run: none unless it says so."""
    found = {"cpu": "1", "pods": str(_whole(board.said("pods")))}
    for name, key in (("memory", "heap"), ("ephemeral-storage", "flash")):
        if _whole(board.said(key)):
            found[name] = str(board.said(key))
    return found


def allocatable(board: Board) -> dict[str, str]:
    """What pods may have of the capacity: the memory that the board admits pods to."""
    memory = _whole(board.said("pod_memory"))
    return {"memory": str(memory)} if memory else {}


def addresses(board: Board) -> list[dict[str, str]]:
    """The board's IP address, if it is one that others can reach; a host name is nowhere to be resolved."""
    for text in (board.fields.get("address"), board.address):
        try:
            address = ipaddress.ip_address(str(text))
        except ValueError:
            continue
        if not any(getattr(address, each) for each in _ADDRESSES_NOT):
            return [{"type": "InternalIP", "address": str(address)}]
    return []


def conditions(board: Board, stored: Sequence[Mapping[str, Any]], now_ms: int) -> list[dict[str, Any]]:
    """The conditions of a board that is connected, each with the time when it last became so."""
    heap = _pressure(board, "heap_free", "heap")
    flash = _pressure(board, "flash_free", "flash")
    until = board.fields.get("sleep_until")
    asleep = isinstance(until, int) and until > now_ms
    crash = str(board.fields.get("crash", ""))
    reset = str(board.fields.get("reset", ""))
    found = [
        ("Ready", True, "BoardConnected", f"last started by {reset}" if reset else "the board is connected"),
        ("MemoryPressure", heap, *_told(heap, "HeapLow", "HeapSufficient", board, "heap_free")),
        ("DiskPressure", flash, *_told(flash, "FlashLow", "FlashSufficient", board, "flash_free")),
        ("PIDPressure", False, "NoProcesses", "a board has no processes"),
        ("NetworkUnavailable", False, "BoardConnected", "the board is connected"),
        (
            "Sleeping",
            asleep,
            "SleepAnnounced" if asleep else "Awake",
            f"until {rfc3339(until)}" if asleep and isinstance(until, int) else "",
        ),
        ("Crashed", bool(crash), "LastStart" if crash else "NoCrash", crash),
    ]
    return [condition(*each, stored, now_ms, board.heard_ms) for each in found]


def sleeping(until_ms: int, stored: Sequence[Mapping[str, Any]], now_ms: int) -> list[dict[str, Any]]:
    """The conditions that a board's sleep makes other than in `stored`: while it lasts, and after it."""
    known = {each.get("type"): (each.get("status"), each.get("reason")) for each in stored}
    text = f"until {rfc3339(until_ms)}"
    found = []
    if until_ms > now_ms:
        if known.get("Ready", ("",))[0] != "True":
            found.append(("Ready", True, "BoardSleeping", text))
        if known.get("Sleeping", ("",))[0] != "True":
            found.append(("Sleeping", True, "SleepAnnounced", text))
    elif known.get("Sleeping") != ("False", "NotBack"):
        found.append(("Sleeping", False, "NotBack", text))
    return [condition(*each, stored, now_ms, min(until_ms, now_ms)) for each in found]


def condition(
    kind: str,
    value: bool | None,
    reason: str,
    message: str,
    stored: Sequence[Mapping[str, Any]],
    now_ms: int,
    heard_ms: int,
) -> dict[str, Any]:
    """One condition; `value` None is Unknown. Its transition time is that in `stored` if it was so before."""
    text = {True: "True", False: "False", None: "Unknown"}[value]
    before = next((each for each in stored if each.get("type") == kind), {})
    since = before.get("lastTransitionTime") if before.get("status") == text else None
    return {
        "type": kind,
        "status": text,
        "reason": reason,
        "message": message[:TEXT_MAX],
        "lastHeartbeatTime": rfc3339(heard_ms),
        "lastTransitionTime": since or rfc3339(now_ms),
    }


def rfc3339(epoch_ms: int) -> str:
    """The moment as Kubernetes writes it, in UTC and whole seconds: ``2026-11-22T21:05:00Z``."""
    return datetime.fromtimestamp(epoch_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _node_info(node: str, board: Board) -> dict[str, str]:
    software = str(board.info.get("software", "unknown"))
    platform = str(board.info.get("platform", "unknown"))
    version = software.rpartition(" ")[2]
    return {
        "machineID": node,
        "systemUUID": node,
        "bootID": str(board.info.get("boot", "")),
        "kernelVersion": software,
        "osImage": f"MicroPython on {platform}",
        "containerRuntimeVersion": f"motelet://{version}",
        "kubeletVersion": f"v{version}-motelet",
        "kubeProxyVersion": "",
        "operatingSystem": OPERATING_SYSTEM,
        "architecture": architecture(board),
    }


def _pressure(board: Board, free: str, total: str) -> bool | None:
    """Whether little is free; None where the board does not say."""
    if not _whole(board.said(total)) or not isinstance(board.said(free), int):
        return None
    return bool(board.said(free) < PRESSURE * board.said(total))


def _told(value: bool | None, low: str, enough: str, board: Board, key: str) -> tuple[str, str]:
    if value is None:
        return "NotReported", "the board does not say"
    return low if value else enough, f"{board.said(key)} bytes free"


def _whole(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0
