"""Modules that become one: everybody finds what he imports, and two things of one name stay two."""

import ast
import sys
from types import ModuleType

import pytest

from motelet.tools import merge

LOOP = "from json import loads\nREADS = 1\ndef find(): return 'loop'\ndef own(): return find(), loads('2')\n"
BUS = (
    "from json import loads\nfrom motelet.loop import READS, find as find_it\nfrom motelet import loop\n"
    "def find(): return 'bus'\nclass Bus:\n    def all(self): return find(), find_it(), loop.find(), READS\n"
)
GATE = "from motelet import borrow\nfrom motelet.bus import Bus\n"
USER = (
    "from motelet import bus\ndef use():\n    from motelet.loop import find\n    return find(), bus.find()\n"
)


def merged(units: dict[str, list[str]], keep: tuple[str, ...] = (), **sources: str) -> dict[str, ast.Module]:
    trees = {f"motelet/{name}.py": ast.parse(text) for name, text in sources.items()}
    merge.merge(
        trees, {f"motelet/{host}.py": [f"motelet/{each}.py" for each in units[host]] for host in units}, keep
    )
    return trees


def executed(monkeypatch: pytest.MonkeyPatch, trees: dict[str, ast.Module], file: str) -> dict[str, object]:
    """Run all files as modules of a package named motelet, this one last; -> its globals."""
    package = ModuleType("motelet")
    package.borrow = None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "motelet", package)
    for each in [*(trees.keys() - {file}), file]:
        name = each.removeprefix("motelet/").removesuffix(".py")
        module = ModuleType(f"motelet.{name}")
        exec(ast.unparse(trees[each]), vars(module))
        setattr(package, name, module)
        monkeypatch.setitem(sys.modules, f"motelet.{name}", module)
    return vars(module)


def test_what_has_one_name_stays_two_things(monkeypatch: pytest.MonkeyPatch) -> None:
    trees = merged({"gate": ["bus", "loop"]}, gate=GATE, bus=BUS, loop=LOOP)
    assert trees.keys() == {"motelet/gate.py"}
    assert ast.unparse(trees["motelet/gate.py"]).count("import loads") == 1
    gate = executed(monkeypatch, trees, "motelet/gate.py")
    assert gate["Bus"]().all() == ("bus", "loop", "loop", 1)  # type: ignore[operator]
    assert gate["own"]() == ("loop", 2)  # type: ignore[operator]


def test_who_is_outside_finds_it_where_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    trees = merged({"gate": ["bus", "loop"]}, gate=GATE, bus=BUS, loop=LOOP, user=USER)
    assert executed(monkeypatch, trees, "motelet/user.py")["use"]() == ("loop", "bus")  # type: ignore[operator]


def test_a_name_to_keep_is_still_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    trees = merged({"gate": ["bus", "loop"]}, ("READS",), gate=GATE, bus=BUS, loop=LOOP)
    assert ast.unparse(trees["motelet/loop.py"]) == "from motelet.gate import READS"


def test_a_call_of_what_is_borrowed_is_a_plain_one_within_a_unit_and_goes_to_the_host_from_outside() -> None:
    sources = {
        "spec": "from motelet import borrow\ndef put(): return borrow('load').load(1)\n",
        "load": "def load(n): return n\n",
        "user": "from motelet import borrow\ndef use(): return borrow('load').load\n",
    }
    trees = merged({"spec": ["load"]}, **sources)
    assert "return load(1)" in ast.unparse(trees["motelet/spec.py"])
    assert "borrow('spec').load" in ast.unparse(trees["motelet/user.py"])
    with pytest.raises(ValueError, match="kept for more than a call"):
        merged({"spec": ["load"]}, **{**sources, "spec": "from motelet import borrow\nx = borrow('load')\n"})


def test_a_local_that_would_hide_what_moves_is_told() -> None:
    bus = BUS + "def hide(find): return find\n"
    with pytest.raises(ValueError, match=r"motelet/bus.py: find is a local"):
        merged({"loop": ["bus"]}, bus=bus, loop=LOOP)


def test_the_names_used_most_come_first_in_a_large_module() -> None:
    uses = "\n".join(f"    self.name{n}" for n in range(200)) + "\n    self.often" * 3
    trees = merged({"gate": ["big"]}, gate="", big=f"def use(self):\n{uses}\n")
    first, gone, use = trees["motelet/gate.py"].body
    assert ast.unparse(first).startswith("def any(self):\n    self.often.") and ast.unparse(gone) == "del any"
    assert isinstance(use, ast.FunctionDef)


def test_a_package_of_which_only_its_modules_are_left_is_dissolved() -> None:
    trees = {
        "motelet/twin/__init__.py": ast.parse(""),
        "motelet/twin/spec.py": ast.parse("from motelet.twin.other import x\n"),
        "motelet/twin/other.py": ast.parse("x = 1\n"),
        "motelet/full/__init__.py": ast.parse("y = 1\n"),
        "motelet/user.py": ast.parse("borrow('twin.spec')\nfrom motelet.twin import other\n"),
    }
    merge.dissolve(trees)
    assert trees.keys() == {
        "motelet/spec.py",
        "motelet/other.py",
        "motelet/full/__init__.py",
        "motelet/user.py",
    }
    assert ast.unparse(trees["motelet/user.py"]) == "borrow('spec')\nfrom motelet import other"
    assert ast.unparse(trees["motelet/spec.py"]) == "from motelet.other import x"
