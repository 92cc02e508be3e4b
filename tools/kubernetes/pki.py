"""The certificates of a test cluster: one CA, the API server, any client, and the key of service accounts."""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFE = timedelta(days=7)


class ClusterCA:
    """A certificate authority whose files are in `folder`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("motelet-test-ca", ())
        self.certificate_path = folder / "ca.crt"
        certificate = self._sign(self._name, self._key.public_key(), None, ())
        self.certificate_path.write_bytes(certificate.public_bytes(Encoding.PEM))
        self.service_account_key = folder / "service-account.key"
        _write_key(self.service_account_key, ec.generate_private_key(ec.SECP256R1()))

    def server(self, addresses: Sequence[str], names: Sequence[str]) -> tuple[Path, Path]:
        """Files of a server's certificate and key, good for these IP addresses and DNS names."""
        alternatives: list[x509.GeneralName] = [x509.DNSName(each) for each in names]
        alternatives += [x509.IPAddress(ipaddress.ip_address(each)) for each in addresses]
        return self._issue("kube-apiserver", (), ExtendedKeyUsageOID.SERVER_AUTH, alternatives)

    def client(self, user: str, groups: Sequence[str]) -> tuple[Path, Path]:
        """Files of the certificate and key of a user in these groups."""
        return self._issue(user, groups, ExtendedKeyUsageOID.CLIENT_AUTH, ())

    def _issue(
        self,
        name: str,
        groups: Sequence[str],
        usage: x509.ObjectIdentifier,
        alternatives: Sequence[x509.GeneralName],
    ) -> tuple[Path, Path]:
        file = self._folder / name.replace(":", "-")
        certificate_path, key_path = file.with_suffix(".crt"), file.with_suffix(".key")
        if not certificate_path.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            certificate = self._sign(_name(name, groups), key.public_key(), usage, alternatives)
            _write_key(key_path, key)
            certificate_path.write_bytes(certificate.public_bytes(Encoding.PEM))
        return certificate_path, key_path

    def _sign(
        self,
        subject: x509.Name,
        public: ec.EllipticCurvePublicKey,
        usage: x509.ObjectIdentifier | None,
        alternatives: Sequence[x509.GeneralName],
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        ca = x509.BasicConstraints(ca=usage is None, path_length=None)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            x509.CertificateBuilder(issuer_name=self._name, subject_name=subject, public_key=public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + LIFE)
            .add_extension(ca, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(identifier, critical=False)
        )
        if usage is None:
            signs = dict.fromkeys(("key_cert_sign", "crl_sign", "digital_signature"), True)
            others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
            rest = dict.fromkeys((*others, "encipher_only", "decipher_only"), False)
            builder = builder.add_extension(x509.KeyUsage(**signs, **rest), critical=True)
        else:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _name(common_name: str, groups: Sequence[str]) -> x509.Name:
    organizations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in groups]
    return x509.Name([*organizations, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
