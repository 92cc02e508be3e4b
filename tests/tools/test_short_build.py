"""What a board is given does what the source does: core passes its tests in the form of a board."""

import ast
import subprocess
from pathlib import Path

import pytest

from motelet.tools import firmware, mpy, shorten
from two_interpreters import PORTS

CORE = Path(__file__).parents[1] / "core"
HEAP = "256K"  # asserts, and tests of several kilobytes each
# These ask a module or a class for its names by text, asyncio for its own, or play the firmware of a board.
APART = {"test_aiohost.py", "test_protocol.py", "test_attach.py", "conftest.py"}
APART |= {file.name for file in CORE.glob("*.py") if "esp_doubles" in file.read_text()} | {"esp_doubles.py"}
# Thousands of power cuts and faults, on paths that the other tests of the same modules take too.
APART |= {"test_kvlog_anyfault.py", "test_kvlog_faults.py", "test_edgehub_anyfault.py"}
FILE_TIMEOUT_S = 300

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        mpy.interpreter() is None and not mpy.interpreter_published(),
        reason="PyPI has no MicroPython for this computer",
    ),
]


def test_core_passes_its_tests_in_the_form_of_a_board(tmp_path: Path) -> None:
    beside = {source.name: source for source in CORE.glob("*.py") if source.name not in APART}
    mpy.build(tmp_path, mpy.TEST_OPT_LEVEL, PORTS, beside, short=True)
    interpreter = mpy.interpreter()
    assert interpreter is not None
    wrong = []
    for name in sorted(beside):
        if not name.startswith("test_"):
            continue
        body = ast.parse(beside[name].read_text()).body
        tests = [
            each.name for each in body if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")
        ]
        done = subprocess.run(
            [*interpreter, "-X", f"heapsize={HEAP}", "-m", "micropython_main", name[:-3], *tests],
            env=mpy.environment(tmp_path),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=FILE_TIMEOUT_S,
        )
        if done.returncode or done.stdout.count("\x1epassed ") != len(tests):
            wrong.append(f"{name}: {done.stdout[-3000:]}{done.stderr}")
    assert not wrong, "\n".join(wrong)


def test_what_users_write_finds_what_it_imports(tmp_path: Path) -> None:
    """Drivers and starting code of users are compiled as they are, by the board if need be."""
    mpy.build(tmp_path)
    (tmp_path / "own_driver.py").write_text((CORE / "own_driver.py").read_text())
    program = (
        "import own_driver\nfrom motelet.gateway import Gateway\nfrom motelet.loop import READ, WRITE\n"
        "import motelet.mappers\nassert own_driver.CHANGED == motelet.mappers.CHANGED == 1\n"
        "assert READ | WRITE == 5\n"
        "Gateway.run\nmotelet.borrow('logtext')\n"
    )
    interpreter = mpy.interpreter()
    assert interpreter is not None
    done = subprocess.run(
        [*interpreter, "-X", f"heapsize={HEAP}", "-c", program],
        env=mpy.environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_no_name_of_the_firmware_gets_another(tmp_path: Path) -> None:
    """What is called a thing of the firmware's anywhere must not be renamed where core defines the same."""
    program = tmp_path / "names.py"
    program.write_text(
        "import builtins, gc, hashlib, io, json, os, random, select, socket, struct, sys, time\n"
        "import array, binascii, collections, deflate, micropython, uctypes\n"
        "def generate(): yield\n"
        "things = [value for value in vars(builtins).values()] if hasattr(builtins, 'vars') else []\n"
        "things += [getattr(builtins, name) for name in dir(builtins)]\n"
        "things += [gc, hashlib, io, json, os, select, struct, sys, time, array, binascii, collections]\n"
        "things += [micropython, uctypes, generate(), hashlib.sha256(), io.StringIO(), io.BytesIO()]\n"
        "things += [select.poll(), socket.socket(), array.array('i'), collections.deque((), 1)]\n"
        "print(*sorted(set(name for thing in things for name in dir(thing))))\n"
    )
    interpreter = mpy.interpreter()
    assert interpreter is not None
    done = subprocess.run([*interpreter, str(program)], capture_output=True, text=True, timeout=60)
    known = set(done.stdout.split())
    assert {"append", "ticks_ms", "ipoll", "readinto"} <= known, done.stderr
    trees = {inner: ast.parse(source.read_text()) for source, inner in mpy.sources(PORTS)}
    foreign = {inner for inner in trees if inner.startswith(("motelet/ports/", "motelet/aiohost"))}
    both = shorten.plan(trees, foreign).keys() & known
    assert not both


def test_the_names_to_give_are_in_the_firmware(tmp_path: Path) -> None:
    """A name that the interpreter would have to keep in RAM is no gain."""
    interpreter = mpy.interpreter()
    assert interpreter is not None
    # An identifier that MicroPython has not yet is one more after `__import__` has asked for it.
    program = tmp_path / "pool.py"
    program.write_text("import micropython\nmicropython.qstr_info(1)\n")
    before = subprocess.run([*interpreter, str(program)], capture_output=True, text=True, timeout=60).stdout
    program.write_text(
        "import micropython\nx = [" + ", ".join(map(repr, firmware.ROM)) + "]\nmicropython.qstr_info(1)\n"
    )
    after = subprocess.run([*interpreter, str(program)], capture_output=True, text=True, timeout=60).stdout
    assert "qstr pool" in before
    added = {line for line in after.splitlines() if line.startswith("Q(")} - set(before.splitlines())
    assert {line[2:-1] for line in added} <= {"x"}
