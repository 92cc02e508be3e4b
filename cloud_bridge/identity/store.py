"""What identities are kept in, wherever that is: a folder (`folder`), or Secrets that bridges share.

Three tables of small records, and two pairs of a certificate and its key (PEM): ``ca`` and ``server``.
Reading is from memory, which follows what others change. Every change is one `Store.change`: of all the
records of one node, as they are in the store at that moment, so that two bridges never both do what may be
done once.
"""

from collections.abc import Callable, Collection
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol, TypeVar

CA, SERVER = "ca", "server"
"""Names of the pairs."""

Pair = tuple[bytes, bytes]
"""A certificate and its private key, both PEM."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was made. Times are seconds since 1970; `used` is the SHA-256 of a public key, in hex."""

    id: str
    node: str
    created: int
    expires: int
    reusable: bool
    used: str | None = None
    revoked: int | None = None

    def state(self, now: float) -> str:
        """In one word what it is still good for."""
        if self.revoked is not None:
            return "revoked"
        if self.expires <= now:
            return "expired"
        return "used" if self.used and not self.reusable else "valid"


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that was signed, or one from elsewhere that was revoked. `serial` is lower-case hex.

    `connected` is when it was first used.
    """

    serial: str
    node: str
    not_before: int
    not_after: int
    connected: int | None = None
    revoked: int | None = None


@dataclass(frozen=True, slots=True)
class NodeRevocation:
    """Certificates of `node` that this registry has no record of are worth nothing if made by `before`."""

    node: str
    before: int


Record = TypeVar("Record")
Result = TypeVar("Result")


class Table(Protocol[Record]):
    """Records by key. `damaged` has the keys of those that are there and cannot be read."""

    @property
    def damaged(self) -> AbstractSet[str]: ...

    def get(self, key: str) -> Record | None:
        """The record, None when there is none or it is damaged."""

    def values(self) -> Collection[Record]:
        """All that can be read."""

    def put(self, key: str, record: Record) -> None:
        """Create or replace; within `Store.change` only."""

    def delete(self, key: str) -> None:
        """Remove; within `Store.change` only."""


@dataclass(frozen=True, slots=True)
class Tables:
    """By id of a token, by serial of a certificate, by node."""

    tokens: Table[Token]
    issued: Table[Issued]
    nodes: Table[NodeRevocation]


class Store(Protocol):
    """Raises OSError or `BackendError` where it cannot be read or written."""

    @property
    def tables(self) -> Tables:
        """Everything as it is known here, for reading."""

    def refresh(self) -> bool:
        """Have `tables` show what others changed; -> whether there was something."""

    async def change(self, node: str, act: Callable[[Tables], Result]) -> Result:
        """Have `act` change records of `node`; durable on return, and nothing is changed where `act` raises.

        The tables it gets hold at least all records of the node, as they are stored. It may be called again,
        with newer ones.
        """

    async def pair(
        self, name: str, good: Callable[[bytes | None, bytes | None], bool], make: Callable[[], Pair]
    ) -> tuple[bytes, bytes | None]:
        """The pair that is stored if it is `good` (None: a part is missing), else what `make` makes."""

    def where(self, name: str) -> tuple[str, str]:
        """What the certificate and the key of a pair are called, for errors."""
