"""Joining: the token, the CA, a certificate for each node, and its renewal; over real HTTPS."""

import asyncio
import contextlib
import logging
import os
import pty
import ssl
import subprocess
import sys
from datetime import timedelta

import pytest
from ca_peer import CaPeer
from cloudhub_peer import CloudHubPeer
from world import NODE, Bridge

from cloud_bridge.backends.base import BackendError
from cloud_bridge.backends.cloudcore import access as access_module
from cloud_bridge.backends.cloudcore import backend as backend_module
from cloud_bridge.backends.cloudcore.access import CertificateAccess
from cloud_bridge.backends.cloudcore.credentials import TOKEN_VARIABLE, Credentials, CredentialsError
from motelet.tools import cli
from motelet.tools.load.board import SimulatedBoard


@pytest.fixture
def peer(tmp_path):
    peer = CaPeer(tmp_path)
    peer.url = peer.start()
    yield peer
    peer.stop()


def test_nodes_join_and_renew(tmp_path, peer):
    credentials = Credentials(tmp_path / "state")
    credentials.join(peer.url, peer.token(), ["board-1", "board-2"])
    assert credentials.has("board-1") and credentials.has("board-2") and not credentials.has("board-3")
    before = (tmp_path / "state" / "nodes" / "board-1.pem").read_bytes()
    assert (tmp_path / "state" / "nodes" / "board-1.pem").stat().st_mode & 0o077 == 0
    credentials.renew("board-1")
    assert (tmp_path / "state" / "nodes" / "board-1.pem").read_bytes() != before
    assert peer.requests == [("board-1", "token"), ("board-2", "token"), ("board-1", "certificate")]
    assert credentials.context("board-1").verify_mode == ssl.CERT_REQUIRED


def test_a_certificate_is_renewed_between_70_and_90_percent_of_its_life(tmp_path, peer):
    peer.life = timedelta(seconds=1000)
    moment = [0.0]
    credentials = Credentials(tmp_path / "state", now=lambda: moment[0])
    Credentials(tmp_path / "state").join(peer.url, peer.token(), ["board-1"])
    begin = _begin(tmp_path / "state" / "nodes" / "board-1.pem")
    for part, due in ((0.69, False), (0.91, True)):
        moment[0] = begin + 1000 * part
        assert credentials.renewal_due("board-1") is due
    moment[0] = begin + 1001
    with pytest.raises(CredentialsError, match="has expired"):
        credentials.context("board-1")


def _begin(path):
    from cryptography import x509

    return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_before_utc.timestamp()


def test_what_is_wrong_is_said(tmp_path, peer):
    credentials = Credentials(tmp_path / "state")
    good = peer.token()
    digest, *jwt = good.split(".")
    cases = [
        ("nonsense", peer.url, "not a join token"),
        (f"{digest}.a.b.c", peer.url, "claims cannot be read"),
        (peer.token(-5), peer.url, "has expired"),
        (".".join(["0" * 64, *jwt]), peer.url, "the CA at https://127.0.0.1:[0-9]+ is not the one"),
        (good[:-4] + "AAAA", peer.url, "answers 401: token is invalid"),
        (good, "https://127.0.0.1:1", "cannot reach https://127.0.0.1:1"),
        (good, "wss://127.0.0.1:1", "expected https://HOST:PORT"),
        (good, peer.url.replace("127.0.0.1", "localhost"), "Hostname mismatch"),
    ]
    for token, url, text in cases:
        with pytest.raises(CredentialsError, match=text):
            credentials.join(url, token, ["board-1"])
    with pytest.raises(CredentialsError, match="not the name of a node"):
        credentials.join(peer.url, good, ["../x"])
    with pytest.raises(CredentialsError, match="motelet bridge join"):
        credentials.context("board-1")
    assert not credentials.has("board-1")


