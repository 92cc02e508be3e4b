"""Keep texts that are seldom wanted out of RAM, before a board gets the code.

The compiler makes a name of each text of up to ten characters, and MicroPython keeps names for good, also
those of a module that was borrowed once. Texts that are cut from a longer one when the module is loaded go
with the module (`hoist`). A longer text costs a module that stays 32 bytes and its length: what an error
says is borrowed when there is one (`lend`).
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping

from motelet.tools.firmware import ROM
from motelet.tools.fold import module_name

_NAME_SIZE_MAX = 10  # characters: MICROPY_ALLOC_PARSE_INTERN_STRING_LEN of MicroPython's py/mpconfig.h
_SAID_SIZE_MIN = 5  # characters of a text that is worth a call
_SEPARATORS = "\n*/ "  # names that every MicroPython has


def hoist(trees: Mapping[str, ast.Module], stay: Collection[str], always: Collection[str] = ()) -> None:
    """Change in place the modules of `trees` (file name to syntax tree) that are only borrowed.

    Those are the ones that something borrows or that no import statement names; none of the files `stay` is.
    A text stays that is a name anyway: in its file, or in those of `always`, which every board keeps.
    """
    names = set(ROM)
    for file in always:
        names |= {*identifiers(trees[file]), *_texts(trees[file])}
    for file in borrowed(trees) - set(stay):
        _hoist(trees[file], names.union(identifiers(trees[file]), module_name(file).split(".")))


def borrowed(trees: Mapping[str, ast.Module]) -> set[str]:
    """The files that something borrows, or that no import statement names."""
    imported = {module for tree in trees.values() for module in _imports(tree)}
    imported -= {module for tree in trees.values() for module in _borrows(tree)}
    return {file for file in trees if module_name(file) not in imported}


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _borrows(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="borrow"), args=[ast.Constant(value=str(name))]):
                yield f"motelet.{name}"


def identifiers(tree: ast.AST) -> Iterator[str]:
    """Every name in `tree`."""
    for node in ast.walk(tree):
        for field in ("id", "attr", "arg", "name"):
            if isinstance(name := getattr(node, field, None), str):
                yield name


def _texts(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _hoist(tree: ast.Module, names: Collection[str]) -> None:
    short = dict.fromkeys(text for text in _texts(tree) if 0 < len(text) <= _NAME_SIZE_MAX)
    texts = [text for text in short if text not in names and text.isascii()]
    separator = next((each for each in _SEPARATORS if not any(each in text for text in texts)), "")
    if not separator or not texts:
        return
    taken = set(identifiers(tree))
    free = (name for name in (*ROM, *(f"t{number}" for number in range(len(texts)))) if name not in taken)
    given = {text: next(free) for text in texts}
    _Replace(given).visit(tree)
    together = separator.join(texts)
    cut: ast.expr = ast.Call(
        ast.Attribute(ast.Constant(together), "split", ast.Load()), [ast.Constant(separator)], []
    )
    if len(together) <= _NAME_SIZE_MAX:  # it would be a name itself
        together += separator * _NAME_SIZE_MAX
        cut = ast.parse(f"{together!r}.split({separator!r})[:{len(texts)}]", mode="eval").body
    targets = ast.Tuple([ast.Name(name, ast.Store()) for name in given.values()], ast.Store())
    tree.body.insert(0, ast.Assign([targets], cut))
    ast.fix_missing_locations(tree)


class _Replace(ast.NodeTransformer):
    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if isinstance(node.value, str) and node.value in self._names:
            return ast.Name(self._names[node.value], ast.Load())
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.expr:
        return node  # its parts are no texts of their own


def lend(trees: dict[str, ast.Module], host: str, others: Collection[str] = ()) -> None:
    """Have the functions of the module `host`, and of `others`, borrow what they say: texts of several words.

    `host` is a module that has `borrow`; the texts become a module of their own beside it, `text`.
    """
    taken = {name for file in (host, *others) for name in identifiers(trees[file])}
    lender = _Lend(next(name for name in ROM if name not in taken))
    for file in (host, *others):
        count = len(lender.texts)
        for node in ast.walk(trees[file]):
            if isinstance(node, ast.FunctionDef):
                lender.visit(node)
        if file != host and len(lender.texts) > count:
            trees[file].body.insert(0, ast.ImportFrom(module_name(host), [ast.alias(lender.function)], 0))
    if lender.texts:
        said = f"def {lender.function}(n):\n    return borrow('text').text.split('\\n')[n]"
        trees[host].body += ast.parse(said).body
        together = "\n".join(lender.texts)
        folder = host.rpartition("/")[0]
        trees[f"{folder}/text.py"] = ast.parse(f"text = {together!r}")


class _Lend(ast.NodeTransformer):
    def __init__(self, function: str) -> None:
        self.function = function
        self.texts: list[str] = []

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.expr:
        return node  # its parts are no texts of their own

    def visit_arguments(self, node: ast.arguments) -> ast.arguments:
        return node  # defaults are made once, when the module is loaded

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        text = node.value
        if not isinstance(text, str) or " " not in text or len(text) < _SAID_SIZE_MIN or "\n" in text:
            return node
        if text not in self.texts:
            self.texts.append(text)
        call = ast.Call(ast.Name(self.function, ast.Load()), [ast.Constant(self.texts.index(text))], [])
        return ast.copy_location(ast.fix_missing_locations(call), node)
