"""Short names for private ones: nothing else changes, and the code means the same."""

import subprocess
from pathlib import Path

import pytest

from motelet.tools import mpy, shorten

ONE = '''
class Counter:
    """Has a _total of its own."""

    def __init__(self, _start):
        self._total = _start
        self._step_size = 2

    def _advance(self):
        self._total += self._step_size

    def __call__(self):
        self._advance()
        return self._total, "_total"
'''
TWO = "class Other:\n    def __init__(self):\n        self._separate = self._b = 1\n"


def test_names_of_one_file_differ_and_files_share_short_ones() -> None:
    short = shorten.plan({"one": ONE, "two": TWO})
    assert set(short) == {"_total", "_step_size", "_advance", "_separate", "_b"}
    assert len({short["_total"], short["_step_size"], short["_advance"]}) == 3
    assert short["_separate"] in {short["_total"], short["_step_size"], short["_advance"]}
    assert "_b" not in short.values(), "a word that is used already would become two things"


def test_the_code_does_the_same_and_strings_and_dunders_stay() -> None:
    renamed = shorten.rename(ONE, shorten.plan({"one": ONE}))
    assert "_advance" not in renamed and "Has a _total of" in renamed and "__init__" in renamed
    assert len(renamed.splitlines()) == len(ONE.splitlines())
    results = []
    for source in (ONE, renamed):
        namespace: dict[str, type] = {}
        exec(source, namespace)
        counter = namespace["Counter"](5)
        counter()
        results.append(counter())
    assert results == [(9, "_total")] * 2


def test_an_attribute_that_two_files_share_stays_one() -> None:
    reader = "def read(counter):\n    return counter._total\n"
    short = shorten.plan({"one": ONE, "two": reader})
    assert short["_total"] in shorten.rename(reader, short)


def test_what_a_file_adds_to_the_objects_of_another_is_kept_apart_from_what_they_have() -> None:
    helper = "import one\ndef add(counter):\n    counter._total = counter._extra = counter._more = 0\n"
    short = shorten.plan({"one": ONE, "two": helper})
    assert len(set(short.values())) == len(short) == 5


def test_a_board_build_is_shorter_and_a_changed_name_is_changed_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    files = {tree / "one.py": "motelet/one.py", tree / "two.py": "motelet/two.py"}
    (tree / "one.py").write_text("class A:\n    def _long_private_name(self):\n        return 1\n")
    (tree / "two.py").write_text("def use(a):\n    return a._long_private_name()\n")
    monkeypatch.setattr(mpy, "sources", lambda ports: iter(files.items()))
    out = tmp_path / "out"
    assert mpy.build(out) == 2
    assert mpy.build(out) == 0
    assert b"_long_private_name" not in (out / "motelet/one.mpy").read_bytes()
    # "_a" is taken now, so both files have to be compiled anew although only one was touched.
    (tree / "one.py").write_text((tree / "one.py").read_text() + "_a = 1\n")
    assert mpy.build(out) == 2


@pytest.mark.slow
def test_core_works_with_short_names(tmp_path: Path) -> None:
    """The demo and the integration tests run such a build whole; here it is imported, all of it."""
    interpreter = mpy.interpreter()
    if interpreter is None:
        pytest.skip("no MicroPython here")
    mpy.build(tmp_path)
    names = [inner[:-3].replace("/", ".").removesuffix(".__init__") for _, inner in mpy.sources(())]
    program = "\n".join(f"import {name}" for name in sorted(names))
    done = subprocess.run(
        [*interpreter, "-X", "heapsize=1M", "-c", program],
        env=mpy.environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
