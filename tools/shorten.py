"""Give private names short ones before a board gets the code.

MicroPython keeps every name that its firmware does not have in RAM, about 20 bytes each, once for all
modules. A private name (`_like_this`) is used in one file, so names of different files may share a
short one: what were three hundred names become some sixty. Public names, which users meet in the REPL,
and names of firmware protocols stay.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Mapping
from itertools import count

_PRIVATE = re.compile(r"_[A-Za-z]\w*")


def private_names(source: str) -> set[str]:
    """The private names of attributes, functions and classes in `source`.

    Names that `const()` folds away are none: they cost nothing. Raises SyntaxError.
    """
    tree = ast.parse(source)
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
    return {name for name in found if _PRIVATE.fullmatch(name)}


def _kin(sources: Mapping[str, str], private: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """For each file those that have to do with its objects: one of the two names the other as a module."""
    foreign = {file: foreign_names(text) for file, text in sources.items()}
    words = {file: set(re.findall(r"\w+", text)) for file, text in sources.items()}
    kin: dict[str, set[str]] = {file: set() for file in sources}
    for file, names in foreign.items():
        for other in sources:
            if names & private[other] and (_module(other) in words[file] or _module(file) in words[other]):
                kin[file].add(other)
                kin[other].add(file)
    # Two files that work on the objects of a third may do so with the same ones.
    return {file: near.union(*(kin[each] for each in near)) for file, near in kin.items()}


def _module(file: str) -> str:
    return file.rpartition("/")[2].partition(".")[0]


def foreign_names(source: str) -> set[str]:
    """The private attributes of objects that are not `self`: of another file's classes, perhaps."""
    return {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and _PRIVATE.fullmatch(node.attr)
        and not (isinstance(node.value, ast.Name) and node.value.id == "self")
    }


def plan(sources: Mapping[str, str]) -> dict[str, str]:
    """A short name for each private name of `sources` (file name to text).

    Two names that occur in one file get different ones, and a name gets the same one everywhere, so an
    attribute that two files share stays one. So do two names of which one occurs in a file and the other
    in a file that works on its objects. No short name is a word that any of the files uses.
    """
    private = {file: private_names(text) for file, text in sources.items()}
    files_of: dict[str, list[str]] = {}
    for file, names in private.items():
        for name in names:
            files_of.setdefault(name, []).append(file)
    words = {word for text in sources.values() for word in re.findall(r"\w+", text)}
    taken: dict[str, set[str]] = {file: set() for file in sources}
    kin = _kin(sources, private)
    short: dict[str, str] = {}
    # What is shared by the most files is placed first, while there is most freedom.
    for name in sorted(files_of, key=lambda each: (-len(files_of[each]), each)):
        candidates = (f"_{_letters(number)}" for number in count())
        files = files_of[name]
        around = set(files).union(*(kin[file] for file in files))
        choice = next(
            each for each in candidates if each not in words and all(each not in taken[f] for f in around)
        )
        short[name] = choice
        for file in files:
            taken[file].add(choice)
    return short


def rename(source: str, short: Mapping[str, str]) -> str:
    """`source` with the names of `short` replaced; strings, comments and line numbers stay as they are."""
    lines = source.splitlines(keepends=True)
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(source).readline)]
    for token in reversed(tokens):
        if token.type == tokenize.NAME and token.string in short:
            row, start = token.start
            line = lines[row - 1]
            lines[row - 1] = line[:start] + short[token.string] + line[start + len(token.string) :]
    return "".join(lines)


def _letters(number: int) -> str:
    """a, b .. z, aa, ab ..."""
    text = ""
    while True:
        number, digit = divmod(number, 26)
        text = chr(97 + digit) + text
        if not number:
            return text
        number -= 1
