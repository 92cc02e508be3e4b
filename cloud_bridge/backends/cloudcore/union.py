"""The objects of all nodes' mirrors as one set of objects, which is what the controllers look at.

A DeviceModel is in the mirror of every node that has a device of it, and a Device that has moved may for
a while be in two; of several copies the one with the newest resourceVersion counts. Copies that are
equal are kept once.
"""

from collections.abc import Collection
from typing import NamedTuple

from cloud_bridge.backends.base import Body, Key
from cloud_bridge.backends.cloudcore.objects import Known, Stored


class _Copy(NamedTuple):
    known: Known
    body: Body


class Union:
    """Objects by key, each with the nodes in whose mirrors it is."""

    def __init__(self) -> None:
        self._copies: dict[Key, dict[str, _Copy]] = {}

    def put(self, key: Key, node: str, stored: Stored) -> None:
        """The mirror of the node has this now."""
        copies = self._copies.setdefault(key, {})
        same = next((each for each in copies.values() if each.known == stored.known), None)
        copies[node] = same or _Copy(stored.known, stored.body())

    def remove(self, key: Key, node: str) -> None:
        """The mirror of the node does not have it any more."""
        copies = self._copies.get(key, {})
        copies.pop(node, None)
        if not copies:
            self._copies.pop(key, None)

    def get(self, key: Key) -> Body | None:
        """The object, None when no mirror has it."""
        copies = self._copies.get(key)
        if not copies:
            return None
        return max(copies.values(), key=lambda each: _number(each.known.version)).body

    def known(self, key: Key, node: str) -> Known | None:
        """What the mirror of the node has of it."""
        copy = self._copies.get(key, {}).get(node)
        return copy.known if copy else None

    def keys(self, kind: str) -> Collection[Key]:
        """The names of all objects of a kind."""
        return [key for key in self._copies if key.kind == kind]

    def nodes(self, key: Key) -> Collection[str]:
        """The nodes in whose mirrors it is."""
        return self._copies.get(key, {}).keys()


def _number(version: str) -> int:
    return int(version) if version.isascii() and version.isdigit() else -1
