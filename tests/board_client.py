"""A `SimulatedBoard` on a real WebSocket connection."""

import asyncio
import base64
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path
from ssl import DER_cert_to_PEM_cert
from typing import Any

from cloud_bridge.cloudhub.tls import context_of
from cloud_bridge.identity.folder import Folder, at_once
from cloud_bridge.identity.identity import Identity
from motelet.tools.load import client

SERVER_NAMES = ("localhost", "127.0.0.1")

SECONDS_MAX = 90


def client_context(
    identity: Identity, node: str | None, pair: tuple[bytes, bytes] | None = None
) -> ssl.SSLContext:
    """What a board has: the CA of `identity`, and a certificate of `node` if any: `pair`, or a new one."""
    context = ssl.create_default_context(cadata=identity.authority.der)
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python 3.13 has it by default
    if node is not None:
        certificate, key = pair or at_once(identity.create_pair(node))
        pem = DER_cert_to_PEM_cert(certificate) + "-----BEGIN PRIVATE KEY-----\n"
        pem += base64.encodebytes(key).decode() + "-----END PRIVATE KEY-----\n"
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(pem)
            file.flush()
            context.load_cert_chain(file.name)
    return context


def server_of(identity: Identity) -> ssl.SSLContext:
    """What a bridge has that serves as localhost."""
    return context_of(at_once(identity.server(SERVER_NAMES)), identity.authority.der)


def identity_in(folder: Path, *more: Any) -> Identity:
    """The identities in a state folder."""
    return at_once(Identity.open(Folder(folder), *more))


def server_files(identity: Identity) -> tuple[Path, Path, Path]:
    """Certificate and key of a bridge that serves as localhost, and the CA: files of its state folder."""
    at_once(identity.server(SERVER_NAMES))
    assert isinstance(identity.store, Folder)
    folder = identity.store.path
    return folder / "server.pem", folder / "server-key.pem", folder / "ca.pem"


class BoardClient(client.BoardClient):
    """As `motelet load` has it, and what a test waits for."""

    async def until(self, condition: Callable[[], Any]) -> None:
        """Carry messages both ways until `condition()` holds."""
        async with asyncio.timeout(SECONDS_MAX):
            await self.flush()
            while not condition():
                try:
                    async with asyncio.timeout(0.02):
                        data = await self.socket.recv()
                except TimeoutError:
                    continue  # the condition may be about something else than a message
                self.receive(data)
                await self.flush()

    async def closed(self) -> int | None:
        """Wait until the bridge closes; -> the close code."""
        async with asyncio.timeout(SECONDS_MAX):
            await self.socket.wait_closed()
        return self.socket.close_code


async def until(condition: Callable[[], Any]) -> None:
    """Wait until `condition()` holds."""
    async with asyncio.timeout(SECONDS_MAX):
        while not condition():
            await asyncio.sleep(0.01)


def read(path: Path) -> str:
    """The text of a file, empty when it is not there."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
