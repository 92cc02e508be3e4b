"""The certificates of the nodes as sessions use them: got when one is missing, renewed when it is time."""

import asyncio
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

from cloud_bridge.backends.base import BackendError
from cloud_bridge.backends.cloudcore.credentials import (
    TOKEN_VARIABLE,
    Credentials,
    CredentialsError,
    verified,
)


class Access(Protocol):
    """How a node gets into CloudHub."""

    async def context(self, node: str) -> ssl.SSLContext | None:
        """TLS with the certificate of the node, None for no TLS. Raises BackendError."""

    async def renew(self, node: str) -> bool:
        """Renew the certificate of the node if it is time; -> whether it was. Raises BackendError."""


class _Connection(ssl.SSLObject):
    """A connection that lets go of its certificate and key, 6 KiB, once CloudCore has seen them."""

    after: ssl.SSLContext

    def do_handshake(self) -> None:
        super().do_handshake()
        self.context = self.after


class _Contexts:
    """What all nodes' connections are made from: `first` for the handshake, `after` for what follows."""

    def __init__(self, ca: bytes) -> None:
        self.ca = ca
        self.first, self.after = verified(ca), verified(ca)
        self.first.sslobject_class = _Connection


class _NodeContext:
    """The TLS context of one node, as far as asyncio looks at it: one for all, with the node's certificate.

    A context of its own costs a node 22 KiB. A connection keeps the certificate that its context had when
    it was made, and making it has nothing to wait for.
    """

    def __init__(self, contexts: _Contexts, pair: Path) -> None:
        self._contexts = contexts
        self._pair = pair

    def wrap_bio(self, *buffers: Any, **options: Any) -> ssl.SSLObject:
        """A new connection. Raises OSError."""
        self._contexts.first.load_cert_chain(self._pair)
        connection = cast(_Connection, self._contexts.first.wrap_bio(*buffers, **options))
        connection.after = self._contexts.after
        return connection


class CertificateAccess:
    """`Access` by certificates in `folder`.

    A node without one joins by the token in `token_file`, or in the environment, if there is any; then
    `url` (``https://HOST:PORT``) says where.
    """

    def __init__(self, folder: Path, url: str = "", token_file: Path | None = None) -> None:
        self._credentials = Credentials(folder)
        self._url = url
        self._token_file = token_file
        self._contexts: _Contexts | None = None

    async def context(self, node: str) -> ssl.SSLContext | None:
        """TLS with the certificate of the node. Raises BackendError."""
        if not self._credentials.has(node) and self._url:
            token = read_token(self._token_file)
            if token:
                # Where others joined before: the port may be another one than KubeEdge's.
                await self._blocking(
                    lambda: self._credentials.join(self._credentials.url() or self._url, token, [node])
                )
        found: list[tuple[Path, bytes]] = []
        await self._blocking(lambda: found.append((self._credentials.pair(node), self._credentials.ca())))
        path, ca = found[0]
        if self._contexts is None or ca != self._contexts.ca:
            self._contexts = _Contexts(ca)
        return cast(ssl.SSLContext, _NodeContext(self._contexts, path))

    async def renew(self, node: str) -> bool:
        """Renew the certificate of the node if it is time. Raises BackendError."""
        due: list[bool] = []
        await self._blocking(lambda: due.append(self._credentials.renewal_due(node)))
        if due[0]:
            await self._blocking(lambda: self._credentials.renew(node))
        return due[0]

    @staticmethod
    async def _blocking(work: Callable[[], None]) -> None:
        try:
            await asyncio.to_thread(work)
        except (CredentialsError, OSError) as error:
            raise BackendError(str(error)) from error


class PlainAccess:
    """`Access` without TLS: for tests on a loopback address only."""

    async def context(self, node: str) -> ssl.SSLContext | None:
        """No TLS."""
        del node
        return None

    async def renew(self, node: str) -> bool:
        """Nothing to renew."""
        del node
        return False


def read_token(file: Path | None) -> str:
    """The join token in the file, or else in the environment; empty without one. Raises BackendError."""
    if file is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip()
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BackendError(f"cannot read the token: {file}: {error}") from error
