"""The little CA: its files, and that `ssl` - and so a bridge - accepts what it makes."""

import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key
from cryptography.x509.oid import NameOID

from motelet.tools import pki

NODE = "board-1"


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> dict[str, object]:
    """Shake hands over a socket pair; returns the client's certificate as the server sees it."""
    near, far = socket.socketpair()
    seen: dict[str, object] = {}

    def serve() -> None:
        with near, server.wrap_socket(near, server_side=True) as stream:
            seen.update(stream.getpeercert() or {})
            stream.sendall(b"!")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with far, client.wrap_socket(far, server_hostname=name) as stream:
            assert stream.recv(1) == b"!"
    finally:
        thread.join()
    return seen


def contexts(authority: pki.Authority) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.certificate_path))
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_cert_chain(*authority.server())
    client = ssl.create_default_context(cafile=str(authority.certificate_path))
    client.load_cert_chain(*authority.node(NODE))
    # The strictest reading of RFC 5280 that OpenSSL offers; the default only from Python 3.13 on.
    for context in (server, client):
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    return server, client


@pytest.mark.parametrize("name", pki.SERVER_NAMES)
def test_both_sides_accept_each_other(tmp_path: Path, name: str) -> None:
    server, client = contexts(pki.Authority(tmp_path))
    seen = handshake(server, client, name)
    assert seen["subject"] == (
        (("organizationName", "system:nodes"),),
        (("commonName", "system:node:board-1"),),
    )


def test_a_name_the_server_does_not_have_is_refused(tmp_path: Path) -> None:
    server, client = contexts(pki.Authority(tmp_path))
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        client_only(server, client, "example.org")


def test_another_ca_is_refused(tmp_path: Path) -> None:
    server, _ = contexts(pki.Authority(tmp_path / "a"))
    _, client = contexts(pki.Authority(tmp_path / "b"))
    with pytest.raises(ssl.SSLCertVerificationError):
        client_only(server, client, "localhost")


def client_only(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """Shake hands where the client is expected to refuse, without a thread that fails beside it."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname=name)
    far = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(3):
        for side in (near, far):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


def test_a_server_certificate_is_no_client_certificate(tmp_path: Path) -> None:
    authority = pki.Authority(tmp_path)
    server, client = contexts(authority)
    client.load_cert_chain(*authority.server())
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        client_only(server, client, "localhost")


def test_only_the_owner_reads_keys(tmp_path: Path) -> None:
    authority = pki.Authority(tmp_path / "pki")
    authority.server()
    authority.node_der(NODE, tmp_path / "board")
    keys = [path for path in tmp_path.rglob("*") if "key" in path.name]
    assert len(keys) == 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o600}


def test_the_board_gets_the_same_in_der(tmp_path: Path) -> None:
    authority = pki.Authority(tmp_path)
    authority.node_der(NODE, tmp_path / "board")
    certificate = x509.load_der_x509_certificate((tmp_path / "board/node.der").read_bytes())
    key = load_der_private_key((tmp_path / "board/node-key.der").read_bytes(), None)
    ca = x509.load_der_x509_certificate((tmp_path / "board/ca.der").read_bytes())
    certificate.verify_directly_issued_by(ca)
    assert certificate.public_key() == key.public_key()
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "system:node:board-1"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    def make() -> None:
        authority = pki.Authority(tmp_path)
        authority.server()
        authority.node(NODE)

    make()
    before = contents(tmp_path)
    make()
    assert contents(tmp_path) == before


def test_a_certificate_near_its_end_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pki, "CERTIFICATE_DAYS", pki.RENEW_DAYS - 1)
    old = pki.Authority(tmp_path).server()[0].read_bytes()
    monkeypatch.undo()
    certificate = x509.load_pem_x509_certificate(pki.Authority(tmp_path).server()[0].read_bytes())
    assert certificate != x509.load_pem_x509_certificate(old)
    assert certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=pki.RENEW_DAYS)


def test_other_names_need_another_certificate(tmp_path: Path) -> None:
    authority = pki.Authority(tmp_path)
    first = authority.server(("localhost",))[0].read_bytes()
    assert authority.server(("localhost", "10.0.0.1"))[0].read_bytes() != first


def test_a_lost_ca_takes_its_certificates_along(tmp_path: Path) -> None:
    authority = pki.Authority(tmp_path)
    authority.server()
    authority.node(NODE)
    (tmp_path / "ca-key.pem").unlink()
    server, client = contexts(pki.Authority(tmp_path))
    assert handshake(server, client, "localhost")


def test_a_ca_stopped_between_its_two_files_is_made_again(tmp_path: Path) -> None:
    pki.Authority(tmp_path / "other")
    pki.Authority(tmp_path)
    (tmp_path / "other/ca-key.pem").replace(tmp_path / "ca-key.pem")
    server, client = contexts(pki.Authority(tmp_path))
    assert handshake(server, client, "localhost")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "n" * (pki.NODE_NAME_MAX + 1)])
def test_a_name_that_no_certificate_can_hold_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="node name"):
        pki.Authority(tmp_path).node(name)


def test_the_longest_name_fits(tmp_path: Path) -> None:
    name = "n" * pki.NODE_NAME_MAX
    certificate = x509.load_pem_x509_certificate(pki.Authority(tmp_path).node(name)[0].read_bytes())
    common_name = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0]
    assert common_name.value == "system:node:" + name
