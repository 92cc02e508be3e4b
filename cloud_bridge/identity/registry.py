"""What was handed out and what was taken back: tokens, certificates, revocations.

The records are in a `store.Store`, where other processes (the command line, other bridges) change them too.
Rules about them are here and nowhere else:

* a token that may be used once is bound to the first public key it was used for, and good for that key
  again: a board whose power went before it stored its certificate asks once more, and who saw the token
  but has not the key gets nothing;
* of two certificates of one node the older is worth nothing once the newer has connected: so a rotation
  ends by itself, and of two boards with one name the one that joined last is the node.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from cloud_bridge.identity.store import Issued, NodeRevocation, Result, Store, Tables, Token
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


class Registry:
    """The records in `store`. `now` tells the time in seconds since 1970. Raises what the store raises."""

    def __init__(self, store: Store, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._now = now
        self._newest: dict[str, tuple[int, int]] = {}
        self._find_newest()

    def refresh(self) -> bool:
        """Look for what others changed; -> whether there was something."""
        changed = self._store.refresh()
        if changed:
            self._find_newest()
        return changed

    # -- tokens ------------------------------------------------------------------------------

    async def create_token(self, node: str, ttl: int, reusable: bool) -> Claims:
        """Record a new token for `node` that lives `ttl` seconds. Raises RegistryError."""
        if not 0 < ttl <= TTL_MAX:
            raise RegistryError(f"a token lives 1 to {TTL_MAX} seconds, not {ttl}")
        now = int(self._now())
        token = Token(secrets.token_hex(8), node, now, now + ttl, reusable)

        def act(tables: Tables) -> None:
            _forget_old(tables, now)
            if sum(each.state(now) == "valid" for each in self._store.tables.tokens.values()) >= TOKENS_MAX:
                raise RegistryError(f"there are {TOKENS_MAX} tokens already; revoke some")
            tables.tokens.put(token.id, token)

        await self._change(node, act)
        return Claims(token.id, node, now, token.expires)

    def tokens(self) -> Sequence[Token]:
        """All tokens on record, the oldest first."""
        return sorted(self._store.tables.tokens.values(), key=lambda token: (token.created, token.id))

    async def revoke_token(self, identity: str) -> None:
        """Make a token worthless. Raises RegistryError when there is none."""
        self.refresh()
        known = self._store.tables.tokens.get(identity)

        def act(tables: Tables) -> None:
            token = tables.tokens.get(identity)
            if token is None:
                raise RegistryError(f"no token {identity}")
            tables.tokens.put(identity, replace(token, revoked=int(self._now())))

        await self._change(known.node if known else "", act)

    async def redeem(self, claims: Claims, key_digest: str) -> None:
        """Use a token whose signature is good for the public key of this SHA-256 (hex). Raises TokenError."""

        def act(tables: Tables) -> None:
            token = tables.tokens.get(claims.id)
            if token is None or token.node != claims.node:
                raise TokenError("no record of it")
            if token.revoked is not None:
                raise TokenError("revoked")
            if token.used is not None and token.used != key_digest and not token.reusable:
                raise TokenError("used before, for another key")
            if token.used is None:
                tables.tokens.put(token.id, replace(token, used=key_digest))

        await self._change(claims.node, act)

    # -- certificates ------------------------------------------------------------------------

    def issued(self) -> Sequence[Issued]:
        """All certificates on record, by node, the oldest first."""
        return sorted(self._store.tables.issued.values(), key=lambda each: (each.node, _age(each)))

    def state(self, record: Issued) -> str:
        """In a few words what a certificate on record is worth."""
        peer = Peer(record.node, record.serial, record.not_before, record.not_after)
        return self.refusal(peer) or "valid"

    async def add(self, peer: Peer, made: int) -> None:
        """Record a certificate that was signed at `made`; to be called before it is handed out.

        It is worth nothing where its node was revoked meanwhile.
        """

        def act(tables: Tables) -> None:
            _forget_old(tables, int(self._now()))
            node = tables.nodes.get(peer.node)
            revoked = node.before if node is not None and node.before > made else None
            record = Issued(peer.serial, peer.node, peer.not_before, peer.not_after, revoked=revoked)
            tables.issued.put(peer.serial, record)

        await self._change(peer.node, act)

    def refusal(self, peer: Peer) -> str | None:
        """Why a certificate is worth nothing although its signature is good; None when it is good."""
        tables = self._store.tables
        if peer.serial in tables.issued.damaged or peer.node in tables.nodes.damaged:
            return "its record cannot be read"
        record = tables.issued.get(peer.serial)
        if record is not None and record.revoked is not None:
            return "revoked"
        node = tables.nodes.get(peer.node)
        if record is None and node is not None and peer.not_before <= node.before:
            return "revoked"
        if peer.not_after <= self._now():
            return "expired"
        if self._newest.get(peer.node, peer.age) > peer.age:
            return "replaced by a newer certificate"
        return None

    async def connected(self, peer: Peer) -> None:
        """A board has connected with it: what its node had before is worth nothing from now on."""
        known = self._store.tables.issued.get(peer.serial)
        if known is not None and known.connected is not None:
            return

        def act(tables: Tables) -> None:
            record = tables.issued.get(peer.serial)
            if record is not None and record.connected is None:
                tables.issued.put(peer.serial, replace(record, connected=int(self._now())))

        await self._change(peer.node, act)

    async def revoke_serial(self, serial: str) -> None:
        """Make one certificate worthless, one that was made elsewhere too. Raises RegistryError."""
        number = serial.lower().replace(":", "").lstrip("0")
        if not number or len(number) > 40 or not set(number) <= set("0123456789abcdef"):
            raise RegistryError(f"not a serial number in hex: {serial}")
        now = int(self._now())
        self.refresh()
        known = self._store.tables.issued.get(number)

        def act(tables: Tables) -> None:
            # Of one made elsewhere nothing is known, least of all when it ends.
            record = tables.issued.get(number) or Issued(number, "", 0, END_OF_TIME)
            tables.issued.put(number, replace(record, revoked=record.revoked or now))

        await self._change(known.node if known else "", act)

    async def revoke_node(self, node: str) -> int:
        """Make all certificates worthless that `node` has by now; -> how many of them are on record."""
        now = int(self._now())

        def act(tables: Tables) -> int:
            live = [
                each
                for each in tables.issued.values()
                if each.node == node and each.revoked is None and each.not_after > now
            ]
            for record in live:
                tables.issued.put(record.serial, replace(record, revoked=now))
            tables.nodes.put(node, NodeRevocation(node, now))
            return len(live)

        return await self._change(node, act)

    async def _change(self, node: str, act: Callable[[Tables], Result]) -> Result:
        try:
            return await self._store.change(node, act)
        finally:
            self._find_newest()

    def _find_newest(self) -> None:
        """By node the age of the newest certificate that counts: the youngest that has connected."""
        self._newest = {}
        for record in self._store.tables.issued.values():
            if record.connected is not None and record.revoked is None:
                self._newest[record.node] = max(_age(record), self._newest.get(record.node, (0, 0)))


def _forget_old(tables: Tables, now: int) -> None:
    limit = now - KEEP_SECONDS
    for token in [each for each in tables.tokens.values() if each.expires < limit]:
        tables.tokens.delete(token.id)
    for record in [each for each in tables.issued.values() if each.not_after < limit]:
        tables.issued.delete(record.serial)


def _age(record: Issued) -> tuple[int, int]:
    return record.not_before, int(record.serial, 16)
