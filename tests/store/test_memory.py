"""A store whose board has no memory left: nothing is lost, and what failed is done once there is some."""

import subprocess
from pathlib import Path

import pytest

from motelet.tools import mpy

SCRIPT = Path(__file__).parent / "short_of_memory.py"
OPERATIONS = ["put", "puts", "new", "large", "delete", "batch", "stream", "step", "get"]


@pytest.mark.slow
def test_every_operation_with_less_and_less_memory(tmp_path):
    micropython = mpy.interpreter()
    if micropython is None and not mpy.interpreter_published():
        pytest.skip("PyPI has no MicroPython for this computer")
    assert micropython is not None
    mpy.build(tmp_path, mpy.TEST_OPT_LEVEL)
    mpy.compile_file(SCRIPT, tmp_path / "short_of_memory.mpy", SCRIPT.name, mpy.TEST_OPT_LEVEL)
    done = subprocess.run(
        [*micropython, "-X", "heapsize=400K", "-m", "short_of_memory"],
        env=mpy.environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    failures = dict(line.split() for line in done.stdout.splitlines())
    assert list(failures) == OPERATIONS
    # What is borrowed needs memory, so there must have been too little of it.
    assert all(int(failures[name]) > 5 for name in ("puts", "large", "batch", "stream", "get")), failures
