"""A stand-in for CloudCore's HTTPS port: its CA, and certificates for who has the token or a certificate.

Made from the description of KubeEdge's protocol: ``GET /ca.crt`` and ``GET /edge.crt`` with the request
in the body, both in DER. What it cannot show: that CloudCore's signer agrees; it copies the subject and the
key, and is as careless about the name as CloudCore is said to be.
"""

import base64
import hashlib
import hmac
import http.server
import json
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from certificates import Authority, key_der, new_key
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


class CaPeer:
    """Listens from `start` to `stop`; `life` is how long the certificates last that it signs."""

    def __init__(self, folder: Path, hosts: tuple[str, ...] = ("127.0.0.1",)) -> None:
        self.authority = Authority("KubeEdge")
        self.life = timedelta(days=365)
        self.backdate = timedelta(0)
        self.requests: list[tuple[str, str]] = []
        key = new_key("ec")
        certificate = self.authority.issue(key, "cloudcore", hosts)
        self.pair = folder / "peer.pem"
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.pair.write_bytes(certificate.public_bytes(Encoding.PEM) + pem)
        self.ca = folder / "peer-ca.pem"
        self.ca.write_bytes(self.authority.certificate.public_bytes(Encoding.PEM))

    def context(self, required: bool) -> ssl.SSLContext:
        """TLS as CloudCore has it: a client certificate of its CA is asked for, or required."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pair)
        context.load_verify_locations(self.ca)
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        return context

    def start(self) -> str:
        """Listen; -> the URL."""
        peer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = peer.answer(self)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = self.context(required=False).wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"https://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def token(self, life: float = 3600.0) -> str:
        """A join token."""
        claims = {"exp": int(time.time() + life)}
        parts = [_encode(json.dumps(each).encode()) for each in ({"alg": "HS256", "typ": "JWT"}, claims)]
        signed = ".".join(parts)
        return f"{hashlib.sha256(self.authority.der).hexdigest()}.{signed}.{_encode(self._mac(signed))}"

    def answer(self, request: Any) -> tuple[int, bytes]:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        if request.path == "/ca.crt":
            return 200, self.authority.der
        node = request.headers.get("NodeName", "")
        subject = request.connection.getpeercert()
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        by = "certificate" if subject else "token"
        self.requests.append((node, by))
        if subject:
            names = [value for part in subject["subject"] for key, value in part if key == "commonName"]
            if names != [f"system:node:{node}"]:
                return 401, b"certificate of another node"
        elif not self._good(bearer):
            return 401, b"token is invalid"
        return 200, self.sign(body)

    def sign(self, request: bytes) -> bytes:
        csr = x509.load_der_x509_csr(request)
        assert csr.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "system:nodes"
        begin = datetime.now(UTC) - self.backdate
        builder = (
            x509.CertificateBuilder(self.authority.name, csr.subject, csr.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + self.life)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        )
        return builder.sign(self.authority.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def _good(self, bearer: str) -> bool:
        signed, _, mac = bearer.rpartition(".")
        return hmac.compare_digest(_encode(self._mac(signed)), mac)

    def _mac(self, text: str) -> bytes:
        return hmac.digest(key_der(self.authority.key, "traditional"), text.encode(), "sha256")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
