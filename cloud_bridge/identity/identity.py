"""The identities of an installation as the enrolment server and CloudHub (`peer.Guard`) use them."""

import hashlib
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from cloud_bridge.identity import tokens
from cloud_bridge.identity.authority import BACKDATE, NODE_LIFE, NODE_SIZE_MAX, Authority, read_request
from cloud_bridge.identity.registry import Registry, RegistryError
from cloud_bridge.identity.store import Pair, Store
from cloud_bridge.identity.tokens import NODE_PREFIX, TokenError
from cloud_bridge.names import is_subdomain
from cloud_bridge.peer import Peer

RENEW_FROM, RENEW_TO = 0.7, 0.9
"""At which part of its life a certificate is renewed, as in KubeEdge; which, its serial number decides."""


class Identity:
    """The identities in `store`, whose CA is `authority`. Certificates of nodes last for `life`.

    What changes something raises what the store raises, too.
    """

    def __init__(
        self,
        store: Store,
        authority: Authority,
        life: timedelta = NODE_LIFE,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.authority = authority
        self.registry = Registry(store, now)
        self.refresh = self.registry.refresh
        self.refusal = self.registry.refusal
        self.connected = self.registry.connected
        self._life = life
        self._now = now

    @classmethod
    async def open(
        cls, store: Store, life: timedelta = NODE_LIFE, now: Callable[[], float] = time.time
    ) -> "Identity":
        """With the CA in the store, made if need be. Raises AuthorityError, and what the store raises."""
        return cls(store, await Authority.open(store), life, now)

    async def server(self, names: Sequence[str]) -> Pair:
        """The bridge's certificate and key (PEM) for these host names and addresses."""
        return await self.authority.server(self.store, names)

    async def create_token(self, node: str, ttl: int, reusable: bool) -> str:
        """A new token for `node`, good for `ttl` seconds. Raises RegistryError."""
        _check_name(node)
        claims = await self.registry.create_token(node, ttl, reusable)
        return tokens.make(self.authority.der, self.authority.token_key, claims)

    async def create_pair(self, node: str) -> tuple[bytes, bytes]:
        """A certificate of `node` and its new private key (PKCS #8), both DER. Raises RegistryError.

        For a board that is not to make its own key; nothing of the key is kept here.
        """
        _check_name(node)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NODE_PREFIX + node)])
        request = x509.CertificateSigningRequestBuilder(name).sign(key, hashes.SHA256())
        _, certificate = await self._sign(request.public_bytes(Encoding.DER), node)
        return certificate, key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    async def enrol(self, jwt: str, node: str, request: bytes) -> tuple[Peer, bytes]:
        """The first certificate (DER) of a board that shows a token. Raises TokenError, RequestError."""
        claims = tokens.read(jwt, self.authority.token_key, self._now())
        if claims.node != node:
            raise TokenError(f"token of the node {claims.node}")
        # The request first: a token is not to be spent on one that cannot be signed.
        public = read_request(request, node)
        spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        await self.registry.redeem(claims, hashlib.sha256(spki).hexdigest())
        return await self._sign(request, node)

    async def renew(self, node: str, request: bytes) -> tuple[Peer, bytes]:
        """The next certificate (DER) of `node`, which its present one has proved. Raises RequestError."""
        return await self._sign(request, node)

    def renewal_due(self, peer: Peer) -> bool:
        """Whether it is time for the next certificate."""
        chance = (int(peer.serial, 16) & 0xFFFFFFFF) / 0xFFFFFFFF
        part = RENEW_FROM + (RENEW_TO - RENEW_FROM) * chance
        begin = peer.not_before + BACKDATE.total_seconds()
        return self._now() >= begin + part * (peer.not_after - begin)

    async def _sign(self, request: bytes, node: str) -> tuple[Peer, bytes]:
        made = int(self._now())
        certificate = self.authority.sign(request, node, self._life)
        peer = _peer(certificate, node)
        await self.registry.add(peer, made)
        return peer, certificate.public_bytes(Encoding.DER)


def _check_name(node: str) -> None:
    if not is_subdomain(node) or len(node) > NODE_SIZE_MAX:
        raise RegistryError(f"not a node name of at most {NODE_SIZE_MAX} characters: {node}")


def _peer(certificate: x509.Certificate, node: str) -> Peer:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return Peer(node, f"{certificate.serial_number:x}", int(begin.timestamp()), int(end.timestamp()))
