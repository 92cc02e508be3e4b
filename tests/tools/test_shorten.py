"""Short names: the code means the same, and no two names of one object become one."""

import ast
import io
import json
from pathlib import Path

import pytest

from motelet.tools import cli, firmware, mpy, shorten

COUNTER = """
class Counter:
    def __init__(self, first):
        self.total_count = first
        self._step_size = 2

    def advance(self):
        self.total_count += self._step_size

    def __call__(self):
        self.advance()
        return self.total_count, "a text"
"""


def planned(**sources: str) -> tuple[dict[str, str], dict[str, str]]:
    """The plan, and the sources renamed."""
    trees = {f"{name}.py": ast.parse(text) for name, text in sources.items()}
    short = shorten.plan(trees)
    for tree in trees.values():
        shorten.rename(tree, short)
    return short, {file[:-3]: ast.unparse(tree) for file, tree in trees.items()}


def test_the_code_does_the_same_with_names_that_firmware_has() -> None:
    short, renamed = planned(one=COUNTER)
    assert set(short) == {"Counter", "first", "total_count", "_step_size", "advance"}
    assert set(short.values()) <= set(firmware.ROM)
    results = []
    for source, name in ((COUNTER, "Counter"), (renamed["one"], short["Counter"])):
        namespace: dict[str, type] = {}
        exec(source, namespace)
        counter = namespace[name](5)
        counter()
        results.append(counter())
    assert results == [(9, "a text")] * 2


def test_names_of_one_file_differ_and_files_share_short_ones() -> None:
    other = "class Other:\n    def __init__(self):\n        self.separate = self.abs = 1\n"
    short, _ = planned(one=COUNTER, two=other)
    assert len(set(short.values())) < len(short)
    one = [short[name] for name in ("Counter", "first", "total_count", "_step_size", "advance")]
    assert len(set(one)) == 5
    assert "abs" not in short.values(), "a name that is used already would become two things"


def test_a_name_is_the_same_in_all_files() -> None:
    _, renamed = planned(one=COUNTER, two="def reading(counter):\n    return counter.total_count\n")
    namespace: dict[str, object] = {}
    exec(renamed["one"] + "\n" + renamed["two"], namespace)
    short, _ = planned(one=COUNTER, two="def reading(counter):\n    return counter.total_count\n")
    made = namespace[short["Counter"]](7)  # type: ignore[operator]
    assert namespace[short["reading"]](made) == 7  # type: ignore[operator]


def test_attributes_of_one_object_differ_wherever_they_are_set() -> None:
    base = "class Base:\n    def __init__(self):\n        self.one_thing = 1\n"
    derived = "class Derived(base.Base):\n    def other_thing(self):\n        return 2\n"
    helper = "def dress(thing):\n    thing.third_thing = 3\n"
    short, _ = planned(base=base, derived="import base\n" + derived, helper=helper)
    assert len({short["one_thing"], short["other_thing"], short["third_thing"]}) == 3


def test_a_function_that_a_class_finds_in_a_module_is_none_of_its_attributes() -> None:
    one = "class A:\n    def __getattr__(self, name): return getattr(two, name)\n"
    one += "    def own_thing(self): pass\n"
    two = "def their_thing(thing): pass\n"
    three = "A().their_thing()\n"
    short, _ = planned(one=one, two=two, three=three)
    assert short["own_thing"] != short["their_thing"]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("class A:\n    def from_a_string(self): pass\nx = getattr(A(), 'from_a_string')", "from_a_string"),
        ("class A:\n    def hexdigest(self): pass", "hexdigest"),
        ("import thing\nclass A:\n    def theirs(self): thing.theirs()", "theirs"),
        ("class A:\n    def __len__(self): return 1", "__len__"),
        ("class Gateway: pass", "Gateway"),
        ("import package.module\nmodule = 1", "module"),
        ("from package import module\nmodule._theirs = module.IOQueue", "_theirs"),
    ],
)
def test_names_that_somebody_else_means_stay(source: str, name: str) -> None:
    short, _ = planned(one=source)
    assert name not in short


def test_a_file_that_speaks_with_others_stays_with_the_names_it_offers() -> None:
    port = "class Port:\n    def offered(self): return self._own\n    _own = 1\n"
    user = "class User:\n    offered = 1\n    _own = 2\n"
    short = shorten.plan({"port.py": ast.parse(port), "user.py": ast.parse(user)}, {"port.py"})
    assert set(short) == {"User", "_own"}


@pytest.mark.parametrize(
    "trace",
    [
        'Traceback:\n  File "one", line 1, in %s\n  File "two", line 1, in %s\nKeyError: %s\n',
        r'error x trace="File \"one\", line 1, in %s\x0a  File \"two\", line 1, in %s\x0aKeyError: %s\x0a"',
    ],
)
def test_a_traceback_can_be_read_back(
    trace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trees = {"one": ast.parse(COUNTER)}
    short = shorten.plan(trees)
    (tmp_path / "names.json").write_text(
        json.dumps({file: shorten.functions(tree, short) for file, tree in trees.items()})
    )
    other = short["advance"]
    monkeypatch.setattr("sys.stdin", io.StringIO(trace % (other, other, other)))
    assert cli.main(["names", str(tmp_path / "names.json")]) == 0
    assert capsys.readouterr().out == trace % ("advance", other, other)


def test_a_build_compiles_what_changed_and_whatever_that_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    files = {tree / "one.py": "motelet/one.py", tree / "two.py": "motelet/two.py"}
    (tree / "one.py").write_text("LIMIT = 3\nclass A:\n    def a_long_name(self):\n        return LIMIT\n")
    (tree / "two.py").write_text(
        "from motelet.one import LIMIT\ndef use(thing):\n    return thing.a_long_name(LIMIT)\n"
    )
    monkeypatch.setattr(mpy, "sources", lambda ports: iter(files.items()))
    out = tmp_path / "out"
    assert mpy.build(out) == 2
    assert mpy.build(out) == 0
    assert b"a_long_name" not in (out / "motelet/one.mpy").read_bytes()
    (tree / "one.py").write_text((tree / "one.py").read_text().replace("3", "4"))
    assert mpy.build(out) == 2
    del files[tree / "two.py"]
    mpy.build(out)
    assert not (out / "motelet/two.mpy").exists()
