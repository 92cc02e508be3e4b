"""Certificates of the boards: a folder of pairs, and two ways to fill it.

    <folder>/<node>/ca.der, node.der, node-key.der      as `motelet bridge cert create NODE --out` writes them

What is missing is made by the CA of a bridge on this computer, or fetched from the bridge with a token, as a
board does: it checks the CA by the token's hash before it trusts it, and its key never leaves this computer.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from cloud_bridge.backends import files
from cloud_bridge.cloudhub.tls import load_pair
from cloud_bridge.identity.authority import AuthorityError
from cloud_bridge.identity.enrolment import CA_PATH, CERTIFICATE_PATH
from cloud_bridge.identity.folder import Folder, at_once
from cloud_bridge.identity.identity import Identity
from cloud_bridge.identity.registry import RegistryError
from cloud_bridge.identity.tokens import NODE_PREFIX
from cloud_bridge.names import is_subdomain
from motelet.tools.cli import UserError

ENROL_SECONDS = 30.0
ANSWER_SIZE_MAX = 4096
"""Bytes of what the bridge answers: a certificate has about 500."""
TOKENS_SIZE_MAX = 8 * 1024 * 1024
"""Bytes of the file of tokens; one has about 300."""


class Pairs:
    """The folder, made if missing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def missing(self, nodes: Sequence[str]) -> list[str]:
        """Those of the nodes that have no certificate here."""
        return [node for node in nodes if not (self.folder / node / "node.der").exists()]

    def put(self, node: str, ca: bytes, certificate: bytes, key: bytes) -> None:
        """Keep a pair, all DER, readable by this user only."""
        folder = self.folder / node
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The certificate last: whoever finds it finds the rest.
        for name, content in (("node-key.der", key), ("ca.der", ca), ("node.der", certificate)):
            files.replace(folder / name, content, mode=0o600, durable=False)

    def context(self, node: str) -> ssl.SSLContext:
        """The client's side of mutual TLS for a node. Raises UserError naming the file."""
        folder = self.folder / node
        try:
            ca, *pair = ((folder / name).read_bytes() for name in ("ca.der", "node.der", "node-key.der"))
            context = _trusting(ca)
            load_pair(context, *pair)
        except ssl.SSLError as error:
            raise UserError(f"{folder / 'ca.der'}: not a certificate in DER") from error
        except OSError as error:
            raise UserError(f"{error.filename}: {error.strerror}") from error
        except ValueError as error:
            raise UserError(f"{folder}: {error}") from error
        return context


def make(pairs: Pairs, nodes: Sequence[str], state: Path) -> None:
    """Make the pairs of these nodes by the CA in the bridge's folder `state`. Raises UserError."""
    if not (state / "ca.pem").exists():
        raise UserError(f"--state {state}: there is no CA; it is the folder that the bridge was given")
    try:
        identity = at_once(Identity.open(Folder(state)))
        for node in nodes:
            certificate, key = at_once(identity.create_pair(node))
            pairs.put(node, identity.authority.der, certificate, key)
    except (AuthorityError, RegistryError) as error:
        raise UserError(f"--state {state}: {error}") from error


def read_tokens(path: Path) -> Mapping[str, str]:
    """Node to token, of a file with one token a line as `motelet bridge token create` prints it."""
    if path.stat().st_size > TOKENS_SIZE_MAX:
        raise UserError(f"{path}: more than {TOKENS_SIZE_MAX} bytes")
    tokens = {}
    for number, line in enumerate(path.read_text(encoding="ascii", errors="replace").splitlines(), 1):
        token = line.strip()
        if token:
            tokens[_node(token, f"{path}, line {number}")] = token
    return tokens


def enrol(pairs: Pairs, node: str, token: str, host: str, port: int, name: str) -> None:
    """Join as `node`: have a new key certified at the bridge's enrolment port. Raises UserError.

    `name` is what the bridge's certificate has to be for, once its CA is known.
    """
    digest, _, bearer = token.partition(".")
    unchecked = ssl.create_default_context()
    unchecked.check_hostname = False
    unchecked.verify_mode = ssl.CERT_NONE  # what comes counts only if its hash is that in the token
    ca = _ask(unchecked, host, port, host, "GET", CA_PATH, b"", {})
    if hashlib.sha256(ca).hexdigest() != digest:
        raise UserError(f"{host}:{port}: its CA is not that of the token of {node}")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NODE_PREFIX + node)])
    request = x509.CertificateSigningRequestBuilder(subject).sign(key, hashes.SHA256())
    headers = {"Authorization": f"Bearer {bearer}", "NodeName": node}
    body = request.public_bytes(Encoding.DER)
    certificate = _ask(_trusting(ca), host, port, name, "POST", CERTIFICATE_PATH, body, headers)
    pairs.put(node, ca, certificate, key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


def _trusting(ca: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ca)
    return context


class _Connection(http.client.HTTPSConnection):
    """To an address, with a certificate for another name."""

    def __init__(self, host: str, port: int, name: str, context: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=ENROL_SECONDS, context=context)
        self._name = name
        self._tls = context

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name)


def _ask(
    context: ssl.SSLContext,
    host: str,
    port: int,
    name: str,
    method: str,
    path: str,
    body: bytes,
    headers: Mapping[str, str],
) -> bytes:
    connection = _Connection(host, port, name, context)
    try:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        content = answer.read(ANSWER_SIZE_MAX)
    except (OSError, http.client.HTTPException) as error:
        raise UserError(f"cannot join at {host}:{port}: {error}") from error
    finally:
        connection.close()
    if answer.status != http.HTTPStatus.OK:
        raise UserError(f"{host}:{port} refuses: {content.decode(errors='replace').strip()}")
    return content


def _node(token: str, where: str) -> str:
    """Whom the token is for; whether it is good is for the bridge to say. Raises UserError."""
    parts = token.split(".")
    try:
        payload = parts[2] + "=" * (-len(parts[2]) % 4)
        subject = json.loads(base64.urlsafe_b64decode(payload))["sub"]
        node = str(subject).removeprefix(NODE_PREFIX)
        if len(parts) == 4 and is_subdomain(node):  # it becomes the name of a folder
            return node
    except (ValueError, LookupError, TypeError):
        pass
    raise UserError(f"{where}: not a token of `motelet bridge token create`")
