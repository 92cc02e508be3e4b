"""What `make image` builds: images that mount, a ledger with limits, and parts that mip can install."""

import json
from pathlib import Path

import pytest

from motelet.tools import cli
from motelet.tools.image import build, command, index
from motelet.tools.image.partitions import Partition
from motelet.tools.lint import ROOT

BOARD = ROOT / "boards" / "ESP32_GENERIC"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> build.Image:
    """The image of one board; the code is the same for all."""
    return build.build(BOARD, tmp_path_factory.mktemp("image"))


def test_nothing_is_larger_than_its_limit(image: build.Image) -> None:
    assert command.excesses(image) == []


def test_what_is_larger_fails_the_build(image: build.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"mpy_bytes": image.mpy_bytes, "romfs_bytes": image.romfs - 1, "littlefs_bytes": image.littlefs}
    monkeypatch.setattr(command, "limits", lambda: small)
    assert command.excesses(image) == ["romfs_bytes"]


def test_the_image_has_all_that_runs(image: build.Image) -> None:
    for name in ("motelet/gateway.mpy", "motelet/ports/esp32/run.mpy", "motelet/built.mpy"):
        assert name in image.files
    assert not [name for name in image.files if "unix" in name or not name.endswith(".mpy")]


@pytest.mark.parametrize("kind", ["littlefs", "romfs"])
def test_a_damaged_image_is_noticed(image: build.Image, tmp_path: Path, kind: str) -> None:
    source = image.folder / ("vfs.img" if kind == "littlefs" else "rom.img")
    content = bytearray(source.read_bytes())
    wanted = build.in_lib(build.read(image.folder / "lib"))
    if kind == "littlefs":
        wanted |= build.entry()
    whole = tmp_path / "whole"
    whole.write_bytes(content)
    build.check_mounts(kind, whole, wanted)
    # One bit of one file: both still mount.
    at = content.find(build.read(image.folder / "lib")["motelet/broker.mpy"][100:200])
    content[at] ^= 1
    broken = tmp_path / "broken"
    broken.write_bytes(content)
    with pytest.raises(cli.UserError, match=r"not what was put in: lib/motelet/broker\.mpy"):
        build.check_mounts(kind, broken, wanted)
    broken.write_bytes(b"\0" * len(content))
    with pytest.raises(cli.UserError, match="does not mount"):
        build.check_mounts(kind, broken, wanted)


def test_every_file_is_in_one_part(image: build.Image) -> None:
    files = build.read(image.folder / "lib")
    parts = index.parts(files)
    assert sum(len(each) for each in parts.values()) == len(files)
    assert [name for name, content in parts.items() if not content] == []
    assert "motelet/gateway.mpy" in parts["motelet"] and "motelet/broker.mpy" in parts["motelet-broker"]
    with pytest.raises(cli.UserError, match=r"odd\.mpy belongs to no part"):
        index.parts({"odd.mpy": b""})


def test_a_file_system_that_is_too_small_is_named(image: build.Image) -> None:
    with pytest.raises(cli.UserError, match="a file system of 65536 bytes"):
        build.littlefs_image(image.folder / "lib", 65536)


def test_a_board_without_partitions_is_named(tmp_path: Path) -> None:
    with pytest.raises(cli.UserError, match="RASPBERRY_PI is not a board that takes an image"):
        build.build(ROOT / "boards" / "RASPBERRY_PI", tmp_path)
    with pytest.raises(cli.UserError, match="4097 bytes do not fit the partition romfs"):
        build.check_fits(4097, Partition("romfs", 1, 0x8F, 0x200000, 4096))
    build.check_fits(4096, Partition("romfs", 1, 0x8F, 0x200000, 4096))


def test_the_command_writes_ledger_and_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["image", "ESP32_GENERIC_C3", "--output", str(tmp_path / "out")]) == 0
    assert "both images mount" in capsys.readouterr().out
    ledger = json.loads((tmp_path / "out" / "ledger.json").read_text())
    assert ledger["images"]["mpy_bytes"] == sum(ledger["files"].values()) == sum(ledger["parts"].values())
    assert cli.main(["image", "ODD"]) == 1
    assert "ODD takes no image" in capsys.readouterr().err
