"""The live table as text: what exactly a user sees."""

import io
import os
import pty
import re
import threading
from dataclasses import replace

import pytest

from motelet.tools.demo.processes import State
from motelet.tools.demo.table import ProcessLine, View, format_age, render, render_line, show
from motelet.tools.demo.thermostat import Registers
from motelet.tools.demo.twins import Twin

TEMPERATURE = Twin("demo-gateway", "thermostat", "temperature", "FLOAT", None, "20.4", 0.31, "online")
SETPOINT = replace(TEMPERATURE, name="setpoint", desired="24.5", reported="21.0", age=75.0)
HEATER = replace(TEMPERATURE, name="heater", type="BOOLEAN", reported="true", age=9000.0)
RUNNING = (
    ProcessLine("thermostat", State(True, 4711, "running"), "Modbus TCP 127.0.0.1:40001"),
    ProcessLine("bridge", State(True, 4712, "running"), "TLS 127.0.0.1:40002"),
    ProcessLine("gateway", State(True, 4713, "running"), "MicroPython, 160K heap"),
)
VIEW = View(
    processes=RUNNING,
    twins=(TEMPERATURE, SETPOINT, HEATER),
    reachable=True,
    registers=Registers(20.4, 21.0, True),
    problems=(),
    hints=("Try, in a second terminal:", "  kill -9 4713"),
)
PICTURE = """\
motelet demo    Ctrl-C ends it

thermostat running, pid 4711     Modbus TCP 127.0.0.1:40001
bridge     running, pid 4712     TLS 127.0.0.1:40002
gateway    running, pid 4713     MicroPython, 160K heap

NODE          DEVICE       PROPERTY     DESIRED   REPORTED  AGE   SYNC
demo-gateway  thermostat   temperature  -         20.4      0.3s  -
demo-gateway  thermostat   setpoint     24.5      21.0      1m    pending
demo-gateway  thermostat   heater       -         true      2h    -

Read over Modbus, past motelet: temperature 20.4, setpoint 21.0, heater on

Try, in a second terminal:
  kill -9 4713
"""
ESCAPE = re.compile("\x1b\\[[0-9;?]*[A-Za-z]")


def text(view: View, width: int = 80, height: int = 24, colour: bool = False) -> str:
    return "".join(line.rstrip() + "\n" for line in render(view, width, height, colour))


def test_everything_runs() -> None:
    assert text(VIEW) == PICTURE


def test_the_gateway_was_killed() -> None:
    gateway = replace(RUNNING[2], state=State(False, None, "killed by SIGKILL"))
    seen = text(replace(VIEW, processes=(*RUNNING[:2], gateway), reachable=False))
    expected = PICTURE.replace("running, pid 4713     Micro", "killed by SIGKILL     Micro")
    expected = expected.replace("0.3s  -", "0.3s  offline").replace("2h    -", "2h    offline")
    assert seen == expected.replace("pending", "offline")


def test_nothing_is_known_yet() -> None:
    bare = replace(SETPOINT, reported=None, age=None, state="")
    seen = text(replace(VIEW, twins=(bare,), registers=None))
    assert "demo-gateway  thermostat   setpoint     24.5      -         -     pending\n" in seen
    assert "The thermostat does not answer over Modbus.\n" in seen


@pytest.mark.parametrize(
    ("changes", "sync"),
    [
        ({"reported": "24.5"}, "in-sync"),
        ({"reported": "24.50"}, "in-sync"),
        ({"reported": "24.4"}, "pending"),
        ({"desired": "warm"}, "pending"),
        ({"type": "STRING", "desired": "1", "reported": "1.0"}, "pending"),
        ({"type": "STRING", "desired": "on", "reported": "on"}, "in-sync"),
        ({"type": "BOOLEAN", "desired": "True", "reported": "true"}, "in-sync"),
        ({"type": "BOOLEAN", "desired": "true", "reported": "false"}, "pending"),
        ({"reported": "24.5", "state": "offline"}, "offline"),
        ({"desired": None, "reported": None}, "pending"),
    ],
)
def test_the_word_for_the_state_of_a_property(changes: dict[str, str], sync: str) -> None:
    assert replace(SETPOINT, **changes).sync(reachable=True) == sync
    assert replace(SETPOINT, **changes).sync(reachable=False) == "offline"


