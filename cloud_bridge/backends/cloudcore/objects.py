"""What CloudCore sends of an object, made into what a mirror keeps of it. Without I/O.

Decided by the resource and the operation and never by the source: after an outage every object comes
from `edgecontroller`, whatever it is. A message may come twice, an update for what was never
inserted, a deletion with nothing but a name in it; so each is judged against what the mirror holds.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from cloud_bridge.backends.base import Body, Key
from cloud_bridge.backends.cloudcore.message import DELETE, ERROR, RESPONSE, Message, split

KINDS = {
    "device": "Device",
    "devicemodel": "DeviceModel",
    "pod": "Pod",
    "configmap": "ConfigMap",
    "secret": "Secret",
}
"""Types of resources that something here uses; others are kept as they come and used by nobody."""
_NOISE = ("managedFields",)
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class Known(NamedTuple):
    """Which object a mirror has, and in which resourceVersion."""

    uid: str
    version: str


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as a mirror keeps it: `content` is its JSON."""

    known: Known
    content: str

    def body(self) -> Body:
        """The object."""
        body: Body = json.loads(self.content)
        return body


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a resource in a mirror; `stored` None removes it."""

    resource: str
    stored: Stored | None


def key_of(resource: str) -> Key | None:
    """The object that the resource is, None for one that nothing here uses."""
    namespace, kind, name = split(resource)
    return Key(KINDS[kind], namespace, name) if kind in KINDS else None


def resource_of(key: Key) -> str:
    """The resource of an object of one of KINDS."""
    return f"{key.namespace}/{key.kind.lower()}/{key.name}"


def change_of(message: Message, before: Known | None) -> Change | None:
    """What `message` makes of its resource, of which the mirror holds `before`; None: nothing."""
    if not split(message.resource)[1] or message.operation == ERROR:
        return None
    body = message.data()
    metadata = body.get("metadata") if isinstance(body, Mapping) else None
    metadata = metadata if isinstance(metadata, Mapping) else {}
    uid = _text(metadata, "uid")
    if message.operation == DELETE:
        # Of another uid it is an older object of this name, which has been replaced since.
        gone = before is not None and uid in ("", before.uid)
        return Change(message.resource, None) if gone else None
    if not uid and (message.operation == RESPONSE or not metadata):
        return None  # an answer without an object
    known = Known(uid, message.version or _text(metadata, "resourceVersion"))
    if before is None or before.uid != uid or _newer(known, before):
        return Change(message.resource, Stored(known, _content(body)))
    return None


def shows(message: Message, known: Known) -> bool:
    """Whether the message has the object that the mirror knows so."""
    body = message.data()
    metadata = body.get("metadata") if isinstance(body, Mapping) else None
    uid = _text(metadata, "uid") if isinstance(metadata, Mapping) else ""
    return message.operation not in (DELETE, ERROR) and uid != "" and uid == known.uid


def _newer(known: Known, before: Known) -> bool:
    """Whether it is not what the mirror holds, nor older than that; versions count like numbers."""
    try:
        return int(known.version) > int(before.version)
    except ValueError:
        return known.version != before.version


def _text(at: Mapping[str, Any], key: str) -> str:
    value = at.get(key)
    return value if isinstance(value, str) else ""


def _content(body: Mapping[str, Any]) -> str:
    """The JSON without what only tells how the object came to be, which is often half of it."""
    metadata = {key: value for key, value in body["metadata"].items() if key not in _NOISE}
    annotations = metadata.get("annotations")
    if isinstance(annotations, Mapping):
        metadata["annotations"] = {key: value for key, value in annotations.items() if key != _APPLIED}
    return json.dumps({**body, "metadata": metadata}, ensure_ascii=False, separators=(",", ":"))
