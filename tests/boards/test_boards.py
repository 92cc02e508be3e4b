"""The boards' folders: every file that MicroPython's conventions want, tables that hold, pins that agree."""

import csv
import json
import re

import pytest

from motelet.tools.image import command
from motelet.tools.image.partitions import PartitionError, checked, read_csv
from motelet.tools.lint import ROOT

BOARDS = sorted({path.name for path in (ROOT / "boards").iterdir() if path.is_dir()} - {"examples"})
CHIPS = command.names()
FILES = ("board.json", "manifest.py", "mpconfigboard.cmake", "mpconfigboard.h", "sdkconfig.board", "pins.csv")


def test_these_are_the_boards() -> None:
    assert BOARDS == ["ESP32_GENERIC", "ESP32_GENERIC_C3", "ESP32_GENERIC_S3", "RASPBERRY_PI"]
    assert BOARDS[:3] == CHIPS


@pytest.mark.parametrize("board", BOARDS)
def test_every_board_is_described(board: str) -> None:
    about = json.loads((ROOT / "boards" / board / "board.json").read_text())
    assert {
        "deploy",
        "docs",
        "features",
        "images",
        "mcu",
        "product",
        "thumbnail",
        "url",
        "vendor",
    } <= about.keys()
    page = (ROOT / "boards" / board / "README.md").read_text()
    assert "## Wiring" in page and page.startswith(f"# {board}\n")
    assert f"({board}/README.md)" in (ROOT / "boards" / "README.md").read_text()


@pytest.mark.parametrize("board", CHIPS)
def test_a_chips_folder_is_whole_and_agrees_with_itself(board: str) -> None:
    folder = ROOT / "boards" / board
    assert [name for name in FILES if not (folder / name).is_file()] == []
    own, stock = read_csv(folder / "partitions.csv"), read_csv(folder / "partitions-stock.csv")
    megabytes = int(re.search(r"FLASHSIZE_(\d+)MB=y", (folder / "sdkconfig.board").read_text())[1])  # type: ignore[index]
    for table in (own, stock):
        assert max(each.offset + each.size for each in table.values()) == megabytes << 20
        assert (table["nvs"].offset, table["nvs"].size) == (0x9000, 0x6000)
    assert own["motelet"].size >= 64 * 4096 and "motelet" not in stock
    assert own["romfs"].size > command.limits()["romfs_bytes"]
    settings = json.loads((folder / "pins.json").read_text())
    with (folder / "pins.csv").open() as file:
        named = {pin.removeprefix("GPIO") for _, pin in csv.reader(file)}
    used = [settings["button"]] + [
        number for pins in settings["pins"].values() for name, number in pins.items() if name != "freq"
    ]
    assert {str(number) for number in used} == named and len(set(used)) == len(used)
    page = (folder / "README.md").read_text()
    assert [number for number in used if not re.search(rf"[ ,]{number}[ ,]", page)] == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("x, data, nvs, 0x9000, 0x6001,", "not aligned"),
        ("x, app, factory, 0x11000, 0x10000,", "not aligned"),
        ("x, data, nvs, 0x8000, 0x1000,", "overlaps"),
        ("x, data, nvs, 0x9000, 0x2000,\ny, data, nvs, 0xa000, 0x1000,", "overlaps"),
        ("x, data, nvs, 0x9000, 0x1000,\nx, data, nvs, 0xa000, 0x1000,", "one label"),
        ("x, data, odd, 0x9000, 0x1000,", ":1:"),
        ("# one\nx, data, nvs", ":2:"),
    ],
)
def test_a_table_that_cannot_be_is_refused(tmp_path, line: str, why: str) -> None:
    path = tmp_path / "partitions.csv"
    path.write_text(line + "\n")
    with pytest.raises(PartitionError, match=why):
        read_csv(path)
    assert checked([]) == {}


def test_what_never_ran_is_said() -> None:
    page = (ROOT / "boards" / "README.md").read_text()
    assert "Nothing here ever ran on a chip" in page and "never run here" in page
