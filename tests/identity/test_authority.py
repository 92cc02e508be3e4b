"""The CA in its folder, the bridge's certificate, and which requests are signed."""

import stat
import time
from datetime import UTC, datetime, timedelta

import pytest
from certificates import new_key
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloud_bridge.identity import authority as authority_module
from cloud_bridge.identity.authority import Authority, AuthorityError
from cloud_bridge.identity.folder import Folder, at_once
from cloud_bridge.peer import RequestError

LIFE = timedelta(days=365)


def request(key, *names):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])
    return x509.CertificateSigningRequestBuilder(subject).sign(key, hashes.SHA256())


def der(key, *names):
    return request(key, *names).public_bytes(Encoding.DER)


def opened(folder):
    return at_once(Authority.open(Folder(folder)))


@pytest.fixture
def authority(tmp_path):
    return opened(tmp_path / "state")


def test_the_ca_is_made_once_and_kept(authority, tmp_path):
    again = opened(tmp_path / "state")
    assert again.der == authority.der and again.token_key == authority.token_key
    for path in (tmp_path / "state").glob("*.pem"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_start_that_was_cut_short_is_made_good(authority, tmp_path):
    (tmp_path / "state" / "ca.pem").unlink()
    opened(tmp_path / "state")


def test_a_ca_without_its_key_is_never_replaced(authority, tmp_path):
    key = tmp_path / "state" / "ca-key.pem"
    for content, why in ((b"junk", "not a private key"), (None, "is missing")):
        key.write_bytes(content) if content else key.unlink()
        with pytest.raises(AuthorityError, match=why):
            opened(tmp_path / "state")
    opened(tmp_path / "other")
    key.write_bytes((tmp_path / "other" / "ca-key.pem").read_bytes())
    with pytest.raises(AuthorityError, match="is not the EC key"):
        opened(tmp_path / "state")
    (tmp_path / "state" / "ca.pem").write_bytes(b"junk")
    with pytest.raises(AuthorityError, match="not a certificate"):
        opened(tmp_path / "state")


def test_the_bridges_certificate_is_kept_while_it_is_good(authority, tmp_path):
    def made(names):
        chain, key = at_once(authority.server(Folder(tmp_path / "state"), names))
        assert key == (tmp_path / "state" / "server-key.pem").read_bytes()
        return x509.load_pem_x509_certificate(chain)

    first = made(["localhost", "127.0.0.1", "::1"])
    assert made(["localhost", "127.0.0.1", "::1"]) == first
    assert first.not_valid_before_utc.year == 2000  # for boards whose clock was never set
    usage = first.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    second = made(["bridge.example.com"])
    assert second != first
    (tmp_path / "state" / "server-key.pem").unlink()
    third = made(["bridge.example.com"])
    assert third != second
    (tmp_path / "state" / "server.pem").write_bytes(b"junk")
    assert made(["bridge.example.com"]) != third


def test_the_bridges_certificate_is_renewed_in_time(authority, monkeypatch, tmp_path):
    monkeypatch.setattr(authority_module, "SERVER_LIFE", authority_module.SERVER_RENEW - timedelta(hours=1))
    first = at_once(authority.server(Folder(tmp_path / "state"), ["localhost"]))
    assert at_once(authority.server(Folder(tmp_path / "state"), ["localhost"])) != first


def test_a_signed_certificate_is_that_of_the_node_and_the_key(authority):
    key = new_key("ec")
    certificate = authority.sign(der(key, "system:node:board-1"), "board-1", LIFE)
    certificate.verify_directly_issued_by(x509.load_der_x509_certificate(authority.der))
    assert certificate.public_key() == key.public_key()
    assert certificate.subject.rfc4514_string() == "CN=system:node:board-1,O=system:nodes"
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(days=364) < left <= LIFE
    time.sleep(0.002)  # a serial number begins with milliseconds, and within one of them it is random
    later = authority.sign(der(key, "system:node:board-1"), "board-1", LIFE)
    assert later.serial_number > certificate.serial_number
    assert len(certificate.public_bytes(Encoding.DER)) < 520


def test_a_request_says_nothing_but_its_key(authority):
    builder = x509.CertificateSigningRequestBuilder(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "system:node:board-1")])
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("bridge")]), critical=False)
    wish = builder.sign(new_key("ec"), hashes.SHA256()).public_bytes(Encoding.DER)
    certificate = authority.sign(wish, "board-1", LIFE)
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_requests_that_are_not_signed(authority):
    key = new_key("ec")
    good = der(key, "system:node:board-1")
    flipped = bytearray(good)
    flipped[-1] ^= 1
    cut = [good[:n] for n in range(1, len(good), 7)]
    cases = {
        "not a request in DER": [b"", b"junk", good + b"x", b"0\x82\xff\xff", *cut],
        "request of more than": [good + bytes(authority_module.REQUEST_SIZE_MAX)],
        "not a request signed by a key of P-256": [
            bytes(flipped),
            der(new_key("rsa"), "system:node:board-1"),
            der(ec.generate_private_key(ec.SECP384R1()), "system:node:board-1"),
        ],
        "names another node": [
            der(key),
            der(key, "system:node:board-2"),
            der(key, "board-1"),
            der(key, "system:node:board-1", "system:node:board-2"),
        ],
    }
    for why, requests in cases.items():
        for each in requests:
            with pytest.raises(RequestError, match=why):
                authority.sign(each, "board-1", LIFE)
    with pytest.raises(RequestError, match="node name"):
        authority.sign(der(key, "system:node:" + "n" * 52), "n" * 53, LIFE)
