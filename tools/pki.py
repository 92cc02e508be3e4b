"""A certificate authority small enough to read, for the demo and the tests.

It makes what a bridge and its boards need to trust each other: a CA, a server certificate for the bridge,
and one client certificate a node, named as Kubernetes names a node (CN ``system:node:<node>``, O
``system:nodes``). The bridge gets PEM, which Python's `ssl` reads; a board gets DER, because
MicroPython's TLS reads nothing else. All keys are P-256: a handshake with them costs a board less RAM
than one with RSA.

Everything here is idempotent: what is there, still valid, and signed by this CA for the same names is kept.
"""

import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS = 3650
CERTIFICATE_DAYS = 365
RENEW_DAYS = 30
"""A certificate with less than this left is made again."""
BACKDATE = timedelta(hours=1)
"""How far a board's clock may lag behind the clock that signed its certificate."""
NODE_PREFIX = "system:node:"
NODE_ORGANIZATION = "system:nodes"
NODE_NAME_MAX = 64 - len(NODE_PREFIX)
"""X.509 ends a common name at 64 characters (RFC 5280, appendix A.1, ub-common-name)."""
SERVER_NAMES = ("localhost", "127.0.0.1")


class Authority:
    """The CA in `folder` (``ca.pem``, ``ca-key.pem``), made at the first use.

    Raises OSError when the folder cannot be written and ValueError when what is there cannot be read as PEM.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificate_path = folder / "ca.pem"
        self._key_path = folder / "ca-key.pem"
        folder.mkdir(parents=True, exist_ok=True)
        if not self._load():
            self._create()

    def server(self, names: Sequence[str] = SERVER_NAMES) -> tuple[Path, Path]:
        """Paths of the server's certificate and key (PEM), valid for `names`: host names and IP addresses."""
        certificate, key = self.folder / "server.pem", self.folder / "server-key.pem"
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        self._issue(certificate, key, subject, ExtendedKeyUsageOID.SERVER_AUTH, alternatives)
        return certificate, key

    def node(self, name: str) -> tuple[Path, Path]:
        """Paths of the client certificate and key (PEM) of the node `name`.

        Raises ValueError when the name is empty, no file name, or longer than NODE_NAME_MAX.
        """
        if not name or "/" in name or name.startswith("."):
            raise ValueError(f"not a node name: {name!r}")
        if len(name) > NODE_NAME_MAX:
            raise ValueError(
                f"node name of {len(name)} characters, a certificate holds {NODE_NAME_MAX}: {name}"
            )
        certificate, key = self.folder / f"node-{name}.pem", self.folder / f"node-{name}-key.pem"
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, NODE_ORGANIZATION),
                x509.NameAttribute(NameOID.COMMON_NAME, NODE_PREFIX + name),
            ]
        )
        self._issue(certificate, key, subject, ExtendedKeyUsageOID.CLIENT_AUTH, None)
        return certificate, key

    def node_der(self, name: str, folder: Path) -> None:
        """Write what the board `name` needs into `folder`: ca.der, node.der and node-key.der (PKCS#8)."""
        certificate, key = self.node(name)
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "ca.der", self._certificate.public_bytes(Encoding.DER))
        _write(
            folder / "node.der",
            x509.load_pem_x509_certificate(certificate.read_bytes()).public_bytes(Encoding.DER),
        )
        private = load_pem_private_key(key.read_bytes(), None)
        encoded = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        _write(folder / "node-key.der", encoded, secret=True)

    def _load(self) -> bool:
        """Take the CA that is there. False when there is none or it has expired."""
        if not (self.certificate_path.exists() and self._key_path.exists()):
            return False
        key = load_pem_private_key(self._key_path.read_bytes(), None)
        certificate = x509.load_pem_x509_certificate(self.certificate_path.read_bytes())
        if not isinstance(key, ec.EllipticCurvePrivateKey) or _expires(certificate):
            return False
        self._key, self._certificate = key, certificate
        # The two files are written one after the other; a run that was stopped in between left no pair.
        return certificate.public_key() == key.public_key()

    def _create(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "motelet CA")])
        builder = _builder(name, name, self._key.public_key(), CA_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
        self._certificate = builder.sign(self._key, hashes.SHA256())
        _write(self._key_path, _pem(self._key), secret=True)
        _write(self.certificate_path, self._certificate.public_bytes(Encoding.PEM))

    def _issue(
        self,
        certificate_path: Path,
        key_path: Path,
        subject: x509.Name,
        usage: x509.ObjectIdentifier,
        alternatives: x509.SubjectAlternativeName | None,
    ) -> None:
        if self._good(certificate_path, key_path, alternatives):
            return
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(subject, self._certificate.subject, key.public_key(), CERTIFICATE_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
        )
        if alternatives is not None:
            builder = builder.add_extension(alternatives, critical=False)
        _write(key_path, _pem(key), secret=True)
        _write(certificate_path, builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def _good(
        self, certificate_path: Path, key_path: Path, alternatives: x509.SubjectAlternativeName | None
    ) -> bool:
        """Whether the certificate and its key are there, match, last, name the same names and are ours."""
        if not (certificate_path.exists() and key_path.exists()):
            return False
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        key = load_pem_private_key(key_path.read_bytes(), None)
        if _expires(certificate) or certificate.public_key() != key.public_key():
            return False
        try:
            certificate.verify_directly_issued_by(self._certificate)
        except (InvalidSignature, ValueError):
            return False
        if alternatives is None:
            return True
        return (
            certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value == alternatives
        )


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=public_key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - BACKDATE).not_valid_after(now + timedelta(days=days))
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)


def _key_usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _expires(certificate: x509.Certificate) -> bool:
    return certificate.not_valid_after_utc < datetime.now(UTC) + timedelta(days=RENEW_DAYS)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, content: bytes, secret: bool = False) -> None:
    """Replace the file atomically. A secret is never readable by others, not even while it is written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if secret else 0o644)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