def test_colour_changes_no_letter() -> None:
    coloured = text(VIEW, colour=True)
    assert "\x1b[33mpending\x1b[0m" in coloured
    plain = [line.rstrip() for line in ESCAPE.sub("", coloured).splitlines()]
    assert plain == PICTURE.splitlines()


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (79, 12), (40, 10), (20, 5), (1, 1)])
def test_it_fits_whatever_the_terminal(width: int, height: int, colour: bool) -> None:
    long = replace(VIEW, problems=("x" * 300,), hints=("y" * 300,) * 50)
    lines = [ESCAPE.sub("", line) for line in render(long, width, height, colour)]
    assert len(lines) == height
    assert max(map(len, lines)) <= width


def test_long_names_keep_their_columns() -> None:
    long = replace(
        SETPOINT, node="n" * 40, device="d" * 40, name="p" * 40, desired="1" * 40, reported="2" * 40
    )
    row = text(replace(VIEW, twins=(long,))).splitlines()[7]
    expected = ["n" * 12 + ".", "d" * 11 + ".", "p" * 11 + ".", "1" * 8 + ".", "2" * 8 + ".", "1m", "pending"]
    assert row.split() == expected
    assert len(row) <= 80


def test_no_control_character_of_a_value_reaches_the_terminal() -> None:
    evil = replace(SETPOINT, desired="\x1b[2J", reported="a\nb\r", node="\x9b2J")
    view = replace(VIEW, twins=(evil,), problems=("\x1b]0;title\x07",))
    for line in [*render(view, 80, 24, colour=False), render_line(evil, reachable=True)]:
        assert line.isprintable()


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-0.2, "0.0s"),
        (0.04, "0.0s"),
        (9.94, "9.9s"),
        (9.96, "9.9s"),
        (10.0, "10s"),
        (59.4, "59s"),
        (59.6, "59s"),
        (60.0, "1m"),
        (3599.0, "59m"),
        (7200, "2h"),
        (86399, "23h"),
        (90000, "1d"),
        (1e12, "9999d"),
    ],
)
def test_an_age_has_at_most_five_characters(seconds: float, shown: str) -> None:
    assert format_age(seconds) == shown


class Looks:
    """Views one after the other; after the last the user presses Ctrl-C."""

    def __init__(self, *views: View) -> None:
        self._views = iter(views)

    def __call__(self) -> View:
        for view in self._views:
            return view
        raise KeyboardInterrupt


def test_without_a_terminal_each_change_is_a_line() -> None:
    output = io.StringIO()
    done = replace(VIEW, twins=(TEMPERATURE, replace(SETPOINT, reported="24.5"), HEATER))
    broken = replace(done, problems=("thermostat.yaml, line 3: broken",))
    with pytest.raises(KeyboardInterrupt):
        show(Looks(VIEW, VIEW, done, broken, broken, done), output)
    lines = [re.sub("^[0-9:]{8} ", "", line) for line in output.getvalue().splitlines()]
    assert lines == [
        "Try, in a second terminal:",
        "  kill -9 4713",
        "thermostat: running",
        "bridge: running",
        "gateway: running",
        "demo-gateway thermostat temperature: reported 20.4 (-)",
        "demo-gateway thermostat setpoint: desired 24.5 reported 21.0 (pending)",
        "demo-gateway thermostat heater: reported true (-)",
        "demo-gateway thermostat setpoint: desired 24.5 reported 24.5 (in-sync)",
        "thermostat.yaml, line 3: broken",
    ]


@pytest.mark.parametrize("no_color", ["", "1"])
def test_a_terminal_is_drawn_on_and_left_as_it_was(monkeypatch: pytest.MonkeyPatch, no_color: str) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "20")
    master, slave = pty.openpty()
    written = bytearray()
    reader = threading.Thread(target=lambda: written.extend(read_until(master, b"\x1b[?1049l")))
    reader.start()
    with os.fdopen(slave, "w") as output, pytest.raises(KeyboardInterrupt):
        show(Looks(VIEW, VIEW), output)
    reader.join(20)
    os.close(master)
    drawn = written.decode()
    assert drawn.startswith("\x1b[?1049h\x1b[?25l\x1b[H")
    assert drawn.endswith("\x1b[?25h\x1b[?1049l")
    assert "temperature  -         20.4" in drawn
    assert ("\x1b[33mpending" in drawn) is (no_color == "")


def read_until(descriptor: int, end: bytes) -> bytes:
    content = b""
    while not content.endswith(end):
        content += os.read(descriptor, 4096)
    return content
