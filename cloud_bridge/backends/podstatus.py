"""A pod's status merged: what the node says, beside what others say, with the times of transition kept.

Conditions are merged by type. PodScheduled is the scheduler's: the node says it of a pod it was given,
and never in the place of what the scheduler wrote. Equal statuses merge to an equal one, so that a report
too many writes nothing.
"""

import copy
from collections.abc import Mapping
from typing import Any

NODES_CONDITIONS = ("Initialized", "Ready", "ContainersReady", "HeldUpgrade")
"""The types that the node may change once they are there."""


def merge(stored: Mapping[str, Any], change: Mapping[str, Any], now: str) -> dict[str, Any]:
    """`stored` with `change` in it, at the time `now` (RFC 3339); neither is changed."""
    status = copy.deepcopy(dict(stored))
    for key, value in change.items():
        if key == "conditions":
            status[key] = _conditions(status.get(key) or (), value, now)
        elif key == "startTime" and status.get(key):
            continue  # of the first time that a node took it
        else:
            status[key] = copy.deepcopy(value)
    if change.get("phase") not in (None, "Failed"):
        for key in ("reason", "message"):
            status.pop(key, None)
    return status


def _conditions(stored: Any, change: Any, now: str) -> list[dict[str, Any]]:
    merged: dict[str, dict[str, Any]] = {each["type"]: dict(each) for each in stored if "type" in each}
    for each in change:
        before = merged.get(each["type"])
        if before is not None and each["type"] not in NODES_CONDITIONS:
            continue
        since = now
        if before is not None and before.get("status") == each["status"]:
            since = before.get("lastTransitionTime") or now
        merged[each["type"]] = {**each, "lastProbeTime": None, "lastTransitionTime": since}
    return list(merged.values())
