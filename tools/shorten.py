"""Give names short ones before a board gets the code, most of them names that its firmware has anyway.

MicroPython keeps every name that its firmware lacks in RAM, some 20 bytes each and for good, also those of
modules that were borrowed once. So what core defines gets names of a list that every firmware has in ROM, and
one short name stands for many: names get different ones only where they could meet. They could meet

- in one file, or as functions or globals of files that become one (`merge`), so that a traceback can be read
  back (`translate`);
- as attributes of one object: of a class with its bases, whichever files they are in. An attribute that is
  set on something else than `self`, or that no class has, could be of any, so it meets all attributes.

What stays: names that a string spells, for they are interned with it; what firmware or a port could mean
by a name (`firmware`, `foreign`); names of modules; and KEEP, which people and applications type.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Mapping
from itertools import count, product
from keyword import iskeyword
from string import ascii_lowercase

from motelet.tools.firmware import MEANINGFUL, ROM

# What people type, and what a user's own driver has and uses (core/motelet/mappers/__init__.py).
_PEOPLE = "Gateway run stop borrow"
_DRIVERS = """
bus driver attach begin step wait value close seldom encode held reason task
SAME CHANGED REFUSED SILENT DOWN READ WRITE watch unwatch wake sleep clock
config properties raw device spec flags type name visitor limits collect_ms report_ms desired
"""
KEEP = frozenset(f"{_PEOPLE} {_DRIVERS}".split())


class _Names:
    """What the names of one file are there for."""

    def __init__(self, tree: ast.Module) -> None:
        self.all: set[str] = set()  # every identifier
        self.defined: set[str] = set()  # what the file gives its name
        self.set_elsewhere: set[str] = set()  # attributes set on something else than self
        self.attributes: set[str] = set()
        self.classes: dict[str, tuple[set[str], set[str]]] = {}  # class: its attributes, its bases
        self.functions: set[str] = set()
        self.globals: set[str] = set()
        self.kept: set[str] = set()  # words of strings, modules
        self.imported: set[str] = set()
        self.arguments: set[str] = set()  # of functions
        self.keywords: set[str] = set()  # arguments that a call names
        self._modules: set[str] = set()  # names of modules that are none of ours
        for node in ast.walk(tree):
            self._see(node)
        for statement in tree.body:
            self._see_global(statement)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id in self._modules:
                    self.kept.add(node.attr)

    def offered(self) -> set[str]:
        """The names that other files could use or must offer: all but the file's own private ones."""
        return {name for name in self.all if not (name.startswith("_") and name in self.defined)}

    def met(self, keywords: set[str]) -> set[str]:
        """Of those the ones that other files can come upon, which call arguments by the name `keywords`."""
        shown = self.attributes | self.functions | self.classes.keys() | self.globals | self.imported
        return self.offered() & (shown | self.keywords | self.arguments & keywords)

    def _see(self, node: ast.AST) -> None:
        match node:
            case ast.Name(id=name):
                self.all.add(name)
            case ast.Attribute(attr=name):
                self.all.add(name)
                self.attributes.add(name)
                if isinstance(node.ctx, ast.Store):
                    self.defined.add(name)
                    if not _of_self(node):
                        self.set_elsewhere.add(name)
            case ast.FunctionDef(name=name):
                self.functions.add(name)
                self.arguments |= _arguments(node)
                self.defined |= {name} | _arguments(node)
                self.all |= {name} | _arguments(node)
            case ast.ClassDef(name=name):
                self.defined.add(name)
                self.all.add(name)
                self._see_class(node)
            case ast.keyword(arg=str(name)):
                self.all.add(name)
                self.keywords.add(name)
            case ast.ExceptHandler(name=str(name)):
                self.all.add(name)
            case ast.ImportFrom(module=module, names=aliases):
                self.kept |= set((module or "").split("."))
                self.imported |= {each for alias in aliases for each in (alias.name, alias.asname) if each}
                self.all |= self.imported
                if (module or "").split(".")[0] != "motelet":  # what others have may be a module of theirs
                    self._modules |= self.imported
            case ast.Import(names=aliases):
                self.kept |= {part for alias in aliases for part in (alias.asname or alias.name).split(".")}
                self._modules |= {alias.asname or alias.name for alias in aliases}
            case ast.Constant(value=str(text)):
                self.kept |= {text, *text.split("."), *text.split("/")}

    def _see_global(self, node: ast.stmt) -> None:
        match node:
            case ast.Assign(targets=targets):
                assigned = {each.id for each in targets if isinstance(each, ast.Name)}
                self.defined |= assigned
                self.globals |= assigned
            case ast.ClassDef(name=name):
                self.globals.add(name)
            case ast.ImportFrom(names=aliases):
                self.globals |= {alias.asname or alias.name for alias in aliases}

    def _see_class(self, node: ast.ClassDef) -> None:
        own, bases = self.classes.setdefault(node.name, (set(), set()))
        bases |= {base.attr if isinstance(base, ast.Attribute) else ast.unparse(base) for base in node.bases}
        for statement in node.body:
            if isinstance(statement, ast.FunctionDef):
                own.add(statement.name)
            elif isinstance(statement, ast.Assign):
                own |= {each.id for each in statement.targets if isinstance(each, ast.Name)}
        own |= {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute) and _of_self(each)}
        self.defined |= own
        self.attributes |= own


