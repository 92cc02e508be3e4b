"""The CA of an installation: its key, the bridge's own certificate, and the signing of boards' requests.

The CA's and the bridge's certificates are valid from the year 2000 on, where a board's clock starts that
was never set: so a board that knows no time connects, and is told it. What ends is what counts.
"""

import ipaddress
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

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

from cloud_bridge.identity.store import CA, SERVER, Pair, Store
from cloud_bridge.identity.tokens import NODE_PREFIX
from cloud_bridge.peer import RequestError

NODE_ORGANIZATION = "system:nodes"
NODE_SIZE_MAX = 64 - len(NODE_PREFIX)
"""Characters: X.509 ends a common name at 64 (RFC 5280, appendix A.1)."""
CA_NAME = "motelet CA"
CA_END = datetime(2099, 12, 31, tzinfo=UTC)
SERVER_LIFE = timedelta(days=365)
SERVER_RENEW = timedelta(days=90)
"""The bridge's certificate is made again when it has less than this left."""
NODE_LIFE = timedelta(days=365)
"""KubeEdge signs for as long."""
BACKDATE = timedelta(hours=1)
"""How far the clock of another bridge may be behind the one that signed."""
REQUEST_SIZE_MAX = 2048
"""Bytes of a request; one for a P-256 key has about 300."""
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


class AuthorityError(Exception):
    """There is no usable CA; the text names what is wrong and what to do."""


class Authority:
    """A CA by its certificate and its key (PEM), which are called `where`. Raises AuthorityError."""

    def __init__(self, certificate: bytes, key: bytes | None, where: tuple[str, str]) -> None:
        self._certificate, self._key = _loaded(certificate, key, where)
        self.der = self._certificate.public_bytes(Encoding.DER)
        """The CA's certificate, as boards get it."""
        self.token_key = self._key.private_bytes(
            Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()
        )
        """What tokens are signed with: the DER of the CA's key (SEC 1), as in KubeEdge."""

    @classmethod
    async def open(cls, store: Store) -> "Authority":
        """The CA in `store`, made where there is none. Raises AuthorityError, and what the store raises."""
        # A certificate without its key is never replaced: every board would be shut out.
        certificate, key = await store.pair(CA, lambda certificate, _: certificate is not None, _new_ca)
        return cls(certificate, key, store.where(CA))

    async def server(self, store: Store, names: Sequence[str]) -> Pair:
        """The bridge's certificate and key (PEM), good for `names`: host names and addresses.

        They are made again when the names are others, when they end soon, or when the CA is another.
        """
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        certificate, key = await store.pair(
            SERVER,
            lambda certificate, key: self._is_good(certificate, key, alternatives),
            lambda: self._new_server(alternatives),
        )
        assert key is not None  # for then it would not be good
        return certificate, key

    def sign(self, request: bytes, node: str, life: timedelta) -> x509.Certificate:
        """The certificate of `node` for the key of a PKCS #10 request in DER. Raises RequestError.

        Nothing else is taken from the request, but it has to name the node and to be signed by its key.
        """
        public = read_request(request, node)
        names = [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, NODE_ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, NODE_PREFIX + node),
        ]
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        now = datetime.now(UTC)
        builder = self._builder(x509.Name(names), public, usage, now - BACKDATE, now + life, _serial())
        return builder.sign(self._key, hashes.SHA256())

    def _new_server(self, alternatives: x509.SubjectAlternativeName) -> Pair:
        private = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "motelet bridge")])
        usage = ExtendedKeyUsageOID.SERVER_AUTH
        end = datetime.now(UTC) + SERVER_LIFE
        builder = self._builder(subject, private.public_key(), usage, _EPOCH, end, _serial())
        signed = builder.add_extension(alternatives, critical=False).sign(self._key, hashes.SHA256())
        return signed.public_bytes(Encoding.PEM), _pem(private)

    def _builder(
        self,
        subject: x509.Name,
        public: ec.EllipticCurvePublicKey,
        usage: x509.ObjectIdentifier,
        begin: datetime,
        end: datetime,
        serial: int,
    ) -> x509.CertificateBuilder:
        issuer = self._certificate
        end = min(end, issuer.not_valid_after_utc)
        builder = x509.CertificateBuilder(issuer.subject, subject, public, serial, begin, end)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(ca=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return builder.add_extension(identifier, critical=False)

    def _is_good(
        self, chain: bytes | None, private: bytes | None, alternatives: x509.SubjectAlternativeName
    ) -> bool:
        """Whether the bridge's certificate and key are there, match, last, and are for these names."""
        if chain is None or private is None:
            return False
        try:
            certificate = x509.load_pem_x509_certificate(chain)
            key = load_pem_private_key(private, None)
            certificate.verify_directly_issued_by(self._certificate)
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound):
            return False
        lasts = certificate.not_valid_after_utc - datetime.now(UTC) > SERVER_RENEW
        return lasts and names == alternatives and certificate.public_key() == key.public_key()


def _new_ca() -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, CA_NAME)])
    builder = x509.CertificateBuilder(name, name, key.public_key(), _serial(), _EPOCH, CA_END)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(ca=True), critical=True)
    builder = builder.add_extension(
        x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM), _pem(key)


def _loaded(
    certificate: bytes, private: bytes | None, where: tuple[str, str]
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        parsed = x509.load_pem_x509_certificate(certificate)
    except ValueError as error:
        raise AuthorityError(f"{where[0]}: not a certificate in PEM") from error
    if private is None:
        raise AuthorityError(f"{where[1]} is missing: restore it from the backup")
    try:
        key = load_pem_private_key(private, None)
    except (ValueError, TypeError) as error:
        raise AuthorityError(f"{where[1]}: not a private key in PEM without a password") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != parsed.public_key():
        raise AuthorityError(f"{where[1]} is not the EC key of {where[0]}")
    return parsed, key


def read_request(request: bytes, node: str) -> ec.EllipticCurvePublicKey:
    """The public key of a request for `node` that is signed by it. Raises RequestError."""
    if len(request) > REQUEST_SIZE_MAX:
        raise RequestError(f"request of more than {REQUEST_SIZE_MAX} bytes")
    if len(node) > NODE_SIZE_MAX:
        raise RequestError(f"node name of more than {NODE_SIZE_MAX} characters")
    try:
        parsed = x509.load_der_x509_csr(request)
        public = parsed.public_key()
        names = [str(each.value) for each in parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        # The key first: a signature by a huge RSA key is not even checked.
        good = isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1)
        good = good and parsed.is_signature_valid
    except Exception as error:  # whatever the parser finds in a stranger's bytes
        raise RequestError("not a request in DER") from error
    if not good or not isinstance(public, ec.EllipticCurvePublicKey):
        raise RequestError("not a request signed by a key of P-256")
    if names != [NODE_PREFIX + node]:
        raise RequestError("the request names another node")
    return public


def _serial() -> int:
    """A number nobody guesses (64 random bits) that grows with time: milliseconds since 1970 lead it."""
    return time.time_ns() // 1_000_000 << 64 | x509.random_serial_number() & (1 << 64) - 1


def _usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
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


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
