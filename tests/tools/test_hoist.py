"""Texts that are seldom wanted are not in RAM, and say the same."""

import ast

import pytest

from motelet.tools import hoist

BORROWED = (
    "def check(config, key='missing'):\n    return key, config['baudRate'], 'a long text stays', 'append'\n"
)


def test_short_texts_of_borrowed_modules_are_cut_from_one() -> None:
    user = "from motelet import kept\nborrow('load')\nx = 'missing'\n"
    trees = {
        name: ast.parse(text) for name, text in {"motelet/load.py": BORROWED, "motelet/user.py": user}.items()
    }
    trees["motelet/kept.py"] = ast.parse(BORROWED)
    hoist.hoist(trees, {"motelet/user.py"}, ["motelet/kept.py"])
    assert ast.unparse(trees["motelet/kept.py"]) == ast.unparse(ast.parse(BORROWED))
    assert ast.unparse(trees["motelet/load.py"]) == ast.unparse(ast.parse(BORROWED)), "all are kept anyway"
    trees["motelet/kept.py"] = ast.parse("x = 'missing'")
    hoist.hoist(trees, {"motelet/user.py"}, ["motelet/kept.py"])
    text = ast.unparse(trees["motelet/load.py"])
    assert text.startswith("abs, = 'baudRate\\n\\n"), "it must be too long to be a name itself"
    assert text.partition("\n")[0].endswith(".split('\\n')[:1]")
    trees["motelet/load.py"] = ast.parse(BORROWED.replace("append", "dataBits"))
    hoist.hoist(trees, {"motelet/user.py"}, ["motelet/kept.py"])
    text = ast.unparse(trees["motelet/load.py"])
    assert text.startswith("abs, all = 'dataBits\\nbaudRate'.split('\\n')")
    namespace: dict[str, object] = {}
    exec(text, namespace)
    assert namespace["check"]({"baudRate": 7}) == ("missing", 7, "a long text stays", "dataBits")  # type: ignore[operator]


def test_texts_of_errors_are_borrowed_when_there_is_one() -> None:
    source = "def fail(n, text='by default it is'):\n"
    source += "    raise ValueError('more than %d\\x21 of them' % n, 'short one', text)\n"
    trees = {"motelet/host.py": ast.parse(source)}
    hoist.lend(trees, "motelet/host.py")
    assert ast.unparse(trees["motelet/text.py"]) == "text = 'more than %d! of them\\nshort one'"
    assert "more than" not in ast.unparse(trees["motelet/host.py"])
    texts: dict[str, object] = {}
    exec(ast.unparse(trees["motelet/text.py"]), texts)
    namespace: dict[str, object] = {"borrow": {"text": type("text", (), texts)}.get}
    exec(ast.unparse(trees["motelet/host.py"]), namespace)
    with pytest.raises(ValueError) as raised:
        namespace["fail"](3)  # type: ignore[operator]
    assert raised.value.args == ("more than 3! of them", "short one", "by default it is")
