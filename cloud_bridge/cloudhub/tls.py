"""Who a board is: mutual TLS, and the node that a client certificate names."""

import ssl
import tempfile
from asyncio import sslproto
from pathlib import Path
from typing import Any

from cloud_bridge.names import is_subdomain
from cloud_bridge.peer import Peer

READ_BUFFER_SIZE = 2048
"""Bytes that asyncio reads at a time from a TLS connection, kept for each: its own choice is 256 KiB."""
_NODE_PREFIX = "system:node:"
_PEM_BEGIN = b"-----BEGIN "
_KEY_LABELS = ("PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY")  # PKCS #8, SEC 1, PKCS #1


def server_context(cert: Path, key: Path, client_ca: Path | None) -> ssl.SSLContext:
    """`context_of` files. Raises OSError when one cannot be read; the text of ValueError names the file."""
    pair, ca = (cert.read_bytes(), key.read_bytes()), client_ca.read_bytes() if client_ca else None
    try:
        return context_of(pair, ca)
    except _CertificateError as error:
        raise ValueError(f"{client_ca}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{cert} and {key}: {error}") from error


def context_of(pair: tuple[bytes, bytes], client_ca: bytes | None) -> ssl.SSLContext:
    """The server's side of mutual TLS, 1.2 or better: nobody without a certificate by `client_ca` gets in.

    Without a `client_ca` nobody is asked for one. All three are PEM or DER. Raises ValueError for content
    that cannot be used.
    """
    # For all of the process: asyncio has no option for it, so a test sees to it that this is what counts.
    sslproto.SSLProtocol.max_size = READ_BUFFER_SIZE
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # A session ticket is of no use to a board, whose TLS does not keep them, and costs memory here.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_pair(context, *pair)
    if client_ca is None:
        return context
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(cadata=client_ca.decode("ascii") if _is_pem(client_ca) else client_ca)
    except (ssl.SSLError, ValueError) as error:
        raise _CertificateError("not a certificate in PEM or DER") from error
    return context


class _CertificateError(ValueError):
    """It is the CA's certificate that cannot be used."""


def certificate_peer(certificate: dict[str, Any]) -> Peer | None:
    """The client certificate (`ssl.SSLSocket.getpeercert`) of a node, None when it names none."""
    node = _node(certificate)
    if node is None:
        return None
    begin, end = (int(ssl.cert_time_to_seconds(certificate[key])) for key in ("notBefore", "notAfter"))
    return Peer(node, certificate["serialNumber"].lower().lstrip("0") or "0", begin, end)


def _node(certificate: dict[str, Any]) -> str | None:
    names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    if len(names) != 1 or not names[0].startswith(_NODE_PREFIX):
        return None
    node: str = names[0].removeprefix(_NODE_PREFIX)
    return node if is_subdomain(node) else None


def load_pair(context: ssl.SSLContext, chain: bytes, private: bytes) -> None:
    """Have new connections of `context` show this certificate, PEM or DER. Raises ValueError."""
    chain = chain if _is_pem(chain) else ssl.DER_cert_to_PEM_cert(chain).encode()
    privates = [private] if _is_pem(private) else [_pem_key(private, label) for label in _KEY_LABELS]
    for each in privates:
        # The ssl module takes paths only. The file is readable by this user only, and gone at once.
        with tempfile.NamedTemporaryFile() as file:
            file.write(chain + b"\n" + each)
            file.flush()
            try:
                # A callback, for otherwise OpenSSL would ask the terminal for the password of a key.
                context.load_cert_chain(file.name, password=lambda: b"")
            except ssl.SSLError as failure:
                error = failure
                continue
        return
    raise ValueError(f"not a certificate and its private key ({error.reason})") from error


def _is_pem(data: bytes) -> bool:
    return _PEM_BEGIN in data


def _pem_key(der: bytes, label: str) -> bytes:
    certificate = ssl.DER_cert_to_PEM_cert(der)  # it does the base64 and the line ends
    return certificate.replace("CERTIFICATE", label).encode()
