"""Numbers stand where their names were used, and nothing is left that only served the names."""

import ast

import pytest

from motelet.tools import fold

LOOP = (
    "from micropython import const\nREAD = const(1)\n_SHIFT = const(3)\nBOTH = const(READ | 4)\nlimit = 7\n"
)


def folded(**sources: str) -> dict[str, str]:
    trees = {f"motelet/{name}.py": ast.parse(text) for name, text in sources.items()}
    fold.fold(trees)
    return {file[8:-3]: ast.unparse(tree) for file, tree in trees.items()}


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("from motelet.loop import READ\nx = READ", "x = 1"),
        (
            "from motelet.loop import READ as R, limit\nx = R + limit",
            "from motelet.loop import limit\nx = 1 + limit",
        ),
        ("from motelet import loop\nx = loop.BOTH", "x = 5"),
        ("import motelet.loop\nx = motelet.loop.BOTH", "import motelet.loop\nx = 5"),
        ("from motelet import borrow\nx = borrow('loop').READ", "x = 1"),
        ("def f():\n    from motelet.loop import READ\n    return READ", "def f():\n    return 1"),
        ("from motelet.loop import BOTH\n_MINE = BOTH\nx = _MINE", "_MINE = 5\nx = _MINE"),
    ],
)
def test_a_number_takes_the_place_of_its_name(source: str, result: str) -> None:
    assert folded(loop=LOOP, one=source, other="from motelet.loop import limit\nlimit")["one"] == result


def test_what_nobody_needs_then_is_gone() -> None:
    assert folded(loop=LOOP)["loop"] == "limit = 7"


def test_what_is_set_twice_or_no_whole_number_stays() -> None:
    source = "A = 1\nA = 2\nB = 1.5\nC = (1, 2)\nD = True\nE = 3\n\ndef f():\n    global E\n    E = 4"
    assert folded(one=source)["one"] == source


def test_a_docstring_goes_and_its_class_stays() -> None:
    assert folded(one='"""Module."""\nclass A(ValueError):\n    """Why."""\n')["one"] == (
        "pass\n\nclass A(ValueError):\n    del __module__, __qualname__\n    pass"
    )


def test_what_is_for_another_interpreter_is_gone() -> None:
    source = "import sys\nif sys.implementation.name != 'micropython':\n    x = 1\nelse:\n    x = 2\n"
    assert folded(one=source)["one"] == "import sys\nx = 2"


def test_an_import_that_somebody_has_from_here_stays() -> None:
    users = {
        "a": "from json import loads, dumps\nfrom motelet.loop import limit",
        "b": "from motelet.a import loads\nloads",
    }
    result = folded(loop=LOOP, **users)
    assert result["a"] == "from json import loads"


def test_a_use_that_is_not_followed_is_told() -> None:
    with pytest.raises(ValueError, match=r"motelet/one.py: the constant READ"):
        folded(loop=LOOP, one="import sys\nsys.modules['motelet.loop'].READ")
