"""The collector that runs core's tests on MicroPython must catch what fails there, and only there.

Each kind of failure is planted once: a run that is green because nothing ran would hide all others.
"""

import subprocess
import sys
from pathlib import Path

import pytest

import two_interpreters
from motelet.tools import mpy

pytestmark = pytest.mark.skipif(
    mpy.interpreter() is None and not mpy.interpreter_published(), reason=two_interpreters.NOTE_MISSING
)

FAILS_ON_MICROPYTHON = """
import sys

def test_good():
    assert sys.implementation.name in ("cpython", "micropython")

def test_bad():
    print("said before the end")
    assert sys.implementation.name != "micropython", "planted"
"""
CRASHES = """
import sys

def test_before():
    pass

def test_crash():
    import uctypes
    uctypes.bytes_at(8, 4)

def test_after():
    pass
"""
TOO_LARGE_TO_IMPORT = "KEPT = bytearray(200 * 1024)\n\ndef test_any():\n    pass\n"
HANGS = "def test_hang():\n    while True:\n        pass\n"
EXITS = "import sys\n\ndef test_exit():\n    sys.exit(0)\n\ndef test_later():\n    pass\n"
ALL_PASS_THEN_EXIT = """
class Late:
    def __str__(self):
        raise ValueError("after the last test")

import sys

def test_any():
    sys.argv[1] = Late()  # the runner names the file in its last line
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs a test file given as text on MicroPython and returns the reports."""
    monkeypatch.setattr(two_interpreters, "BUILD", tmp_path / "build")

    def run_source(source: str, *tests: str) -> dict[str, str | None]:
        path = tmp_path / "test_planted.py"
        path.write_text(source)
        return two_interpreters.run_file(path, list(tests))

    return run_source


def test_a_failure_there_fails_the_run_and_names_the_item(tmp_path: Path) -> None:
    (tmp_path / "test_planted.py").write_text(FAILS_ON_MICROPYTHON)
    (tmp_path / "conftest.py").write_text(
        "from pathlib import Path\nimport two_interpreters\n"
        "from two_interpreters import pytest_pycollect_makemodule\n"
        "two_interpreters.BUILD = Path(__file__).parent / 'build'\n"
    )
    folders = f"pythonpath={Path(__file__).parent} {Path(__file__).parent / 'core'}"
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-o", folders]
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), "-c", "/dev/null", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "test_planted.py::test_bad PASSED" in done.stdout
    assert "test_planted.py::micropython::test_good PASSED" in done.stdout
    assert "test_planted.py::micropython::test_bad FAILED" in done.stdout
    assert "1 failed, 3 passed" in done.stdout


def test_a_failure_carries_its_traceback_and_output(run) -> None:
    reports = run(FAILS_ON_MICROPYTHON, "test_good", "test_bad")
    assert reports["test_good"] is None
    assert 'File "test_planted.py", line 9, in test_bad\nAssertionError: planted' in reports["test_bad"]
    assert "said before the end" in reports["test_bad"]


def test_only_the_selected_functions_run(run) -> None:
    assert run(CRASHES, "test_before", "test_after") == {"test_before": None, "test_after": None}


def test_a_crash_fails_the_test_that_ran_and_all_after_it(run) -> None:
    reports = run(CRASHES, "test_before", "test_crash", "test_after")
    assert reports["test_before"] is None
    assert "MicroPython exited with -11" in reports["test_crash"]
    assert "MicroPython exited with -11" in reports["test_after"]


def test_no_memory_for_the_import_fails_every_test(run) -> None:
    assert "MemoryError" in run(TOO_LARGE_TO_IMPORT, "test_any")["test_any"]


def test_a_hang_is_ended(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two_interpreters, "FILE_TIMEOUT_S", 1)
    assert "did not finish this file within 1 s" in run(HANGS, "test_hang")["test_hang"]


def test_leaving_the_interpreter_is_no_success(run) -> None:
    reports = run(EXITS, "test_exit", "test_later")
    assert all("stopped without finishing the file" in report for report in reports.values())


def test_a_bad_end_after_the_last_test_fails_the_file(run) -> None:
    assert "after the last test" in run(ALL_PASS_THEN_EXIT, "test_any")["test_any"]


def test_a_source_that_does_not_compile_fails_every_test(run) -> None:
    assert "SyntaxError" in run("def test_any(:\n", "test_any")["test_any"]


def test_no_interpreter_where_there_should_be_one_fails_every_test(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mpy, "interpreter", lambda: None)
    assert "pip install" in run(FAILS_ON_MICROPYTHON, "test_good")["test_good"]
