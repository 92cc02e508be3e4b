"""What was handed out and what was taken back: tokens, certificates, revocations, one small file each.

A record is a JSON file; `records.Records` keeps those of one folder in memory and sees what another
process (the command line, later another bridge) changes. Rules about them are here and nowhere else:

* a token that may be used once is bound to the first public key it was used for, and good for that key
  again: a board whose power went before it stored its certificate asks once more, and who saw the token
  but has not the key gets nothing;
* of two certificates of one node the older is worth nothing once the newer has connected: so a rotation
  ends by itself, and of two boards with one name the one that joined last is the node.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cloud_bridge.identity import files
from cloud_bridge.identity.records import Records
from cloud_bridge.identity.tokens import Claims, TokenError
from cloud_bridge.peer import Peer

TOKENS_MAX = 10_000
"""Tokens that were not used and have not expired."""
TTL_MAX = 365 * 86400
"""Seconds a token may live."""
KEEP_SECONDS = 30 * 86400
"""How long a record is kept after what it is about has expired, for who wonders what became of it."""

END_OF_TIME = 253_402_300_799
"""Seconds since 1970: the last one of the year 9999."""


class RegistryError(Exception):
    """What was asked for cannot be done; the text says why."""


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


class Registry:
    """The records in the state folder. `now` tells the time in seconds since 1970. Raises OSError."""

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._now = now
        files.make_folder(folder)
        self._tokens = Records(folder / "tokens", Token)
        self._issued = Records(folder / "certificates", Issued)
        self._nodes = Records(folder / "revoked-nodes", NodeRevocation)
        self._newest: dict[str, tuple[int, int]] = {}
        self._find_newest()

    def refresh(self) -> bool:
        """Look for what another process changed; -> whether there was something. Raises OSError."""
        changed = [records.refresh() for records in (self._tokens, self._issued, self._nodes)]
        if changed[1]:
            self._find_newest()
        return any(changed)

    # -- tokens ------------------------------------------------------------------------------

    def create_token(self, node: str, ttl: int, reusable: bool) -> Claims:
        """Record a new token for `node` that lives `ttl` seconds. Raises RegistryError."""
        if not 0 < ttl <= TTL_MAX:
            raise RegistryError(f"a token lives 1 to {TTL_MAX} seconds, not {ttl}")
        now = int(self._now())
        with files.locked(self._folder):
            self.refresh()
            self._forget_old(now)
            if sum(each.state(now) == "valid" for each in self._tokens.values()) >= TOKENS_MAX:
                raise RegistryError(f"there are {TOKENS_MAX} tokens already; revoke some")
            token = Token(secrets.token_hex(8), node, now, now + ttl, reusable)
            self._tokens.put(token.id, token)
        return Claims(token.id, node, now, token.expires)

    def tokens(self) -> Sequence[Token]:
        """All tokens on record, the oldest first."""
        return sorted(self._tokens.values(), key=lambda token: (token.created, token.id))

    def revoke_token(self, identity: str) -> None:
        """Make a token worthless. Raises RegistryError when there is none."""
        with files.locked(self._folder):
            self.refresh()
            token = self._tokens.get(identity)
            if token is None:
                raise RegistryError(f"no token {identity}")
            self._tokens.put(identity, replace(token, revoked=int(self._now())))

    def redeem(self, claims: Claims, key_digest: str) -> None:
        """Use a token whose signature is good for the public key of this SHA-256 (hex). Raises TokenError."""
        with files.locked(self._folder):
            self.refresh()
            token = self._tokens.get(claims.id)
            if token is None or token.node != claims.node:
                raise TokenError("no record of it")
            if token.revoked is not None:
                raise TokenError("revoked")
            if token.used is not None and token.used != key_digest and not token.reusable:
                raise TokenError("used before, for another key")
            if token.used is None:
                self._tokens.put(token.id, replace(token, used=key_digest))

    # -- certificates ------------------------------------------------------------------------

    def issued(self) -> Sequence[Issued]:
        """All certificates on record, by node, the oldest first."""
        return sorted(self._issued.values(), key=lambda each: (each.node, _age(each)))

    def state(self, record: Issued) -> str:
        """In a few words what a certificate on record is worth."""
        peer = Peer(record.node, record.serial, record.not_before, record.not_after)
        return self.refusal(peer) or "valid"

    def add(self, peer: Peer) -> None:
        """Record a certificate that was signed; to be called before it is handed out."""
        with files.locked(self._folder):
            self.refresh()
            self._forget_old(int(self._now()))
            record = Issued(peer.serial, peer.node, peer.not_before, peer.not_after)
            self._issued.put(peer.serial, record)

    def refusal(self, peer: Peer) -> str | None:
        """Why a certificate is worth nothing although its signature is good; None when it is good."""
        if peer.serial in self._issued.damaged or peer.node in self._nodes.damaged:
            return "its record cannot be read"
        record = self._issued.get(peer.serial)
        if record is not None and record.revoked is not None:
            return "revoked"
        node = self._nodes.get(peer.node)
        if record is None and node is not None and peer.not_before <= node.before:
            return "revoked"
        if peer.not_after <= self._now():
            return "expired"
        if self._newest.get(peer.node, peer.age) > peer.age:
            return "replaced by a newer certificate"
        return None

    def connected(self, peer: Peer) -> None:
        """A board has connected with it: what its node had before is worth nothing from now on."""
        record = self._issued.get(peer.serial)
        if record is not None and record.connected is None:
            with files.locked(self._folder):
                self.refresh()
                record = self._issued.get(peer.serial) or record
                self._issued.put(peer.serial, replace(record, connected=int(self._now())))
            self._find_newest()

    def revoke_serial(self, serial: str) -> None:
        """Make one certificate worthless, one that was made elsewhere too. Raises RegistryError."""
        number = serial.lower().replace(":", "").lstrip("0")
        if not number or len(number) > 40 or not set(number) <= set("0123456789abcdef"):
            raise RegistryError(f"not a serial number in hex: {serial}")
        now = int(self._now())
        with files.locked(self._folder):
            self.refresh()
            # Of one made elsewhere nothing is known, least of all when it ends.
            record = self._issued.get(number) or Issued(number, "", 0, END_OF_TIME)
            self._issued.put(number, replace(record, revoked=record.revoked or now))
        self._find_newest()

    def revoke_node(self, node: str) -> int:
        """Make all certificates worthless that `node` has by now; -> how many of them are on record."""
        now = int(self._now())
        count = 0
        with files.locked(self._folder):
            self.refresh()
            for record in [each for each in self._issued.values() if each.node == node]:
                if record.revoked is None and record.not_after > now:
                    self._issued.put(record.serial, replace(record, revoked=now))
                    count += 1
            self._nodes.put(node, NodeRevocation(node, now))
        self._find_newest()
        return count

    def _find_newest(self) -> None:
        """By node the age of the newest certificate that counts: the youngest that has connected."""
        self._newest = {}
        for record in self._issued.values():
            if record.connected is not None and record.revoked is None:
                self._newest[record.node] = max(_age(record), self._newest.get(record.node, (0, 0)))

    def _forget_old(self, now: int) -> None:
        limit = now - KEEP_SECONDS
        for token in [each for each in self._tokens.values() if each.expires < limit]:
            self._tokens.delete(token.id)
        for record in [each for each in self._issued.values() if each.not_after < limit]:
            self._issued.delete(record.serial)


def _age(record: Issued) -> tuple[int, int]:
    return record.not_before, int(record.serial, 16)