def test_an_answer_that_is_no_certificate_or_for_another_key(tmp_path, peer, monkeypatch):
    credentials = Credentials(tmp_path / "state")
    monkeypatch.setattr(peer, "sign", lambda request: b"no certificate")
    with pytest.raises(CredentialsError, match="not a certificate"):
        credentials.join(peer.url, peer.token(), ["board-1"])
    monkeypatch.setattr(peer, "sign", lambda request: peer.authority.der)
    with pytest.raises(CredentialsError, match="another key"):
        credentials.join(peer.url, peer.token(), ["board-1"])
    monkeypatch.setattr(peer, "sign", lambda request: b"x" * 70_000)
    with pytest.raises(CredentialsError, match="more than"):
        credentials.join(peer.url, peer.token(), ["board-1"])


def _command(*arguments, **environment):
    command = [sys.executable, "-m", "motelet.tools.cli", "bridge", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


def test_the_command_takes_the_token_from_a_file_or_the_environment(tmp_path, peer, monkeypatch, capsys):
    environment = dict(os.environ)
    token = tmp_path / "token"
    token.write_text(peer.token() + "\n")
    state = ("--state", tmp_path / "state")
    done = _command("join", *state, "--cloudcore", peer.url, "--token-file", token, "board-1", **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 nodes joined" in done.stdout
    capsys.readouterr()
    command = ["bridge", "join", *map(str, state), "--cloudcore", peer.url]
    monkeypatch.setenv(TOKEN_VARIABLE, peer.token())
    assert cli.main([*command, "board-2"]) == 0
    assert Credentials(tmp_path / "state" / "cloudcore").has("board-2")
    monkeypatch.setenv(TOKEN_VARIABLE, "wrong")
    assert cli.main([*command, "board-3"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("motelet bridge: not a join token")
    assert len(said.splitlines()) == 1


def test_the_command_asks_for_the_token_and_shows_it_nowhere(tmp_path, peer):
    token = peer.token()
    command = [sys.executable, "-m", "motelet.tools.cli", "bridge", "join", "--cloudcore", peer.url]
    command += ["--state", str(tmp_path / "state"), "--token-file", "-", "board-1"]
    child, terminal = pty.fork()
    if child == 0:
        os.execv(command[0], command)
    shown = b""
    while b"token: " not in shown:
        shown += os.read(terminal, 1024)
    os.write(terminal, token.encode() + b"\n")
    with contextlib.suppress(OSError):  # that is how a terminal ends
        while data := os.read(terminal, 1024):
            shown += data
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, shown
    assert b"1 nodes joined" in shown and token.encode() not in shown
    assert Credentials(tmp_path / "state" / "cloudcore").has("board-1")


def test_a_token_is_no_argument(tmp_path, peer, capsys):
    for option in ("--token", "--token="):
        with pytest.raises(SystemExit) as ended:
            cli.main(["bridge", "join", "--cloudcore", peer.url, option, "secret", "board-1"])
        assert ended.value.code == 2
        assert "unrecognized arguments" in capsys.readouterr().err


def test_a_board_without_a_certificate_joins_by_the_token_file_and_a_new_certificate_reconnects(
    tmp_path, peer, monkeypatch, caplog
):
    caplog.set_level(logging.DEBUG, "cloud_bridge")
    monkeypatch.setattr(backend_module, "RENEW_CHECK_SECONDS", 0.1)
    token = tmp_path / "token"
    token.write_text(peer.token())
    access = CertificateAccess(tmp_path / "state", peer.url, token)

    async def main():
        hub = CloudHubPeer(0.1)
        port = await hub.start(context=peer.context(required=True))
        bridge = Bridge(tmp_path / "state", f"wss://127.0.0.1:{port}", access)
        await bridge.start()
        board = SimulatedBoard()
        try:
            async with bridge.board(board) as client:
                await client.until(lambda: board.synced)
                due = iter([True])
                monkeypatch.setattr(
                    access_module.Credentials, "renewal_due", lambda self, node: next(due, False)
                )
                await client.until(lambda: hub.connections == 2 and NODE in hub.sessions)
        finally:
            await bridge.stop()
            await hub.stop()

    asyncio.run(main())
    assert peer.requests == [(NODE, "token"), (NODE, "certificate")]


def test_a_token_file_that_cannot_be_read_is_named(tmp_path):
    access = CertificateAccess(tmp_path, "https://127.0.0.1:1", tmp_path / "none")
    with pytest.raises(BackendError, match="none"):
        asyncio.run(access.context("board-1"))
