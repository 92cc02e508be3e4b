"""The certificates that KubeEdge's CA signed for the nodes of this bridge, and how they are got and renewed.

CloudCore serves its CA and signs requests on a port of its own, over HTTPS: ``GET /ca.crt`` to anybody,
``GET /edge.crt`` with a request for a certificate (PKCS #10, DER) in its body to who shows a join token, or
by TLS the certificate that is to be replaced. A token is the SHA-256 of the CA in hex, a dot, and a JSON
Web Token; so the CA is checked before anything is asked of it, and only the second part is ever sent.
"""

import base64
import binascii
import hashlib
import hmac
import http.client
import json
import ssl
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from cloud_bridge.identity import files
from cloud_bridge.names import is_subdomain

HTTP_SECONDS = 30.0
CERTIFICATE_SIZE_MAX = 65536
"""Bytes of a certificate that CloudCore gives."""
ERROR_SIZE_MAX = 300
"""Characters of what CloudCore says is wrong."""
RENEW_FROM, RENEW_TO = 0.7, 0.9
"""At which part of its life a certificate is renewed; which, its serial number decides."""
TOKEN_VARIABLE = "MOTELET_CLOUDCORE_TOKEN"

_CA = "rootCA.pem"
_ADDRESS = "cloudcore.json"


class CredentialsError(Exception):
    """What is wrong with a token, a certificate or CloudCore's answer, in words for who has to mend it."""


class Credentials:
    """The certificates in `folder`: the CA, and a file with certificate and key for each node."""

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._now = now

    def join(self, url: str, token: str, nodes: list[str]) -> None:
        """Get a certificate for each node by the token, from CloudCore at `url` (``https://HOST:PORT``).

        Blocks. Raises CredentialsError; the certificates that were got before are kept.
        """
        digest, jwt = _split(token, self._now())
        for node in nodes:
            if not is_subdomain(node):
                raise CredentialsError(f"not the name of a node: {node}")
        endpoint = _Endpoint(url)
        ca = endpoint.get("/ca.crt", _unverified(), {}, b"")
        if not hmac.compare_digest(hashlib.sha256(ca).hexdigest(), digest):
            raise CredentialsError(
                f"the CA at {url} is not the one that the token is for: "
                f"its SHA-256 is {hashlib.sha256(ca).hexdigest()}, the token says {digest}"
            )
        files.make_folder(self._folder)
        files.make_folder(self._folder / "nodes")
        pem = _certificate(ca).public_bytes(Encoding.PEM)
        files.write(self._folder / _CA, pem)
        files.write(self._folder / _ADDRESS, json.dumps({"https": url}).encode())
        for node in nodes:
            self._get(endpoint, node, verified(pem), {"Authorization": f"Bearer {jwt}"})

    def renew(self, node: str) -> None:
        """Get the node a new certificate, for a new key. Blocks. Raises CredentialsError."""
        url = json.loads(self._read(_ADDRESS))["https"]
        self._get(_Endpoint(url), node, self.context(node), {})

    def url(self) -> str:
        """Where nodes joined before, empty when none did."""
        try:
            return str(json.loads((self._folder / _ADDRESS).read_bytes())["https"])
        except FileNotFoundError:
            return ""

    def has(self, node: str) -> bool:
        """Whether there is a certificate of the node."""
        return self._path(node).exists()

    def renewal_due(self, node: str) -> bool:
        """Whether it is time for the node's next certificate. Raises CredentialsError."""
        certificate = _certificate(self._read(self._path(node)))
        begin, end = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
        chance = (certificate.serial_number & 0xFFFFFFFF) / 0xFFFFFFFF
        return self._now() >= begin + (RENEW_FROM + (RENEW_TO - RENEW_FROM) * chance) * (end - begin)

    def ca(self) -> bytes:
        """The CA, in PEM. Raises CredentialsError."""
        return self._read(_CA)

    def context(self, node: str) -> ssl.SSLContext:
        """What TLS to CloudCore needs to be this node. Raises CredentialsError."""
        path = self.pair(node)
        context = verified(self.ca())
        try:
            context.load_cert_chain(path)
        except ssl.SSLError as error:
            raise CredentialsError(f"{path}: not a certificate and its key ({error.reason})") from error
        return context

    def pair(self, node: str) -> Path:
        """The file with the node's certificate, which is still good, and its key. Raises CredentialsError."""
        path = self._path(node)
        if not path.exists():
            raise CredentialsError(f"no certificate of the node {node}, see motelet bridge join --help")
        end = _certificate(path.read_bytes()).not_valid_after_utc
        if end.timestamp() <= self._now():
            raise CredentialsError(f"the certificate of {node} has expired on {end:%Y-%m-%d %H:%M} UTC")
        return path

    def _get(
        self, endpoint: "_Endpoint", node: str, context: ssl.SSLContext, headers: Mapping[str, str]
    ) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{node}"),
        ]
        request = x509.CertificateSigningRequestBuilder(x509.Name(name)).sign(key, hashes.SHA256())
        der = request.public_bytes(Encoding.DER)
        certificate = _certificate(endpoint.get("/edge.crt", context, {**headers, "NodeName": node}, der))
        if certificate.public_key() != key.public_key():
            raise CredentialsError(f"{endpoint.url} gave a certificate for another key")
        pem = certificate.public_bytes(Encoding.PEM)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        files.write(self._path(node), pem + private)

    def _path(self, node: str) -> Path:
        return self._folder / "nodes" / f"{node}.pem"

    def _read(self, name: str | Path) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError as error:
            raise CredentialsError(f"{error.filename} is missing, see motelet bridge join --help") from error


