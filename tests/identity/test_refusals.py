"""Who is refused, by name, on the real bridge with the real MicroPython client, in both directions."""

import socket
import ssl
import threading
from contextlib import suppress
from datetime import timedelta

import pytest
from board_client import identity_in, server_files
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from installation import DAY, HOST, Installation, installation, sign, wait_for, write_pair

from cloud_bridge.identity.folder import at_once

NODE = "board-1"


@pytest.fixture(scope="module")
def bridge(tmp_path_factory):
    with installation(tmp_path_factory.mktemp("installation")) as running:
        yield running


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """The state folder of another installation."""
    folder = tmp_path_factory.mktemp("stranger") / "state"
    server_files(identity_in(folder))
    return folder


def refused(bridge, name, pair, *words):
    """A provisioned board with this pair: it is told `words`, or just cut off, and never connected."""
    folder = bridge.folder / name
    board = bridge.board(name, NODE, **write_pair(folder, pair, bridge.state))
    board.start()
    board.wait("link down", *words, count=2)
    assert not board.lines("connected host")
    assert not bridge.bridge.lines("board connected", f"node={NODE}")
    board.kill()


def test_expired(bridge):
    refused(bridge, "expired", bridge.signed(f"system:node:{NODE}", -2 * DAY, -DAY))


def test_not_yet_valid(bridge):
    refused(bridge, "early", bridge.signed(f"system:node:{NODE}", DAY, 2 * DAY))


def test_wrong_ca(bridge, stranger):
    refused(bridge, "wrong-ca", bridge.signed(f"system:node:{NODE}", authority=stranger))


def test_self_signed(bridge):
    refused(bridge, "self", sign(bridge.state, f"system:node:{NODE}", -DAY, DAY, self_signed=True))


@pytest.mark.parametrize(
    "name",
    [NODE, "system:node:", "system:node:../../etc/passwd", "system:node:a/b", "system:node:x\nlevel=error"],
)
def test_wrong_name_and_path_traversal_in_it(bridge, name):
    refused(bridge, f"name-{abs(hash(name))}", bridge.signed(name), "403")


def test_revoked(bridge):
    pair = bridge.signed(f"system:node:{NODE}")
    bridge.command("cert", "revoke", f"{pair[1].serial_number:x}")
    refused(bridge, "revoked", pair, "403")


def test_no_client_certificate(bridge):
    ca = x509.load_pem_x509_certificate((bridge.state / "ca.pem").read_bytes())
    context = ssl.create_default_context(cadata=ca.public_bytes(Encoding.DER))
    answer = b""
    with socket.create_connection((HOST, bridge.port)) as raw, suppress(OSError):
        with context.wrap_socket(raw, server_hostname="localhost") as tls:
            tls.send(b"GET /motelet/v1 HTTP/1.1\r\n\r\n")
            answer = tls.recv(100)
    assert answer == b""


def joining(bridge, name, token, *words, **section):
    board = bridge.board(name, NODE, token=token, **section)
    board.start()
    board.wait("not enrolled", *words, count=2)
    assert not board.lines("enrolled node")
    board.kill()
    assert (bridge.folder / name / "token").exists()


def test_replayed_token(bridge):
    token = bridge.token("board-2")
    first = bridge.board("first", "board-2", token=token)
    first.start()
    first.wait("synced")
    first.kill()
    second = bridge.board("second", "board-2", token=token)
    second.start()
    second.wait("not enrolled", "401")
    second.kill()


def test_expired_token(bridge):
    token = bridge.token(NODE, "--ttl", "1s")
    bridge.token(NODE)  # a second passes
    wait_for("expired", lambda: "expired" in bridge.command("token", "list"))
    joining(bridge, "late", token, "401")


def test_token_of_another_node(bridge):
    joining(bridge, "thief", bridge.token("board-9"), "401")


def test_token_of_another_installation(bridge, stranger):
    token = Installation.command(bridge, "token", "create", NODE)
    digest, _, jwt = token.partition(".")
    # Its CA is not ours: the board sees that before it says anything.
    joining(bridge, "astray", "0" * 64 + "." + jwt, "the CA is not that of the token")
    # It names our CA and is signed by another: the bridge sees that.
    foreign = at_once(identity_in(stranger).create_token(NODE, 60, False)).partition(".")[2]
    joining(bridge, "forged", f"{digest}.{foreign}", "401")


