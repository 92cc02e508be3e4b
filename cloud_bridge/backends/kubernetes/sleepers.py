"""Which boards that sleep need another bridge: pure, from what is stored of them.

A board that announced a sleep is kept alive by the bridge that it said so to, until its end. When that
bridge has gone, its Lease shows it: it should be renewed all the time. Any other bridge then takes the board
over, by the same compare-and-swap on the Node as when the board itself comes to it, so that one of them does;
a bridge that has just done so is given time.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

SLEEP = "motelet.dev/sleep-until"
OVERDUE_SECONDS = 28.0
"""A bridge renews every 20 s, and kube-controller-manager has patience for 40 s or more."""


def until_ms(node: Mapping[str, Any]) -> int | None:
    """The end of the sleep (milliseconds since 1970) that the Node's annotation tells, None without."""
    return _epoch_ms(node["metadata"].get("annotations", {}).get(SLEEP))


def left_alone(
    nodes: Iterable[Mapping[str, Any]], leases: Mapping[str, Mapping[str, Any]], now_ms: int
) -> list[str]:
    """The nodes that sleep, or should be back, and that nobody looks after. `leases` is by name."""
    found = []
    for node in nodes:
        name = node["metadata"]["name"]
        until = until_ms(node)
        if until is None:
            continue
        renewed = _epoch_ms(leases.get(name, {}).get("spec", {}).get("renewTime")) or 0
        if now_ms - (renewed if until > now_ms else until) > OVERDUE_SECONDS * 1000:
            found.append(name)
    return found


def _epoch_ms(text: Any) -> int | None:
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except (TypeError, ValueError):
        return None  # there is none, or somebody wrote it by hand