class _Endpoint:
    """CloudCore's HTTPS port."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname or parts.path not in ("", "/"):
            raise CredentialsError(f"expected https://HOST:PORT: {url}")
        self.url = url
        self._host = parts.hostname
        self._port = parts.port or 443

    def get(self, path: str, context: ssl.SSLContext, headers: Mapping[str, str], body: bytes) -> bytes:
        """The body of the answer to a GET, which may have a body itself."""
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=HTTP_SECONDS, context=context
        )
        try:
            connection.request("GET", path, body, dict(headers))
            response = connection.getresponse()
            data = response.read(CERTIFICATE_SIZE_MAX + 1)
        except ssl.SSLCertVerificationError as error:
            raise CredentialsError(f"{self.url}: {error.verify_message}") from error
        except (OSError, http.client.HTTPException) as error:
            raise CredentialsError(f"cannot reach {self.url}: {error}") from error
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            text = data.decode(errors="replace").strip()[:ERROR_SIZE_MAX]
            raise CredentialsError(f"{self.url}{path} answers {response.status}: {text or response.reason}")
        if len(data) > CERTIFICATE_SIZE_MAX:
            raise CredentialsError(f"{self.url}{path} answers more than {CERTIFICATE_SIZE_MAX} bytes")
        return data


def _split(token: str, now: float) -> tuple[str, str]:
    """The hash of the CA and the JSON Web Token of a join token; one that has expired is worth nothing."""
    parts = token.strip().split(".")
    if len(parts) != 4 or len(parts[0]) != 64:
        raise CredentialsError("not a join token: expected four parts with dots, the first a SHA-256 in hex")
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[2] + "=" * (-len(parts[2]) % 4)))
        expires = claims.get("exp") if isinstance(claims, Mapping) else None
    except (ValueError, binascii.Error) as error:
        raise CredentialsError("not a join token: its claims cannot be read") from error
    if isinstance(expires, int | float) and expires <= now:
        when = datetime.fromtimestamp(expires, UTC)
        raise CredentialsError(f"the token has expired on {when:%Y-%m-%d %H:%M} UTC: get a new one")
    return parts[0].lower(), ".".join(parts[1:])


def _certificate(data: bytes) -> x509.Certificate:
    try:
        pem = b"-----BEGIN" in data
        return x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
    except ValueError as error:
        raise CredentialsError(f"not a certificate: {error}") from error


def verified(ca: bytes) -> ssl.SSLContext:
    """TLS as a client that trusts this CA (PEM) and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=ca.decode("ascii"))
    return context


def _unverified() -> ssl.SSLContext:
    """For the CA itself, which the token vouches for."""
    context: Any = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    checked: ssl.SSLContext = context
    return checked
