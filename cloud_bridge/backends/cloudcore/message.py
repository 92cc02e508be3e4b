"""The envelope that EdgeCore and CloudCore exchange: one JSON object a WebSocket text message, without I/O.

The keys are those of KubeEdge's beehive model: `header` (msg_id, parent_msg_id, timestamp in
milliseconds, resourceversion), `route` (source, group, operation, resource) and `content`, which may
be any JSON. A Go receiver reads a string that holds JSON as if it were that JSON, so `Message.data`
does too; and it takes keys in any case, the first JSON value of a message and nothing after it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

MESSAGE_SIZE_MAX = 8 * 1024 * 1024
"""Bytes of a message; the largest object that etcd holds is 1.5 MiB, and its JSON may be twice that."""
TEXT_SIZE_MAX = 4096
"""Bytes of each text in the envelope. A resource is a path of names of at most 253 bytes."""

INSERT, UPDATE, DELETE, QUERY, PATCH = "insert", "update", "delete", "query", "patch"
RESPONSE, ERROR, UPLOAD, KEEPALIVE = "response", "error", "upload", "keepalive"
OK = "OK"

EDGED, TWIN, BUS, WEBSOCKET = "edged", "twin", "bus", "websocket"
"""Sources of what goes up: EdgeCore's modules."""
EDGE_CONTROLLER = "edgecontroller"
META, RESOURCE, USER, HUB = "meta", "resource", "user", "hub"
"""Groups."""

_NO_ACK_RESOURCES = ("podlist", "membership", "twin/cloud_updated", "serviceaccounttoken", "k8s/ca.crt")
_NO_ACK_OPERATIONS = (
    "createvolume",
    "deletevolume",
    "controllerpublishvolume",
    "controllerunpublishvolume",
    "applicationResponse",
)
_NO_ACK_SOURCES = ("taskmanager", "nodeupgradejobcontroller")
_NO_ACK_TYPES = ("lease", "nodepatch", "podpatch", "podstatus", "certificatesigningrequest")


class MessageError(Exception):
    """A message that is not of this form; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message; an empty text stands for a key that is not there."""

    id: str
    operation: str
    resource: str
    content: Any = None
    source: str = ""
    group: str = ""
    parent: str = ""
    timestamp: int = 0
    version: str = ""
    """The resourceVersion of the object in `content`."""

    @property
    def type(self) -> str:
        """The second part of ``<namespace>/<type>/<name>``, empty when the resource is of another form."""
        return split(self.resource)[1]

    def data(self) -> Any:
        """The content; if that is a text that holds JSON, what it holds."""
        if isinstance(self.content, str):
            try:
                return _parse(self.content)
            except MessageError:
                return self.content
        return self.content

    def needs_ack(self) -> bool:
        """Whether CloudHub waits for an acknowledgement of this message, and sends nothing else meanwhile."""
        if any(each in self.resource for each in _NO_ACK_RESOURCES):
            return False
        if self.operation in _NO_ACK_OPERATIONS or self.source in _NO_ACK_SOURCES or self.group == USER:
            return False
        if self.operation == RESPONSE and self.content == OK:
            return False
        if self.source != EDGE_CONTROLLER:
            return True
        if self.type == "node":
            return self.operation == UPDATE
        return self.type not in _NO_ACK_TYPES and not (self.type == "pod" and self.operation == RESPONSE)

    def encode(self) -> str:
        """The message as it goes on the wire, with the newline that KubeEdge ends it with."""
        header = {"msg_id": self.id, "parent_msg_id": self.parent, "resourceversion": self.version}
        route = {
            "source": self.source,
            "group": self.group,
            "operation": self.operation,
            "resource": self.resource,
        }
        envelope = {
            "header": {"timestamp": self.timestamp, **{key: text for key, text in header.items() if text}},
            "route": {key: text for key, text in route.items() if text},
            "content": self.content,
        }
        return json.dumps(envelope, ensure_ascii=False, separators=(",", ":")) + "\n"


def decode(text: str | bytes) -> Message:
    """The message in `text`. Raises MessageError."""
    envelope = _mapping(_parse(text), "the message")
    header = _mapping(envelope.get("header"), "header")
    route = _mapping(envelope.get("route"), "route")
    timestamp = header.get("timestamp", 0)
    if type(timestamp) is not int:
        raise MessageError("timestamp is not a whole number")
    message = Message(
        id=_text(header, "msg_id"),
        operation=_text(route, "operation"),
        resource=_text(route, "resource"),
        content=envelope.get("content"),
        source=_text(route, "source"),
        group=_text(route, "group"),
        parent=_text(header, "parent_msg_id"),
        timestamp=timestamp,
        version=_text(header, "resourceversion"),
    )
    if not message.id:
        raise MessageError("msg_id is missing")
    return message


def split(resource: str) -> tuple[str, str, str]:
    """Namespace, type and name of ``<namespace>/<type>/<name>``; empty texts for any other form."""
    parts = resource.split("/")
    if len(parts) != 3 or not all(parts):
        return "", "", ""
    return parts[0], parts[1], parts[2]


def error_of(content: Any) -> str:
    """What an answer says went wrong, empty when nothing did.

    Kubernetes' errors come as ``{"ErrStatus": {..}}``. Every other error of a Go program comes as ``{}``,
    which is a failure too although it does not say which.
    """
    if isinstance(content, Mapping):
        if not content:
            return "an error without a text"
        status = content.get("ErrStatus")
        if isinstance(status, Mapping):
            return str(status.get("message") or status.get("reason") or "an error without a text")
    return ""


def code_of(content: Any) -> int:
    """The HTTP status code of such an error, 0 when it says none."""
    status = content.get("ErrStatus") if isinstance(content, Mapping) else None
    code = status.get("code") if isinstance(status, Mapping) else None
    return code if type(code) is int else 0


def _parse(text: str | bytes) -> Any:
    try:
        if isinstance(text, bytes):
            text = text.decode()
        value, _ = _DECODER.raw_decode(text.lstrip(" \t\r\n"))
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()  # half of a pair could not be sent on or stored
    except RecursionError as error:
        raise MessageError("nested too deep") from error
    except ValueError as error:
        raise MessageError(f"not JSON: {error}") from error
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise MessageError(f"{what} is not an object")
    return {key.lower(): each for key, each in value.items()}


def _text(at: Mapping[str, Any], key: str) -> str:
    value = at.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise MessageError(f"{key} is not a text")
    if len(value.encode()) > TEXT_SIZE_MAX:
        raise MessageError(f"{key} is longer than {TEXT_SIZE_MAX} bytes")
    return value
