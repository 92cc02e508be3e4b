"""A client certificate as the bridge deals with it, and what CloudHub needs of who keeps an eye on them."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Peer:
    """A certificate of `node` that is good by its signature and its times (seconds since 1970).

    `serial` is lower-case hex without leading zeros.
    """

    node: str
    serial: str
    not_before: int
    not_after: int

    @property
    def age(self) -> tuple[int, int]:
        """Greater than that of a certificate that was made earlier."""
        return self.not_before, int(self.serial, 16)


class RequestError(Exception):
    """A certification request that is not signed; the text says why."""


class Guard(Protocol):
    """Knows which certificates still count, and makes new ones; BackendError when it cannot do so now."""

    def refresh(self) -> bool:
        """Look for what changed in what is known of certificates; -> whether something did."""

    def refusal(self, peer: Peer) -> str | None:
        """Why a certificate is worth nothing although its signature is good; None when it is good."""

    async def connected(self, peer: Peer) -> None:
        """A board has connected with this certificate."""

    def renewal_due(self, peer: Peer) -> bool:
        """Whether it is time for the next certificate."""

    async def renew(self, node: str, request: bytes) -> tuple[Peer, bytes]:
        """The next certificate (DER) of `node`, which its present one has proved. Raises RequestError."""
