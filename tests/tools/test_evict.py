"""Constructors that run once are where they run, and do the same."""

import ast
import sys
from pathlib import Path

import pytest

from motelet.tools import evict

HOST = """
SIZE = 7
def half(n):
    return n // 2
class Inner:
    def __init__(self, size):
        self.size = size
class Once:
    def __init__(self, name, first=1):
        self.name = name
        self.inner = Inner(half(SIZE) + first)
    def told(self):
        return self.name, self.inner.size
class Often:
    def __init__(self):
        self.kept = True
"""
START = """
from pkg.host import Often, Once as One
half = "not that half"
def begin(name):
    abs = One(name, first=2)
    return abs, half, isinstance(abs, One), Often()
"""


def changed(start: str, host: str = HOST, user: str = "borrow('start')\n") -> dict[str, str]:
    texts = {"pkg/host.py": host, "pkg/start.py": start, "pkg/user.py": user}
    trees = {file: ast.parse(text) for file, text in texts.items()}
    evict.evict(trees, ["pkg/host.py"], ["Often"])
    return {file: ast.unparse(tree) for file, tree in trees.items()}


def test_a_constructor_moves_to_the_module_that_calls_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = changed(START)
    assert texts["pkg/host.py"].count("def __init__") == 1, "that of Often only"
    for file, text in texts.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    from pkg import start  # type: ignore[import-not-found]

    for name in [each for each in sys.modules if each.partition(".")[0] == "pkg"]:
        monkeypatch.delitem(sys.modules, name)
    made, half, known, often = start.begin("a name")
    assert made.told() == ("a name", 5) and half == "not that half" and known and often.kept


def test_names_of_what_moved_are_told() -> None:
    trees = {"pkg/host.py": ast.parse(HOST), "pkg/start.py": ast.parse(START), "pkg/user.py": ast.parse("")}
    made = evict.evict(trees, ["pkg/host.py"], ["Often"])
    functions = {each.name for each in trees["pkg/start.py"].body if isinstance(each, ast.FunctionDef)}
    assert made == {"pkg/start.py": dict.fromkeys(functions - {"begin"}, "__init__")} and len(functions) == 3


@pytest.mark.parametrize(
    ("start", "host", "user"),
    [
        (START, HOST, "from pkg.start import begin\n"),  # not borrowed: it stays
        (START, HOST, "from pkg.host import Once\nOnce('elsewhere')\n"),
        (START, HOST, "from pkg.host import Once\nkinds = [Once]\n"),
        (START, HOST.replace("class Once:", "class Once(dict):"), ""),
        (START, HOST + "class More(Once):\n    pass\n", ""),
        (START, HOST + "def again():\n    return Once('here')\n", ""),
        (START, HOST.replace("self.name = name", "if not name:\n            return"), ""),
    ],
)
def test_others_stay(start: str, host: str, user: str) -> None:
    assert changed(start, host, user)["pkg/host.py"] == ast.unparse(ast.parse(host))


def test_what_a_function_imports_is_its_own() -> None:
    start = START.replace("Often, Once as One", "Often").replace(
        "begin(name):", "begin(name):\n    from pkg.host import Once as One"
    )
    start += "def One(a, b):\n    return a + b\ndef other():\n    return One(1, 2)\n"
    texts = changed(start)
    assert texts["pkg/host.py"].count("def __init__") == 1
    assert "return One(1, 2)" in texts["pkg/start.py"]


def test_functions_of_the_language_stay_what_they_are() -> None:
    host = "class A:\n    def __init__(self):\n        self.b = abs(-1)\n"
    host += "class B:\n    def __init__(self):\n        self.b = all(()), any(()), bytes(2)\n"
    start = "from pkg.host import A, B\ndef begin():\n    return A(), B()\n"
    text = changed(start, host)["pkg/start.py"]
    functions = {each.name for each in ast.parse(text).body if isinstance(each, ast.FunctionDef)}
    assert len(functions) == 3 and not functions & {"abs", "all", "any", "bytes"}
    start = start.replace("def begin", "def all(x):\n    return x\ndef begin")
    assert changed(start, host)["pkg/host.py"].count("def __init__") == 1, "B would find another"


def test_a_variable_of_the_same_name_is_no_use_of_a_class() -> None:
    host = HOST + "def other(Once):\n    return Once('a parameter')\n"
    assert changed(START, host)["pkg/host.py"].count("def __init__") == 1
