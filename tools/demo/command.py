"""`motelet demo`: a YAML file, a bridge, a MicroPython gateway and a Modbus device on one computer."""

import argparse
import logging
import signal
import sys
from pathlib import Path
from types import FrameType

from pymodbus.exceptions import ModbusException

from motelet.tools.cli import UserError
from motelet.tools.demo.once import run_once
from motelet.tools.demo.processes import EXITED
from motelet.tools.demo.system import System
from motelet.tools.demo.table import ProcessLine, View, show
from motelet.tools.demo.thermostat import HOST
from motelet.tools.mpy import CompileError

DEFAULT_FOLDER = Path("build/demo")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `motelet demo`."""
    parser.add_argument(
        "--once",
        action="store_true",
        help="no screen: change a desired value, wait for it in device and status, print the times",
    )
    parser.add_argument(
        "--dir", type=Path, default=DEFAULT_FOLDER, help=f"work folder (default {DEFAULT_FOLDER})"
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="go on with the YAML and the flash image of the last run instead of fresh ones",
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo until Ctrl-C, or once.

    Returns the exit status, 1 when a step of --once did not happen. Raises UserError and OSError when the
    demo cannot start, KeyboardInterrupt when --once is interrupted.
    """
    # Whatever fails on Modbus is raised as well; printed, it would tear the table.
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    system = System(args.dir, args.keep)
    try:
        system.prepare()
    except CompileError as error:
        raise UserError(f"core does not compile: {error}") from error
    try:
        if args.once:
            if system.runtime_note is not None:
                print(f"Note: {system.runtime_note}")
            return run_once(system, sys.stdout)
        system.start()
        show(lambda: look(system), sys.stdout)
    except KeyboardInterrupt:
        if args.once:
            raise
        return 0
    finally:
        _stop(system)


def look(system: System) -> View:
    """What the table shows now."""
    twins, problems = system.twins()
    # The bridge knows everything that the demo's own reader knows to be wrong, and more.
    problems = system.complaints() or problems
    try:
        registers = system.registers.read()
    except ModbusException:
        registers = None
    what = (
        f"Modbus TCP {HOST}:{system.thermostat_port}",
        f"TLS {HOST}:{system.bridge_port}",
        system.runtime,
    )
    pairs = zip(system.processes, what, strict=True)
    lines = [ProcessLine(process.name, process.state(), text) for process, text in pairs]
    problems += sorted({f"{twin.device} is {twin.state}: {twin.reason}" for twin in twins if twin.reason})
    for process in system.processes:
        # Nobody wanted that, so say why; a process that was killed has nothing to say about it.
        if process.state().text.startswith(EXITED):
            problems += [f"{process.name}: {line}" for line in process.tail(1)]
    return View(lines, twins, system.reachable(), registers, problems, hints(system))


def hints(system: System) -> list[str]:
    """What to try next; commands for a process that does not run say how to start it."""
    lines = ["Try, in a second terminal:"]
    lines.append(f"  edit   {_short(system.device_file)}")
    lines.append("         (the desired setpoint) and see the register change")
    for process in reversed(system.processes):
        state = process.state()
        if state.running:
            lines.append(f"  kill   kill -9 {state.pid}   # the {process.name}")
        else:
            lines.append(f"  start  sh {_short(process.script)}   # the {process.name} again")
    lines.append(f"  read   tail -f {_short(system.gateway.log)}")
    if system.runtime_note is not None:
        lines += ["", f"Note: {system.runtime_note}"]
    return lines


def _short(path: Path) -> Path:
    """The path as one would type it here."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _stop(system: System) -> None:
    # A second, impatient Ctrl-C must not leave processes behind; stopping is bounded by itself.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for line in system.stop():
        print(line)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """A closed terminal or a polite kill ends the demo as Ctrl-C does: with its processes stopped."""
    raise KeyboardInterrupt
