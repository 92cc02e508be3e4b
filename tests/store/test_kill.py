"""kill -9 of a process that writes to a store on a file: what it was told is durable is there."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from motelet.kvlog import Store
from motelet.ports.unix.flash import FileFlash
from motelet.tools import mpy

VICTIM = Path(__file__).parent / "victim.py"
ROUNDS = 6
KEYS = 5  # as in victim.py


def command(interpreter, tmp_path):
    """How to start the victim, and its environment."""
    if interpreter == "cpython":
        return [sys.executable, str(VICTIM)], dict(os.environ)
    micropython = mpy.interpreter()
    if micropython is None and not mpy.interpreter_published():
        pytest.skip("PyPI has no MicroPython for this computer")
    assert micropython is not None
    mpy.build(tmp_path / "mpy", mpy.TEST_OPT_LEVEL)
    mpy.compile_file(VICTIM, tmp_path / "mpy" / "victim.mpy", "victim.py", mpy.TEST_OPT_LEVEL)
    return [*micropython, "-X", "heapsize=128K", "-m", "victim"], mpy.environment(tmp_path / "mpy")


def kill_after(arguments, environment, puts):
    """Start the victim and kill it when it has acknowledged that many; the last number it acknowledged."""
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True)
    lines = [process.stdout.readline() for _ in range(puts)]
    process.send_signal(signal.SIGKILL)
    with process.stdout:  # not communicate(): that passes over what readline has in its buffer
        lines += process.stdout
    assert process.wait(timeout=30) == -signal.SIGKILL
    return int([line for line in lines if line.endswith("\n")][-1])


def check(path, last):
    """Mount what the dead process left; the number to go on from."""
    store = Store(FileFlash(path, 10 * 4096))
    store.mount()
    assert store.damaged == 0
    found = int(store.get("last"))
    assert found in (last, last + 1)
    assert store.get("large") == b"%d " % found * 200
    for number in range(found - KEYS + 1, found + 1):
        assert store.get(f"key/{number % KEYS}") == b"%d " % number * 12
    return found + 1


@pytest.mark.parametrize("interpreter", ["cpython", "micropython"])
def test_what_was_acknowledged_survives_kill_9(interpreter, tmp_path):
    arguments, environment = command(interpreter, tmp_path)
    rng = random.Random(interpreter)
    path = str(tmp_path / "flash.img")
    number = 0
    for _ in range(ROUNDS):
        last = kill_after([*arguments, path, str(number)], environment, rng.randrange(KEYS, 120))
        number = check(path, last)
