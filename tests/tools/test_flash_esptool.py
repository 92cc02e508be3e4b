"""`motelet flash` with the real esptool, which speaks to a boot loader at the end of a PTY."""

import random
from pathlib import Path

import pytest
from esp_rom import CHIPS, Rom, firmware_file

from motelet.tools import cli
from motelet.tools.setup import flash

ERASE = 0xD0


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A firmware, much of which cannot be compressed, as in a real one."""
    path = firmware_file(tmp_path / "firmware.bin")
    content = path.read_bytes()
    path.write_bytes(content[:0x30000] + random.Random(1).randbytes(len(content) - 0x30000))
    return path


def run(image: Path, rom: Rom, *more: str) -> int:
    return cli.main(["flash", "--firmware", str(image), "--port", str(rom.port), "--yes", *more])


def holds(rom: Rom, image: Path) -> bool:
    data = image.read_bytes()
    return rom.flash[0x1000 : 0x1000 + len(data)] == data


def test_a_board_is_erased_written_and_verified(image: Path, tmp_path: Path) -> None:
    with Rom(tmp_path) as rom:
        assert run(image, rom, "--erase") == 0
        assert holds(rom, image) and rom.flash[:0x1000] == b"\xff" * 0x1000
        assert rom.commands[ERASE] == 1


@pytest.mark.parametrize("pulls", [(3,), (3, 3)])
def test_a_cable_pulled_while_esptool_writes_is_no_end(
    image: Path,
    tmp_path: Path,
    pulls: tuple[int, ...],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flash, "_PAUSE_S", 0.1)
    with Rom(tmp_path, pulls=pulls) as rom:
        assert run(image, rom) == 0
        assert rom.pulled == len(pulls) and holds(rom, image)
    said = capfd.readouterr()
    assert "1 of 1 files written, verified" in said.out
    # esptool takes a cable that comes back for itself once; after that it is started again.
    assert ("trying again" in said.err) == (len(pulls) > 1)


@pytest.mark.parametrize("chip", sorted(CHIPS.keys() - {"ESP32"}))
def test_another_chip_is_told_by_esptool_and_left_alone(
    image: Path, tmp_path: Path, chip: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Rom(tmp_path, chip) as rom:
        before = bytes(rom.flash)
        assert run(image, rom, "--erase") == 1
        assert rom.flash == before and ERASE not in rom.commands
    assert f"is for ESP32, the board on {rom.port} is {chip}" in capsys.readouterr().err


def test_a_flash_that_is_too_small_is_told_by_esptool(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Rom(tmp_path, megabytes=2) as rom:
        assert run(image, rom) == 1
    assert "needs 4 MB of flash, the board has 2" in capsys.readouterr().err
