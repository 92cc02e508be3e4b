"""The words that CloudHub and the controllers share, so that neither has to import the other.

Downwards it is state: what a node should hold (`Desired`). Upwards it is messages that have to be taken
or refused one by one (`Upward`), because a board forgets what was acknowledged.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Content:
    """One version of a resource: `data` is one encoded CBOR item, `version` is equal only if `data` is."""

    version: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Desired:
    """What a node should hold, by resource (``<namespace>/<type>/<name>``).

    items   what is to be there
    kept    resources of which nothing is known but that they exist: whatever a board holds of them stays
    synced  whether every list that `items` was made from was read whole; nothing is deleted before
    """

    items: Mapping[str, Content]
    kept: Collection[str] = ()
    synced: bool = True


@dataclass(frozen=True, slots=True)
class Report:
    """A property's value, and the text of the desired value that the device was last seen to hold."""

    seq: int
    resource: str
    property: str
    value: int | float | bool | str | bytes
    epoch_ms: int
    observed_desired: str | None


@dataclass(frozen=True, slots=True)
class State:
    """A device's state, such as ``online`` or ``offline``, with the reason in words."""

    seq: int
    resource: str
    state: str
    epoch_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at the edge: `payload` was published under `topic`."""

    seq: int
    topic: str
    epoch_ms: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class PodReport:
    """What a board says of a pod: `content` is CBOR, the rule pod-status of protocol.cddl."""

    seq: int
    resource: str
    content: bytes


Upward = Report | State | Event | PodReport


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a message is refused: a NACK code of `motelet.protocol` and the reason in words."""

    code: int
    reason: str


Settle = Callable[[Refusal | None], None]
"""Called once for a message from a board: with None when the backend holds it, else with the refusal."""


class PublishError(Exception):
    """A message was not acknowledged by the board; the text says why. Publishing it again may help."""


Publish = Callable[[str, str, bytes], Awaitable[None]]
"""Publishes (node, topic, payload) on a node's EventBus: what `CloudHub.publish` is."""


class Controller(Protocol):
    """What CloudHub needs of the controllers behind it."""

    def desired(self, node: str) -> Desired:
        """What `node` should hold now."""

    def watch(self, changed: Callable[[str | None], None]) -> None:
        """Have `changed(node)` called whenever `desired(node)` may have changed; None stands for all."""

    def opened(self, node: str, info: Mapping[str, Any], address: str) -> None:
        """The board said hello with `info`, from the IP `address`, and this bridge serves it."""

    def closed(self, node: str) -> None:
        """The board's connection has ended."""

    def take(self, node: str, message: Upward, settle: Settle) -> None:
        """Take a message of `node`; `settle` is called when its fate is known, perhaps at once."""

    def refused(self, node: str, resource: str, refusal: Refusal) -> None:
        """`node` refused to hold `resource` as it is desired now."""
