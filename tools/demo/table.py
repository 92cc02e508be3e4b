"""The live table of the demo: what is desired, what is reported, and what to try next.

`render` turns a `View` into lines and knows neither terminal nor clock; `show` is the thin loop around
it. Where the output is no terminal, a line is printed for each change instead.
"""

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn, TextIO

from motelet.tools.demo.processes import State
from motelet.tools.demo.thermostat import Registers
from motelet.tools.demo.twins import IN_SYNC, OFFLINE, PENDING, Twin

REFRESH_SECONDS = 0.25

# 73 columns in all, of the 80 that every terminal has.
_COLUMNS = (
    ("NODE", 13),
    ("DEVICE", 12),
    ("PROPERTY", 12),
    ("DESIRED", 9),
    ("REPORTED", 9),
    ("AGE", 5),
    ("SYNC", 7),
)
_AGES = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
_TENTHS_BELOW = 10
_AGE_MAX = 9999
_BOLD = "1"
_COLOURS = {IN_SYNC: "32", PENDING: "33", OFFLINE: "31"}
_ALTERNATE_SCREEN = "\x1b[?1049h\x1b[?25l"
_NORMAL_SCREEN = "\x1b[?25h\x1b[?1049l"
_HOME = "\x1b[H"
_CLEAR_LINE = "\x1b[K"
_CLEAR_BELOW = "\x1b[J"

Span = tuple[str, str]
"""Text and the number of its ANSI rendition, "" for the terminal's own."""


@dataclass(frozen=True)
class ProcessLine:
    """One process in the header: its name, its state, and what it is."""

    name: str
    state: State
    what: str


@dataclass(frozen=True)
class View:
    """All that the table shows at one moment."""

    processes: Sequence[ProcessLine]
    twins: Sequence[Twin]
    reachable: bool
    """Whether bridge and gateway run."""
    registers: Registers | None
    """What the device holds, read over Modbus; None when it does not answer."""
    problems: Sequence[str]
    """What is wrong with the files, one line each."""
    hints: Sequence[str]
    """What to try next."""


def render(view: View, width: int, height: int, colour: bool) -> list[str]:
    """The lines of the table: at most `height` of at most `width` columns. What does not fit is cut."""
    lines: list[list[Span]] = [[("motelet demo", _BOLD), ("    Ctrl-C ends it", "")], []]
    for process in view.processes:
        state = process.state
        text = f"running, pid {state.pid}" if state.running else state.text
        painted = (f"{text:<22}", _COLOURS[IN_SYNC if state.running else OFFLINE])
        lines.append([(f"{process.name:<11}", ""), painted, (process.what, "")])
    lines += [[], [(_row([title for title, _ in _COLUMNS]), _BOLD)]]
    for twin in view.twins:
        sync = twin.sync(view.reachable)
        lines.append([(_row(_cells(twin)), ""), (sync, _COLOURS.get(sync, ""))])
    lines += [[], [(_registers(view.registers), "")]]
    lines += [[(problem, _COLOURS[OFFLINE])] for problem in view.problems]
    lines += [[], *([(hint, "")] for hint in view.hints)]
    return [_paint(line, width, colour) for line in lines[:height]]


def render_line(twin: Twin, reachable: bool) -> str:
    """One property as one line, without its age, which changes all the time: for what is no terminal."""
    desired = "" if twin.desired is None else f" desired {twin.desired}"
    reported = "nothing reported" if twin.reported is None else f"reported {twin.reported}"
    return _clean(f"{twin.node} {twin.device} {twin.name}:{desired} {reported} ({twin.sync(reachable)})")


def show(look: Callable[[], View], output: TextIO) -> NoReturn:
    """Show what `look` returns, until KeyboardInterrupt; the terminal is then as it was before."""
    if not output.isatty() or os.environ.get("TERM") == "dumb":
        _show_changes(look, output)
    output.write(_ALTERNATE_SCREEN)
    try:
        while True:
            _draw(look(), output)
            time.sleep(REFRESH_SECONDS)
    finally:
        output.write(_NORMAL_SCREEN)
        output.flush()


def _draw(view: View, output: TextIO) -> None:
    # The size is asked for each time, so a resized terminal is right at the next refresh.
    size = shutil.get_terminal_size()
    lines = render(view, size.columns, size.lines, not os.environ.get("NO_COLOR"))
    # Drawn over the old picture, not on a cleared screen, which would flicker; and no newline after the last
    # line, which would scroll.
    output.write(_HOME + "\n".join(line + _CLEAR_LINE for line in lines) + _CLEAR_BELOW)
    output.flush()


def _show_changes(look: Callable[[], View], output: TextIO) -> NoReturn:
    shown: dict[str, str] = {}
    hints: Sequence[str] = ()
    while True:
        view = look()
        if view.hints != hints:
            hints = view.hints
            print(*hints, sep="\n", file=output)
        lines = {process.name: f"{process.name}: {process.state.text}" for process in view.processes}
        lines |= {f"{t.node}/{t.device}/{t.name}": render_line(t, view.reachable) for t in view.twins}
        lines |= {problem: _clean(problem) for problem in view.problems}
        for key, line in lines.items():
            if shown.get(key) != line:
                print(time.strftime("%H:%M:%S"), line, file=output, flush=True)
        shown = lines
        time.sleep(REFRESH_SECONDS)


def _cells(twin: Twin) -> list[str]:
    missing = "-"
    return [
        twin.node,
        twin.device,
        twin.name,
        missing if twin.desired is None else twin.desired,
        missing if twin.reported is None else twin.reported,
        missing if twin.age is None else format_age(twin.age),
    ]


def _row(cells: Sequence[str]) -> str:
    """The cells in their columns, a space between; a text that is too long ends in a dot."""
    pairs = zip(cells, _COLUMNS, strict=False)
    return "".join(_cell(text, width).ljust(width + 1) for text, (_, width) in pairs)


def _cell(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "."


def format_age(seconds: float) -> str:
    """Seconds, rounded down as kubectl does, in at most five characters: 0.4s, 59s, 12m, 3h, 99d."""
    if seconds < _TENTHS_BELOW:
        return f"{int(max(seconds, 0.0) * 10) / 10:.1f}s"
    length, unit = next(age for age in _AGES if seconds >= age[0])
    return f"{min(int(seconds / length), _AGE_MAX)}{unit}"


def _registers(registers: Registers | None) -> str:
    if registers is None:
        return "The thermostat does not answer over Modbus."
    heater = "on" if registers.heater else "off"
    held = f"temperature {registers.temperature:.1f}, setpoint {registers.setpoint:.1f}, heater {heater}"
    return f"Read over Modbus, past motelet: {held}"


def _paint(line: Sequence[Span], width: int, colour: bool) -> str:
    painted = ""
    for text, rendition in line:
        part = _clean(text)[:width]
        width -= len(part)
        painted += f"\x1b[{rendition}m{part}\x1b[0m" if colour and rendition and part else part
    return painted


def _clean(text: str) -> str:
    """Values come from devices and files: no control character of theirs may reach the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
