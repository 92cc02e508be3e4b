"""What a pod can be told of itself, as kubelet resolves fieldRef and resourceFieldRef. Raises ValueError."""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from cloud_bridge.backends.base import Body
from cloud_bridge.edgecontroller.quantity import amount_of

_ENTRY = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]\Z")
_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.podIP",
)
_RESOURCE = re.compile(r"(limits|requests)\.(cpu|memory|ephemeral-storage)\Z")


def field_of(pod: Body, path: str) -> str:
    """The text of a field; labels and annotations as lines ``name="value"``."""
    metadata = _map(pod.get("metadata"))
    match = _ENTRY.match(path)
    if match:
        return str(_map(metadata.get(match[1])).get(match[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        entries = _map(metadata.get(path[9:]))
        lines = (f"{key}={json.dumps(str(value), ensure_ascii=False)}" for key, value in entries.items())
        return "\n".join(sorted(lines))
    if path not in _FIELDS:
        raise ValueError(f"fieldPath {path} is not known")
    at: Any = pod
    for part in path.split("."):
        at = _map(at).get(part)
    return str(at or "")


def resource_of(container: Body, name: str, divisor: object) -> str:
    """An amount such as ``limits.memory`` in units of `divisor`, rounded up; a limit not set is the request.

    What is neither is 0, for what its node has is not known here.
    """
    match = _RESOURCE.match(name)
    if not match:
        raise ValueError(f"resourceFieldRef {name} is not known")
    resources = _map(container.get("resources"))
    found = [_map(resources.get(each)).get(match[2]) for each in (match[1], "requests")]
    unit = amount_of(divisor or 1) or Decimal(1)
    amount = amount_of(next((each for each in found if each is not None), 0)) / unit
    return str(int(amount.to_integral_value(rounding="ROUND_CEILING")))


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