def test_revoked_token(bridge):
    token = bridge.token(NODE)
    listed = bridge.command("token", "list").splitlines()
    for each in [line.split()[0] for line in listed if NODE in line and "valid" in line]:
        bridge.command("token", "revoke", each)
    joining(bridge, "stale", token, "401")


@pytest.mark.parametrize("token", ["x", "a.b.c.d", "z" * 64 + ".b.c.d\r\nX: y", "0" * 64 + ".b.c"])
def test_what_is_no_token(bridge, token):
    board = bridge.board("none", NODE, token=token)
    board.start()
    wait_for("ended", lambda: board.process.poll() is not None)
    assert "not a token" in board.tail()


# -- the server that is not ours ----------------------------------------------------------------


class Impostor:
    """Listens with a certificate of the test's choice, notes what a board says, and gives it the right CA."""

    def __init__(self, folder, pair, answer):
        self._answer = answer
        folder.mkdir(exist_ok=True)
        key, certificate = pair
        pem = folder / "impostor.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        pem.write_bytes(certificate.public_bytes(Encoding.PEM) + private)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pem)
        self._socket = socket.create_server((HOST, 0))
        self.port = self._socket.getsockname()[1]
        self.heard = b""
        self.connections = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while True:
            try:
                raw, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            try:
                with self._context.wrap_socket(raw, server_side=True) as tls:
                    self.heard += tls.recv(4096)
                    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(self._answer)
                    tls.sendall(head + self._answer)
            except OSError:
                continue

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.fixture
def impostor(bridge, stranger, request):
    pair = {
        "wrong CA": lambda: sign(stranger, "localhost", -DAY, DAY),
        "self-signed": lambda: sign(stranger, "localhost", -DAY, DAY, self_signed=True),
        "expired": lambda: sign(bridge.state, "localhost", -2 * DAY, -DAY),
        "not yet valid": lambda: sign(bridge.state, "localhost", DAY, 2 * DAY),
        "wrong name": lambda: sign(bridge.state, "localhost", -DAY, DAY),
    }[request.param]()
    ca = x509.load_pem_x509_certificate((bridge.state / "ca.pem").read_bytes())
    server = Impostor(bridge.folder / "impostor", pair, ca.public_bytes(Encoding.DER))
    yield request.param, server
    server.close()


ALL = ["wrong CA", "self-signed", "expired", "not yet valid", "wrong name"]


@pytest.mark.parametrize("impostor", ALL, indirect=True)
def test_a_server_with_the_wrong_certificate_gets_nothing_from_a_board(bridge, impostor):
    kind, server = impostor
    name = "bridge.test" if kind == "wrong name" else "localhost"
    pair = bridge.signed("system:node:board-3")
    folder = bridge.folder / "victim"
    section = write_pair(folder, pair, bridge.state) | {"port": server.port, "server_name": name}
    board = bridge.board("victim", "board-3", **section)
    board.start()
    wait_for("tried twice", lambda: server.connections >= 2)
    board.kill()
    assert server.heard == b""
    assert not board.lines("connected host")


@pytest.mark.parametrize("impostor", ALL, indirect=True)
def test_a_server_with_the_wrong_certificate_gets_no_token(bridge, impostor):
    kind, server = impostor
    name = "bridge.test" if kind == "wrong name" else "localhost"
    folder = f"credulous-{ALL.index(kind)}"
    board = bridge.board(folder, NODE, token=bridge.token(NODE), enrol_port=server.port, server_name=name)
    board.start()
    board.wait("not enrolled", count=2)
    board.kill()
    # It hears the question for the CA, which is no secret, and nothing after it.
    assert server.heard.count(b"GET /ca.crt") >= 1
    assert b"Bearer" not in server.heard


def test_a_board_without_a_clock_connects(bridge):
    """The bridge's certificates are good in the year 2000, where such a clock starts."""
    for name in ("ca.pem", "server.pem"):
        certificate = x509.load_pem_x509_certificate((bridge.state / name).read_bytes())
        assert certificate.not_valid_before_utc.year == 2000
        assert certificate.not_valid_after_utc - certificate.not_valid_before_utc > timedelta(days=365 * 20)
