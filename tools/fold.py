"""Put the constants of core where their names are used, before a board gets the code.

mpy-cross folds `const()` within a file. A constant that several modules share keeps its name there: one
entry in a table of the module that has it, one in a table of each that imports it, and a search at each
use. Here the value stands at each use, and the imports and assignments that nobody needs then are gone.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath

Constants = Mapping[str, int | str]


def module_name(inner: str) -> str:
    """The import name of "motelet/cbor.py" or "motelet/mappers/__init__.py"."""
    return ".".join(PurePosixPath(inner).with_suffix("").parts).removesuffix(".__init__")


def fold(trees: Mapping[str, ast.Module], keep: Collection[str] = ()) -> None:
    """Fold in place the modules `trees` (file name to syntax tree), all that will run together.

    Folded are names in capitals that a module sets to a whole number or a text once; the definitions of
    those of `keep` stay. Raises ValueError for a name that a module is still asked for in a way that this
    does not follow.
    """
    constants = {module_name(file): _constants(tree) for file, tree in trees.items()}
    for file, tree in trees.items():
        _Fold(module_name(file), tree, constants, keep).visit(tree)
    _check(trees, {name for each in constants.values() for name in each} - set(keep))
    _drop_unused_imports(trees)
    for tree in trees.values():
        tree.body = [each for each in tree.body if not _says_all(each)]
        ast.fix_missing_locations(tree)


def _says_all(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"


def _constants(tree: ast.Module) -> dict[str, int | str]:
    """The constants that a module defines itself."""
    found: dict[str, int | str] = {}
    stored = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and _stored(node)]
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)]) if name.isupper():
                value = _value(statement.value, found)
                if value is not None and stored.count(name) == 1:
                    found[name] = value
    return found


def _stored(node: ast.Name) -> bool:
    return not isinstance(node.ctx, ast.Load)


def _value(node: ast.expr, known: Constants) -> int | str | None:
    """The value of `node`, a number, a text, a known name, const() of one, an operation of those; None."""
    match node:
        case ast.Call(func=ast.Name(id="const"), args=[inner]):
            return _value(inner, known)
        case ast.Constant(value=int() | str() as value) if not isinstance(value, bool):
            return value
        case ast.Name(id=name):
            return known.get(name)
        case ast.UnaryOp(operand=operand):
            inside = [operand]
        case ast.BinOp(left=left, right=right):
            inside = [left, right]
        case _:
            return None
    if not all(isinstance(_value(each, known), int) for each in inside):
        return None
    result = eval(compile(ast.Expression(node), "a constant", "eval"), dict(known))
    return result if isinstance(result, int) else None


class _Fold(ast.NodeTransformer):
    """Replaces each use of a constant in one module, and drops what defined or imported it."""

    def __init__(
        self, name: str, tree: ast.Module, constants: Mapping[str, Constants], keep: Collection[str]
    ) -> None:
        self._constants = constants
        self._keep = keep
        self._own = constants[name]
        self._names = dict(self._own)
        self._modules: dict[str, Constants] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                known = constants.get(node.module or "", {})
                for alias in node.names:
                    local = alias.asname or alias.name
                    self._modules[local] = constants.get(f"{node.module}.{alias.name}", {})
                    if alias.name in known:
                        self._names[local] = known[alias.name]

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id in self._names and not _stored(node):
            return ast.Constant(self._names[node.id])
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        match node.value:
            case ast.Name(id=module) if module in self._modules:
                known = self._modules[module]
            case ast.Call(func=ast.Name(id="borrow"), args=[ast.Constant(value=str(part))]):
                known = self._constants.get(f"motelet.{part}", {})
            case module:
                known = self._constants.get(ast.unparse(module), {})
        if node.attr in known:
            return ast.Constant(known[node.attr])
        self.generic_visit(node)
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.stmt | None:
        match node.targets:
            case [ast.Name(id=name)] if name in self._own:
                node.value = ast.Constant(self._own[name])
                return node if name in self._keep else None
        self.generic_visit(node)
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        if isinstance(node.value, ast.Constant):
            return ast.Pass()  # a docstring: not for a board
        self.generic_visit(node)
        return node

    def visit_If(self, node: ast.If) -> ast.stmt | list[ast.stmt]:
        self.generic_visit(node)
        match node.test:
            case ast.Compare(left=left, ops=[operator], comparators=[ast.Constant(value="micropython")]):
                if ast.unparse(left) == "sys.implementation.name":
                    body = node.body if isinstance(operator, ast.Eq) else node.orelse
                    return body or ast.Pass()
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.stmt:
        self.generic_visit(node)
        # Two entries in the table of each class, for nobody to read.
        node.body.insert(0, ast.parse("del __module__, __qualname__").body[0])
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt | None:
        known = self._constants.get(node.module or "", {})
        node.names = [alias for alias in node.names if alias.name not in known]
        return node if node.names else None


def _check(trees: Mapping[str, ast.Module], gone: Collection[str]) -> None:
    for file, tree in trees.items():
        for node in ast.walk(tree):
            name = node.attr if isinstance(node, ast.Attribute) else ""
            if name in gone:
                raise ValueError(
                    f"{file}: the constant {name} is used through more than the name of its module"
                )


def _drop_unused_imports(trees: Mapping[str, ast.Module]) -> None:
    """Drop what a module imports by name, does not use, and nobody has from it."""
    modules = {module_name(file) for file in trees}
    passed_on: set[tuple[str, str]] = set()
    attributes: set[str] = set()
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                passed_on |= {(node.module or "", alias.name) for alias in node.names}
            elif isinstance(node, ast.Attribute):
                attributes.add(node.attr)
    for file, tree in trees.items():
        if "__all__" in (used := {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}):
            continue  # it says itself what it passes on
        used |= {name for module, name in passed_on if module == module_name(file)}
        _Needed(used, used | attributes, modules).visit(tree)


class _Needed(ast.NodeTransformer):
    """Leaves the imports whose names are in `used`, or, of modules of ours, in `used_ours`."""

    def __init__(self, used: Collection[str], used_ours: Collection[str], modules: Collection[str]) -> None:
        self._used = used
        self._used_ours = used_ours
        self._modules = modules

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt | None:
        used = self._used_ours if node.module in self._modules else self._used
        node.names = [alias for alias in node.names if (alias.asname or alias.name) in used]
        return node if node.names else None
