"""What a backend has to do, whatever keeps the objects: a folder, an API server, another CloudCore.

A backend shows objects as they are now and says when to look again. It never says what changed in
them: controllers derive their work from state, so a notification that is lost, late or doubled by a
restart changes nothing. Objects are shown as Kubernetes has them (JSON types, ``apiVersion``,
``kind``, ``metadata``, ``spec``); checking their ``spec`` is the controllers' work.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

Body = Mapping[str, Any]
"""An object as it would be in JSON. Never to be changed by who reads it."""
Path = tuple[str | int, ...]
"""Where in an object: ``("spec", "properties", 2, "name")``."""

DEVICE = "Device"
DEVICE_MODEL = "DeviceModel"
RULE = "Rule"
RULE_ENDPOINT = "RuleEndpoint"
POD = "Pod"
CONFIG_MAP = "ConfigMap"
SECRET = "Secret"
NODE = "Node"


class Key(NamedTuple):
    """Names one object."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong in an object, and where."""

    path: Path
    text: str

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.text}" if self.path else self.text


def dotted(path: Path) -> str:
    """The path as kubectl writes it: ``spec.properties[2].name``."""
    text = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in path)
    return text.removeprefix(".")


@dataclass(frozen=True, slots=True)
class TwinChange:
    """What was reported of a property; `observed_desired` None leaves what is stored.

    Texts as KubeEdge shows them: `type` its name for the twin's type, `timestamp` milliseconds since 1970.
    """

    value: str
    type: str
    timestamp: str
    observed_desired: str | None = None


@dataclass(frozen=True, slots=True)
class StateChange:
    """A device's new state; `last_online_time` (RFC 3339) None leaves what is stored."""

    state: str
    reason: str
    timestamp: str
    last_online_time: str | None = None


@dataclass(frozen=True, slots=True)
class StatusChange:
    """What to merge into the stored DeviceStatus of a Device.

    `properties` are the names that the Device has; twins of others are dropped. None: nothing is dropped.
    `session` is `Nodes.session` when it was reported.
    """

    twins: Mapping[str, TwinChange]
    state: StateChange | None = None
    properties: Collection[str] | None = None
    session: int = 0


@dataclass(frozen=True, slots=True)
class PodChange:
    """What a node says of the pod `uid`, to be merged into its status (`podstatus.merge`).

    `status` has the fields that are the node's to write. `deleted` confirms, in its place, that the node
    holds nothing of the pod any more: it may go.
    """

    uid: str
    status: Mapping[str, Any]
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A pod wants a token of its service account `account`, bound to it, for `seconds`.

    `audience` is who shall take the token, "" for the API server.
    """

    pod: Key
    uid: str
    account: str
    audience: str
    seconds: int


@dataclass(frozen=True, slots=True)
class Token:
    """A token, good for `seconds` from when it was asked for."""

    text: str = field(repr=False)
    seconds: float


@dataclass(frozen=True, slots=True)
class EdgeEvent:
    """A message that the edge published for the cloud."""

    node: str
    topic: str
    epoch_ms: int
    payload: bytes


class BackendError(Exception):
    """The backend cannot do what was asked now; the text says why. Asking again later may help."""


class NoObjectError(Exception):
    """There is no object of this name (any more); asking again does not help."""


class RefusedError(Exception):
    """The backend will not do it, and the text says why; asking again helps once that has changed."""


class LostError(Exception):
    """The board is another bridge's by now, and reports there again what is not stored."""


class Nodes(Protocol):
    """The boards that are connected here, as Nodes. Calls for a node come one after the other."""

    async def connect(
        self, node: str, info: Mapping[str, Any], address: str, drop: Callable[[str], None]
    ) -> None:
        """A board said HELLO with `info`, from the IP `address`; returns once this bridge owns its session.

        Nothing was sent to it before. Of a node that is connected already this is its newer connection.
        `drop(reason)` is called at most once, later: the session belongs to another bridge now, or the
        node was removed. Raises BackendError when the board cannot be served now.
        """

    def heard(self, node: str, epoch_ms: int) -> None:
        """The board's last frame came then. Called often."""

    def status(self, node: str, fields: Mapping[str, Any]) -> None:
        """The board said this of itself, in NODE; what it said before counts no more."""

    async def disconnect(self, node: str) -> None:
        """The board's connection has ended. Raises nothing."""

    def session(self, node: str) -> int:
        """A number that changes when another bridge has served the node since this one did."""


class Backend(Protocol):
    """A source of truth."""

    @property
    def nodes(self) -> Nodes:
        """Whom to tell of the boards that are connected here."""

    async def start(self) -> None:
        """Read everything once. Raises BackendError when there is no hope that it will ever work."""

    async def run(self) -> None:
        """Follow what changes, until cancelled."""

    async def stop(self) -> None:
        """Let go of everything. Nothing is asked of the backend any more."""

    def synced(self, node: str | None = None) -> bool:
        """Whether every list that deletions (of `node`, or of all) depend on was read whole, as known now."""

    def get(self, key: Key) -> Body | None:
        """The object in its last good version, None when there is none."""

    def keys(self, kind: str) -> Collection[Key]:
        """The names of all objects of a kind."""

    def watch(self, changed: Callable[[frozenset[Key]], None]) -> None:
        """Have `changed(keys)` called when these objects may differ, or with no keys `synced()`."""

    def refer(self, kind: str, keys: Collection[Key]) -> None:
        """Pods refer to just these objects of a kind (ConfigMap, Secret) now; others need not be shown.

        A backend that shows all of them anyway ignores it.
        """

    def tell(self, key: Key, reason: str, text: str, warning: bool) -> None:
        """Something happened to an object, for who looks after it. The same again is not repeated."""

    async def write_pods(self, changes: Mapping[Key, PodChange]) -> Mapping[Key, Exception]:
        """Merge each change into the Pod's status; what is not in the result is durable.

        The result has for each that was not written a BackendError (to be tried again) or NoObjectError
        (also when the Pod is another one by now).
        """

    async def request_token(self, request: TokenRequest) -> Token:
        """Have a token made. It is a secret: nothing may log it. Raises BackendError, RefusedError."""

    def complain(self, key: Key, errors: Sequence[FieldError]) -> None:
        """Tell the owner of the object what is wrong with it; with no errors, that nothing is any more.

        May be called as often as one likes: the same errors are told once.
        """

    def write_delay(self, key: Key) -> float:
        """Seconds until the status of this Device should be written (again), 0.0 for now."""

    async def write_status(self, changes: Mapping[Key, StatusChange]) -> Mapping[Key, Exception]:
        """Merge each change into what is stored for its Device; what is not in the result is durable.

        The result has a BackendError (to be tried again), NoObjectError or LostError for each that was not.
        """

    async def write_events(self, events: Sequence[EdgeEvent]) -> None:
        """Keep the events. Durable on return. Raises BackendError, and then keeps none of them.

        Raises NoObjectError where there is no place for events at all: boards are told so.
        """