def _of_self(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "self"


def _arguments(node: ast.FunctionDef) -> set[str]:
    every = [
        *node.args.posonlyargs,
        *node.args.args,
        *node.args.kwonlyargs,
        node.args.vararg,
        node.args.kwarg,
    ]
    return {each.arg for each in every if each}


def plan(
    trees: Mapping[str, ast.Module],
    foreign: Collection[str] = (),
    entries: Collection[str] = (),
    units: Collection[Collection[str]] = (),
) -> dict[str, str]:
    """-> a short name for each name of `trees` (file name to syntax tree) that gets another.

    `foreign` are the files that speak with other code than core, a port's with its platform's: each name
    in them stays, everywhere, but for their own private ones (`private`). `entries` are the files whose
    functions something else starts by name. The files of each of `units` will become one.
    """
    files = {file: _Names(tree) for file, tree in trees.items()}
    keywords = set().union(*(each.keywords for each in files.values()))
    stay = KEEP.union(
        *(each.kept for each in files.values()), *(files[file].met(keywords) for file in foreign)
    )
    stay |= {part for file in trees for part in re.split(r"[/.]", file)}
    starts = {each.name for file in entries for each in trees[file].body if isinstance(each, ast.FunctionDef)}
    stay |= {name for name in starts if not name.startswith("_")}
    names = set().union(*(each.defined for each in files.values())) - stay - MEANINGFUL
    names = {name for name in names if not name.startswith("__")}
    together = [
        set().union(*(files[file].functions | files[file].globals for file in unit)) for unit in units
    ]
    meets = _meetings(files.values(), names, together)
    in_use = stay.union(*(each.all for each in files.values())) - names
    in_use |= set().union(*(files[file].all for file in foreign))
    files_of: dict[str, int] = {name: sum(name in each.all for each in files.values()) for name in names}
    short: dict[str, str] = {}
    # What meets the most is placed first, while there is most freedom.
    for name in sorted(names, key=lambda each: (-files_of[each], -len(meets[each]), each)):
        taken = {short[other] for other in meets[name] if other in short}
        short[name] = next(each for each in _candidates() if each not in in_use and each not in taken)
    return short


def _meetings(
    files: Collection[_Names], names: set[str], together: Collection[set[str]]
) -> dict[str, set[str]]:
    """Each name with those that it must differ from."""
    attributes = set().union(*(each.attributes for each in files)) & names
    families = list(_classes(files))
    anywhere = set().union(*(each.set_elsewhere for each in files)) & names
    # Functions of modules; and all that a class has that looks for others who knows where.
    anywhere |= attributes.difference(*families)
    for each in files:
        for own, _ in each.classes.values():
            anywhere |= own & names if "__getattr__" in own else set()
    groups = [each.all & names for each in files] + [each & names for each in (*families, *together)]
    meets: dict[str, set[str]] = {name: set() for name in names}
    for group in groups:
        for name in group:
            meets[name] |= group
    for name in anywhere:
        meets[name] |= attributes
        for other in attributes:
            meets[other].add(name)
    for name in names:
        meets[name].discard(name)
    return meets


def _classes(files: Collection[_Names]) -> Iterator[set[str]]:
    """The attributes of each class with those of its bases; classes of one name are taken for one."""
    own: dict[str, set[str]] = {}
    bases: dict[str, set[str]] = {}
    for each in files:
        for name, (attributes, above) in each.classes.items():
            own.setdefault(name, set()).update(attributes)
            bases.setdefault(name, set()).update(above)
    for name in own:
        family, left = set(), [name]
        while left:
            one = left.pop()
            if one not in family:
                family.add(one)
                left += bases.get(one, ())
        yield set().union(*(own.get(each, set()) for each in family))


def _candidates() -> Iterator[str]:
    """Short names, those that cost nothing first."""
    yield from ROM
    for size in count(1):
        yield from (
            each for each in map("".join, product(ascii_lowercase, repeat=size)) if not iskeyword(each)
        )


class _Rename(ast.NodeTransformer):
    def __init__(self, short: Mapping[str, str]) -> None:
        self._short = short

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for field in ("id", "attr", "arg", "name", "asname"):
            old = getattr(node, field, None)
            if isinstance(old, str):
                setattr(node, field, self._short.get(old, old))
        if isinstance(node, ast.Global | ast.Nonlocal):
            node.names = [self._short.get(name, name) for name in node.names]
        return node


def private(tree: ast.Module, short: Mapping[str, str]) -> dict[str, str]:
    """Of `short` what is good for a foreign file: the names that are private and its own."""
    names = _Names(tree)
    return {name: short[name] for name in names.defined & short.keys() if name not in names.offered()}


def rename(tree: ast.Module, short: Mapping[str, str]) -> None:
    """Replace names in place; strings stay as they are."""
    _Rename(short).visit(tree)


def functions(tree: ast.Module, short: Mapping[str, str]) -> dict[str, str]:
    """The functions of a file not yet renamed, by the names that they will have."""
    return {short.get(name, name): name for name in sorted(_Names(tree).functions)}


def translate(trace: str, names: Mapping[str, Mapping[str, str]]) -> str:
    """A board's traceback with the names of the source; `names` is the table of its build."""

    def line(found: re.Match[str]) -> str:
        start, file, middle, name = found.groups()
        return f"{start}{file}{middle}{names.get(file, {}).get(name, name)}"

    # In a log line the quotes are escaped, and so are the ends of lines.
    return re.sub(r'(File \\?")([^"\\]+)(\\?", line \d+, in )(\w+)', line, trace)
