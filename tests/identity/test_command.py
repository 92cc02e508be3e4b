"""`motelet bridge token|cert` as an operator uses them, and the options of a bridge with a state folder."""

import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key

from cloud_bridge import app
from cloud_bridge.identity.command import duration
from cloud_bridge.identity.folder import Folder, at_once
from cloud_bridge.identity.registry import Registry
from cloud_bridge.peer import Peer
from motelet.tools.cli import main


@pytest.fixture
def run(tmp_path, capsys):
    def command(*words, status=0):
        assert main(["bridge", *words, "--state", str(tmp_path / "state")]) == status
        said = capsys.readouterr()
        return (said.out if status == 0 else said.err).strip()

    return command


def test_tokens(run):
    token = run("token", "create", "board-1")
    assert token.count(".") == 3
    run("token", "create", "board-2", "--ttl", "30m", "--reusable")
    head, *rows = run("token", "list").splitlines()
    one, two = sorted(rows, key=lambda row: row.split()[1])  # made in one second, in either order
    assert head.split() == ["ID", "NODE", "STATE", "USE", "EXPIRES"]
    assert one.split()[1:4] == ["board-1", "valid", "once"]
    assert two.split()[1:4] == ["board-2", "valid", "reusable"]
    assert token not in run("token", "list")
    run("token", "revoke", one.split()[0])
    listed = {row.split()[1]: row.split()[2] for row in run("token", "list").splitlines()[1:]}
    assert listed["board-1"] == "revoked"
    assert "no token x" in run("token", "revoke", "x", status=1)


@pytest.mark.parametrize("node", ["../x", "Board", "", "a/b", "n" * 53])
def test_names_that_no_node_has(run, node):
    assert "not a node name" in run("token", "create", node, status=1)


def test_a_pair_made_here(run, tmp_path):
    out = tmp_path / "board"
    assert run("cert", "create", "board-1", "--out", str(out)) == ""
    contents = {path.name: path.read_bytes() for path in out.iterdir()}
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == {0o600}
    certificate = x509.load_der_x509_certificate(contents["node.der"])
    key = load_der_private_key(contents["node-key.der"], None)
    assert certificate.public_key() == key.public_key()
    assert certificate.subject.rfc4514_string() == "CN=system:node:board-1,O=system:nodes"
    certificate.verify_directly_issued_by(x509.load_der_x509_certificate(contents["ca.der"]))
    assert run("cert", "list").splitlines()[1].split()[:2] == ["board-1", f"{certificate.serial_number:x}"]
    assert "not a node name" in run("cert", "create", "../x", "--out", str(out), status=1)


def test_certificates(run, tmp_path):
    run("token", "create", "board-1")
    registry = Registry(Folder(tmp_path / "state"))
    serials = ["1" * 27, "2" * 27]
    for serial in serials:
        at_once(registry.add(Peer("board-1", serial, 0, 2**33), 0))
    run("cert", "revoke", serials[0])
    rows = [line.split() for line in run("cert", "list").splitlines()[1:]]
    assert [row[:3] for row in rows] == [["board-1", serials[0], "revoked"], ["board-1", serials[1], "valid"]]
    assert "revoked 1 certificates of node board-1" in run("cert", "revoke", "board-1")
    run("cert", "revoke", "e0e2e69aa2b8")  # a node that is called by its MAC address
    run("cert", "revoke", "AB:CD:" + "0" * 30)
    assert "not a serial number" in run("cert", "revoke", "no such thing", status=1)
    assert [line.split()[2] for line in run("cert", "list").splitlines()[1:]][-2:] == ["revoked", "revoked"]


def test_a_state_folder_is_needed(tmp_path, capsys):
    assert main(["bridge", "token", "list"]) == 1
    assert "--state DIR is missing" in capsys.readouterr().err
    assert main(["bridge", "--state", str(tmp_path / "none"), "cert", "list"]) == 1
    assert "there is no folder" in capsys.readouterr().err
    assert (
        main(["bridge", "--state", str(tmp_path / "state"), "token", "create", "a"]) == 0
    )  # before the action
    (tmp_path / "state" / "ca-key.pem").unlink()
    assert main(["bridge", "--state", str(tmp_path / "state"), "token", "create", "a"]) == 1
    assert "restore it from the backup" in capsys.readouterr().err


def test_durations():
    assert [duration(text) for text in ("90s", "30m", "24h", "365d")] == [90, 1800, 86400, 31536000]
    for text in ("", "5", "0s", "-1s", "1w", "1.5h", "9" * 12 + "s"):
        with pytest.raises(ValueError):
            duration(text)


def test_options_that_cannot_be_used(tmp_path, capsys):
    state = ["--state", str(tmp_path / "state")]
    (tmp_path / "file").touch()
    for options, text in (
        ([*state], "--manifests is missing"),
        ([*state, "--manifests", str(tmp_path), "--plain"], "--plain does not go together with --state"),
        ([*state, "--manifests", str(tmp_path), "--cert", "x"], "--cert does not go together with --state"),
        ([*state, "--manifests", str(tmp_path), "--enrol", "x"], "--enrol x: expected HOST:PORT"),
        (["--state", str(tmp_path / "file"), "--manifests", str(tmp_path)], f"--state {tmp_path}/file: "),
    ):
        assert main(["bridge", *options]) == app.EXIT_USAGE
        assert text in capsys.readouterr().err
