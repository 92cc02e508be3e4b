"""The line and device that measure serial mappers: both are served, and a request too early is caught."""

import os
import sys
import threading
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymodbus.framer import FramerRTU

from motelet.tools import cli, mpy
from motelet.tools.bench import interpreters, mapper

REQUEST = bytes.fromhex("010300000002")
REQUEST += FramerRTU.compute_CRC(REQUEST).to_bytes(2, "big")
ANSWER = 9  # bytes


@pytest.fixture
def line() -> Iterator[tuple[int, int]]:
    """The device's end and the gateway's."""
    master, slave = os.openpty()
    tty.setraw(slave)
    yield master, slave
    os.close(master)
    os.close(slave)


def test_the_lines_own_time_is_its_characters_and_its_silences() -> None:
    # 17 characters of ten bits, and twice 3.5 characters of eleven, or 1.75 ms.
    assert abs(mapper.Line(9600).exchange - (170 + 77) / 9600) < 1e-9
    assert abs(mapper.Line(115200).exchange - (170 / 115200 + 0.0035)) < 1e-9


def test_a_request_that_comes_too_early_is_caught(line: tuple[int, int]) -> None:
    device, gateway = line

    def hasty() -> None:
        os.write(gateway, REQUEST)
        got = b""
        while len(got) < ANSWER:
            got += os.read(gateway, ANSWER)
        os.write(gateway, REQUEST)

    thread = threading.Thread(target=hasty)
    thread.start()
    with pytest.raises(cli.UserError, match="us of silence"):
        list(mapper.serve(device, mapper.Line(300), 1))
    thread.join()


def test_what_is_no_request_is_said(line: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    device, gateway = line
    os.write(gateway, REQUEST[:-1] + b"!")
    with pytest.raises(cli.UserError, match="no request: 0103"):
        list(mapper.serve(device, mapper.Line(115200), 1))
    monkeypatch.setattr(mapper, "QUIET_S", 0)
    with pytest.raises(cli.UserError, match="asks no more"):
        list(mapper.serve(device, mapper.Line(115200), 1))


@pytest.mark.skipif(
    mpy.interpreter() is None and not mpy.interpreter_published(), reason="no MicroPython for this computer"
)
def test_both_drivers_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreters, "ROOT", tmp_path / "bench")
    monkeypatch.setattr(mapper, "BAUDS", (115200,))
    monkeypatch.setattr(mapper, "POLLS", 20)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    figures = {figure.name: figure for figure in mapper.measure()}
    assert list(figures) == [
        "mapper.modbus_overhead_percent.115200",
        "mapper.modbus_overhead_percent.pymodbus.115200",
    ]
    # By less than nothing the silence would not have been kept.
    assert all(figure.value > 0 and figure.n == 20 for figure in figures.values())
