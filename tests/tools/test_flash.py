"""`motelet flash` against a stand-in for esptool, whose cable can be pulled, and the real one's arguments."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from esp_rom import TABLE, firmware_file, table

from motelet.tools import cli
from motelet.tools.image.partitions import in_firmware, read_csv
from motelet.tools.setup import firmware, flash

STANDIN = Path(__file__).with_name("esptool_standin.py")


class Bench:
    """A computer with a board on a serial port, as far as esptool sees it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = folder / "ttyUSB0"
        self.port.touch()
        self.lib = folder / "lib"
        (self.lib / "motelet").mkdir(parents=True)
        (self.lib / "motelet" / "cbor.mpy").write_bytes(b"compiled")
        self.firmware = firmware_file(folder / "firmware.bin")
        self.chip()

    def chip(self, chip: str = "ESP32", megabytes: int = 4, pull: int | None = None) -> None:
        state = {"chip": chip, "megabytes": megabytes, "pull": pull}
        (self.folder / "chip.json").write_text(json.dumps(state))

    def run(self, *more: str) -> int:
        basic = ["--firmware", str(self.firmware), "--files", str(self.lib), "--port", str(self.port)]
        return cli.main(["flash", *basic, *more])

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        found = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return found

    def flash(self) -> bytes:
        return (self.folder / "flash").read_bytes()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(flash, "ESPTOOL", [sys.executable, str(STANDIN)])
    monkeypatch.setattr(flash, "_PAUSE_S", 0)
    monkeypatch.setenv("ESPTOOL_STATE", str(tmp_path))
    return Bench(tmp_path)


def test_firmware_and_files_are_written_and_verified(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    assert bench.run("--yes") == 0
    content = bench.flash()
    data = bench.firmware.read_bytes()
    assert content[0x1000 : 0x1000 + len(data)] == data
    assert b"compiled" in content[0x200000:] and b"motelet.ports.esp32.run" in content[0x200000:]
    assert "2 of 2 files written, verified" in capfd.readouterr().out
    assert bench.calls() == ["flash-id"] + ["verify-flash"] * 2 + ["write-flash", "verify-flash"] * 2
    # Once more: it is all there, so nothing is asked and nothing is written.
    assert bench.run() == 0
    assert bench.calls() == ["flash-id", "verify-flash", "verify-flash"]


@pytest.mark.parametrize("pull", [3, 70])
def test_a_pulled_cable_is_no_end(bench: Bench, pull: int, capfd: pytest.CaptureFixture[str]) -> None:
    bench.chip(pull=pull)
    assert bench.run("--yes") == 0
    data = bench.firmware.read_bytes()
    assert bench.flash()[0x1000 : 0x1000 + len(data)] == data and b"compiled" in bench.flash()[0x200000:]
    assert "trying again" in capfd.readouterr().err
    calls = bench.calls()
    # What was whole before the cable was pulled is not written again.
    assert calls.count("write-flash") == 3


def test_nothing_is_erased_without_being_asked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.run() == 1
    assert "this erases the firmware that is on the board and the files" in capsys.readouterr().err
    answers = iter(("n", "y"))
    asked: list[str] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda prompt: asked.append(prompt) or next(answers))
    assert bench.run("--erase") == 1
    assert "nothing was erased" in capsys.readouterr().err
    assert "everything on the board: settings, store, files" in asked[0]
    calls = bench.calls()
    assert "write-flash" not in calls and "erase-flash" not in calls
    assert bench.run("--erase") == 0
    assert len(asked) == 2 and bench.calls()[1] == "erase-flash"


def test_a_dry_run_prints_what_the_real_esptool_takes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(flash, "ESPTOOL", [sys.executable, "-m", "esptool"])
    assert bench.run("--dry-run", "--erase") == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == "# firmware.bin: ESP32, MicroPython v1.26.0 on 2025-08-09"
    verbs = "flash-id erase-flash write-flash verify-flash write-flash verify-flash"
    assert [next(word for word in line.split() if word in verbs) for line in lines] == verbs.split()
    assert bench.calls() == []
    for number, line in enumerate(lines[:4]):
        command = shlex.split(line)
        # --help behind the options, so that they are parsed and no chip is looked for.
        verb = next(at for at, word in enumerate(command) if word.endswith(("-flash", "flash-id")))
        done = subprocess.run([*command[: verb + 1], "--help"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (number, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("chip", "megabytes", "why"),
    [("ESP32-S3", 4, "is for ESP32, the board on"), ("ESP32", 2, "needs 4 MB of flash, the board has 2")],
)
def test_a_board_that_is_another_is_left_alone(
    bench: Bench, chip: str, megabytes: int, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.chip(chip, megabytes)
    assert bench.run("--yes", "--erase") == 1
    assert why in capsys.readouterr().err
    assert bench.calls() == ["flash-id"]


def test_a_board_that_never_answers_is_given_up(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.chip("odd")
    assert bench.run("--yes") == 1
    assert "does not say which chip it is" in capsys.readouterr().err
    (bench.folder / "chip.json").write_text("{")
    assert bench.run("--yes") == 1
    assert "gave up after 10 tries" in capsys.readouterr().err


def test_a_file_that_is_no_firmware_for_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "firmware.bin"
    with pytest.raises(cli.UserError, match="No such file"):
        firmware.read(path)
    for content in (b"", b"\xe9", b"\0" * 0x20000):
        path.write_bytes(content)
        with pytest.raises(cli.UserError, match="no firmware image"):
            firmware.read(path)
    for version, why in (("v1.23.0 on 2024-05-31", "at least 1.24.0"), ("v2", "no version of MicroPython")):
        with pytest.raises(cli.UserError, match=why):
            firmware.read(firmware_file(path, version=version))
    content = bytearray(firmware_file(path).read_bytes())
    content[12] = 77
    path.write_bytes(content)
    with pytest.raises(cli.UserError, match="chip number 77"):
        firmware.read(path)
    content[12] = 0
    content[0x7000:0x7020] = bytes(32)
    path.write_bytes(content)
    with pytest.raises(cli.UserError, match="no partition table"):
        firmware.read(path)
    for chip in firmware.CHIPS:
        assert firmware.read(firmware_file(path, chip)).chip.name == chip


def test_a_table_in_a_firmware_is_the_one_that_was_put_there() -> None:
    known = read_csv(TABLE)
    image = bytes(0x7000) + table(known) + b"\xff" * 4096
    assert in_firmware(image, 0x1000) == known


def test_the_real_esptool_is_here() -> None:
    command = [sys.executable, "-m", "esptool", "version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ})
    assert done.returncode == 0 and "esptool v5" in done.stdout
