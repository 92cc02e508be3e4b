"""`motelet provision` against a board on a PTY: the real MicroPython, reached through the real mpremote."""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from motelet.tools import cli, mpy
from motelet.tools.image import build
from motelet.tools.setup import ports, provision
from motelet.tools.simboard import Board

pytestmark = pytest.mark.skipif(
    mpy.interpreter() is None and not mpy.interpreter_published(), reason="no MicroPython for this computer"
)
TOKEN = "0123abcd.SECRET-token"
KEY = "SECRET wifi key"
CERTIFICATE = b"\x30\x82\x01\x00" + bytes(range(256))
PRIVATE = b"\x30\x77" + b"SECRET" + bytes(113)
PARTITION = '{"motelet": 262144}'


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of the compiled code of a board: what provisioning needs, and files to be copied."""
    folder = tmp_path_factory.mktemp("code")
    for name in build.compile_all(folder / "all"):
        if name.startswith(("motelet/__init__", "motelet/ports", "motelet/devicetwin")):
            target = folder / "lib" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((folder / "all" / name).read_bytes())
    return folder / "lib"


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    """An empty board: MicroPython and nothing else."""
    with Board(tmp_path / "board") as board:
        board.wait_for(">>> ")
        yield board


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """The file with what nobody is to see."""
    path = tmp_path / "secrets.json"
    path.write_text(json.dumps({"token": TOKEN, "wifi": {"Home": KEY}}))
    return path


def arguments(board: Board, secrets: Path, *more: str) -> list[str]:
    basic = ["--node", "kitchen", "--bridge", "bridge.example:10000", "--wifi", "Home"]
    return ["provision", *basic, "--secrets", str(secrets), "--port", str(board.port), *more]


def test_an_empty_board_becomes_a_provisioned_one(
    board: Board, secrets: Path, code: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments(board, secrets, "--files", str(code), "--board", "ESP32_GENERIC")) == 0
    stored = board.nvs()
    config = json.loads(stored["config"])
    assert config["node"] == "kitchen" and config["bridge"] == {"host": "bridge.example", "port": 10000}
    assert config["store"] == {"path": "/store", "size": 131072} and config["pins"]["uart2"]["de"] == 4
    assert json.loads(stored["secrets"]) == {"token": TOKEN, "wifi": {"Home": KEY}}
    there = {path.relative_to(board.lib).as_posix(): path.read_bytes() for path in board.lib.rglob("*.mpy")}
    assert there == build.read(code) and (board.files / "main.py").read_text() == build.MAIN
    said = capsys.readouterr()
    assert "kitchen: provisioned in" in said.out and "[##" in said.err
    assert "SECRET" not in said.out + said.err and "SECRET" not in board.output.decode(errors="replace")
    # Once more: nothing is written, and of a changed key just that.
    assert cli.main(arguments(board, secrets, "--files", str(code), "--board", "ESP32_GENERIC")) == 0
    assert "0 written anew" in capsys.readouterr().out
    secrets.write_text(json.dumps({"token": TOKEN, "wifi": {"Home": "SECRET other"}}))
    assert cli.main(arguments(board, secrets, "--board", "ESP32_GENERIC")) == 0
    assert json.loads(board.nvs()["secrets"])["wifi"]["Home"] == "SECRET other"
    assert board.nvs()["config"] == stored["config"]


def test_secrets_are_in_no_command_line(board: Board, secrets: Path, code: Path) -> None:
    seen: set[bytes] = set()
    command = [sys.executable, "-m", "motelet.tools.cli", *arguments(board, secrets, "--files", str(code))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        while process.poll() is None:
            for each in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(each.read_bytes())
                except OSError:
                    continue  # it has ended
            time.sleep(0.02)
        assert process.stdout is not None
        output = process.stdout.read()
    assert process.returncode == 0, output
    assert any(b"provision" in line for line in seen)
    assert b"SECRET" not in output + b"".join(seen)


def test_a_pulled_cable_loses_nothing(
    board: Board, secrets: Path, code: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = threading.Event()
    pulls = []

    def clumsy() -> None:
        # As often as it takes some steps further each time.
        for _ in range(4):
            before = len(list(board.lib.rglob("*.mpy")))
            while not done.is_set() and len(list(board.lib.rglob("*.mpy"))) < before + 6:
                time.sleep(0.01)
            if done.is_set():
                return
            pulls.append(before)
            board.unplug()
            time.sleep(0.3)
            board.plug()

    thread = threading.Thread(target=clumsy)
    thread.start()
    try:
        assert cli.main(arguments(board, secrets, "--files", str(code))) == 0
    finally:
        done.set()
        thread.join()
    assert len(pulls) >= 3
    assert "the connection broke" in capsys.readouterr().err
    assert json.loads(board.nvs()["config"])["node"] == "kitchen"
    there = {path.relative_to(board.lib).as_posix(): path.read_bytes() for path in board.lib.rglob("*.mpy")}
    assert there == build.read(code)


def test_a_certificate_in_the_place_of_a_token(
    board: Board, secrets: Path, code: Path, tmp_path: Path
) -> None:
    for name, content in (("ca", CERTIFICATE * 2), ("cert", CERTIFICATE), ("key", PRIVATE)):
        (tmp_path / name).write_bytes(content)
    identity = [each for name in ("ca", "cert", "key") for each in (f"--{name}", str(tmp_path / name))]
    assert cli.main(arguments(board, secrets, "--files", str(code), *identity)) == 0
    stored = board.nvs()
    assert (stored["ca"], stored["cert"], stored["key"]) == (CERTIFICATE * 2, CERTIFICATE, PRIVATE)
    assert "token" not in json.loads(stored["secrets"])
    # Back to a token: what is not wanted any more goes.
    assert cli.main(arguments(board, secrets)) == 0
    assert {"config", "secrets"} <= board.nvs().keys() and not {"ca", "cert", "key"} & board.nvs().keys()


def test_a_board_without_the_code_says_so(
    board: Board, secrets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments(board, secrets)) == 1
    assert "no module named 'motelet'" in capsys.readouterr().err


def parsed(*more: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    provision.configure(parser)
    return parser.parse_args(["--node", "kitchen", "--bridge", "b:1", *more])


def test_a_value_that_was_not_kept_is_noticed() -> None:
    class Forgetful:
        def exec(self, code: str) -> str:
            return "".join(f"{name} \n" for name in provision.NAMES) if "_s.NAMES" in code else ""

        def send(self, name: str, value: bytes) -> None:
            pass

    with pytest.raises(cli.UserError, match="read back other than written: secrets, config"):
        provision.write(Forgetful(), {"config": b"{}", "secrets": b"{}"})


def test_what_cannot_be_settings_is_refused(tmp_path: Path) -> None:
    good = tmp_path / "secrets.json"
    good.write_text(json.dumps({"token": TOKEN, "wifi": {}}))
    wifi = ("--wifi", "a", "--secrets", str(good))
    big = tmp_path / "big"
    big.write_bytes(b"\x30\x82\x0f\xa0" + bytes(4000))
    for more, why in (
        (("--node", "x" * 53, *wifi), "--node"),
        (("--bridge", "nowhere", *wifi), "is not HOST:PORT"),
        (("--bridge", "b:70000", *wifi), "is not HOST:PORT"),
        (("--secrets", str(good)), "one or two networks"),
        ((*wifi, "--wifi", "b", "--wifi", "c"), "one or two networks"),
        ((*wifi, "--cert", str(big)), "go together"),
        ((*wifi, "--ca", str(big), "--cert", str(big), "--key", str(big)), "ca: 4004 bytes"),
        ((*wifi, "--ca", str(good)), "is no DER"),
        ((*wifi, "--ca", str(tmp_path / "none")), "No such file"),
        ((*wifi, "--settings", str(big)), "no JSON"),
        ((*wifi, "--board", "ODD"), "No such file"),
    ):
        with pytest.raises(cli.UserError, match=why):
            provision.settings(parsed(*more))


def test_a_secret_that_is_no_json_is_not_shown(tmp_path: Path) -> None:
    bad = tmp_path / "secrets.json"
    for text in ('{"token": SECRET}', "[]"):
        bad.write_text(text)
        with pytest.raises(cli.UserError, match="no JSON") as error:
            provision.settings(parsed("--wifi", "a", "--secrets", str(bad)))
        assert "SECRET" not in str(error.value) and error.value.__cause__ is None
    bad.write_text("{}")
    with pytest.raises(cli.UserError, match="joins by a token"):
        provision.settings(parsed("--wifi", "a", "--secrets", str(bad)))


def test_what_is_not_in_a_file_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return "SECRET" if "token" in prompt else ""

    monkeypatch.setattr("getpass.getpass", ask)
    values = provision.settings(parsed("--wifi", "open"))
    assert json.loads(values["secrets"]) == {"token": "SECRET", "wifi": {"open": None}}
    assert len(asked) == 2 and "SECRET" not in "".join(asked)


def test_the_port_is_found_or_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Found:
        def __init__(self, device: str, vid: int | None) -> None:
            self.device, self.vid, self.description = device, vid, "a board"

    from serial.tools import list_ports

    for devices, result in (
        ([Found("/dev/ttyS0", None), Found("/dev/ttyUSB0", 0x10C4)], "/dev/ttyUSB0"),
        ([Found("/dev/ttyS0", None)], "no board found"),
        (
            [Found("/dev/ttyUSB0", 0x1A86), Found("/dev/ttyACM0", 0x303A)],
            "choose one with --port: /dev/ttyUSB0",
        ),
    ):
        monkeypatch.setattr(list_ports, "comports", lambda devices=devices: devices)
        if result.startswith("/"):
            assert ports.find(None) == result
        else:
            with pytest.raises(cli.UserError, match=result):
                ports.find(None)
    with pytest.raises(cli.UserError, match="no serial port"):
        ports.find(str(tmp_path / "none"))
    with pytest.raises(cli.UserError, match="did not come back"):
        ports.wait(str(tmp_path / "none"), 0)
    assert ports.find(os.devnull) == os.devnull
