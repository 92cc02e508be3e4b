"""Certificates in DER for the tests of TLS, good ones and bad ones."""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

HOST = "bridge.test"
DAY = timedelta(days=1)


def new_key(kind: str) -> Any:
    """A private key: "ec" (P-256) or "rsa" (2048 bits)."""
    return ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, 2048)


def key_der(key: Any, form: str) -> bytes:
    """The key in DER: "pkcs8", or "traditional" (SEC 1 or PKCS#1)."""
    shape = PrivateFormat.PKCS8 if form == "pkcs8" else PrivateFormat.TraditionalOpenSSL
    return bytes(key.private_bytes(Encoding.DER, shape, NoEncryption()))


class Authority:
    """A certificate authority that signs whatever it is asked to."""

    def __init__(self, name: str, kind: str = "ec") -> None:
        self.key = new_key(kind)
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self.name, self.key.public_key(), [], ca=True, ends_in=DAY)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def issue(
        self, key: Any, name: str, hosts: tuple[str, ...] = (HOST,), ends_in: timedelta = DAY
    ) -> x509.Certificate:
        """A certificate for `key`, CN `name`; `ends_in` below zero has expired."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names: list[x509.GeneralName] = [
            x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
            for host in hosts
        ]
        return self._sign(subject, key.public_key(), names, ca=False, ends_in=ends_in)

    def _sign(
        self, subject: x509.Name, public: Any, names: list[x509.GeneralName], ca: bool, ends_in: timedelta
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder(issuer_name=self.name, subject_name=subject, public_key=public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * DAY)
            .not_valid_after(now + ends_in)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())


def write_server(folder: Path, certificate: x509.Certificate, key: Any) -> Path:
    """One PEM file with the certificate and its key, as CPython's ssl server wants it."""
    path = folder / "server.pem"
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(certificate.public_bytes(Encoding.PEM) + pem)
    return path
