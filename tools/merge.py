"""Put modules that are always loaded together into one, before a board gets the code.

A module costs a board some 200 bytes before it has a line: its object, its table of globals with an entry
for each thing imported, a table of the names in its code, and its own name and path. Modules that refer to
each other through one table of globals need all that once.
"""

from __future__ import annotations

import ast
import graphlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from motelet.tools.fold import module_name

_SHORT_NUMBERS = 128

Trees = dict[str, ast.Module]
Units = Mapping[str, Sequence[str]]  # the file that takes others in: these


def merge(trees: Trees, units: Units, keep: Collection[str] = ()) -> None:
    """Merge in place: the members of a unit go into its host, and whoever imported them imports that.

    `trees` (file name to syntax tree) is all that will run together. A member that is a package of other
    modules stays as an empty one, and one with names of `keep`, for code that comes later, as one that has
    these from the host. Raises ValueError where this cannot keep two things of one name apart.
    """
    home = {module_name(file): module_name(host) for host, files in units.items() for file in (host, *files)}
    others: dict[str, dict[str, str]] = {}
    for host, files in units.items():
        others |= _distinct(trees, (host, *files))
    order = {host: _in_order(trees, (host, *files)) for host, files in units.items()}
    for file, tree in trees.items():
        _Move(file, tree, home, others).visit(tree)
        ast.fix_missing_locations(tree)
    for host, files in units.items():
        body = _once([each for file in order[host] for each in trees[file].body])
        trees[host] = ast.fix_missing_locations(ast.Module([*_common_names_first(body), *body], []))
        for file in files:
            kept = [name for name, origin in global_names(trees[file]) if name in keep and not origin]
            package = file.removesuffix("__init__.py")
            if kept:
                names = [ast.alias(name) for name in kept]
                trees[file] = ast.Module([ast.ImportFrom(module_name(host), names, 0)], [])
            elif package != file and any(other.startswith(package) for other in trees.keys() - set(files)):
                trees[file] = ast.Module([], [])
            else:
                del trees[file]


def global_names(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The names in a module's table of globals, and where those come from that it imports, else ""."""
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, ""
            case ast.Assign(targets=targets):
                for target in targets:
                    yield from ((each.id, "") for each in ast.walk(target) if isinstance(each, ast.Name))
            case ast.ImportFrom(module=module, names=names):
                yield from ((alias.asname or alias.name, f"{module}.{alias.name}") for alias in names)
            case ast.Import(names=names):
                yield from ((alias.asname or alias.name, alias.name) for alias in names)


def _distinct(trees: Trees, files: Sequence[str]) -> dict[str, dict[str, str]]:
    """For each module those of its globals that get another name, because one before it has them too."""
    inside = tuple(f"{module_name(file)}." for file in files)
    taken: dict[str, str] = {}
    others: dict[str, dict[str, str]] = {}
    for file in files:
        module = module_name(file)
        others[module] = {}
        for name, origin in global_names(trees[file]):
            if origin and f"{origin}.".startswith(inside):
                continue  # it will be there under its own name
            thing = origin or f"{module}.{name}"
            if taken.setdefault(name, thing) != thing:
                others[module][name] = f"{name}_"
                if taken.setdefault(f"{name}_", thing) != thing:
                    raise ValueError(f"{file}: {name} and {name}_ are in modules of its unit already")
    return others


def _in_order(trees: Trees, files: Sequence[str]) -> list[str]:
    """The files, each after those that it imports."""
    modules = {module_name(file): file for file in files}
    needs: dict[str, set[str]] = {}
    for file in files:
        origins = [origin for _, origin in global_names(trees[file]) if origin]
        used = {modules.get(each) or modules.get(each.rpartition(".")[0]) for each in origins}
        needs[file] = {each for each in used if each and each != file}
    return list(graphlib.TopologicalSorter(needs).static_order())


class _Move(ast.NodeTransformer):
    """In one file: imports what has moved from where it is now, or not at all, by the name it has now."""

    def __init__(
        self, file: str, tree: ast.Module, home: Mapping[str, str], others: Mapping[str, Mapping[str, str]]
    ) -> None:
        self._file = file
        self._home = home
        self._others = others
        self._here = home.get(module_name(file))
        self._names = dict(others.get(module_name(file), {}))  # name in this file: name now
        self._modules: dict[str, str] = {}  # name in this file: the module as it was
        self._top = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    local = alias.asname or alias.name
                    if f"{node.module}.{alias.name}" in home:
                        self._modules[local] = f"{node.module}.{alias.name}"
                    elif node.module and node.module in home and home[node.module] == self._here:
                        self._names[local] = others[node.module].get(alias.name, alias.name)
        self._names = {name: now for name, now in self._names.items() if name != now}
        self._check(tree)

    def _check(self, tree: ast.Module) -> None:
        moved = self._modules.items()
        changed = self._names.keys() | {
            name for name, module in moved if self._others[module] or self._home[module] == self._here
        }
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.Lambda):
                for node in ast.walk(function):
                    match node:
                        case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) if name in changed:
                            raise ValueError(f"{self._file}: {name} is a local and the name of what moves")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> list[ast.stmt]:
        stay: list[ast.alias] = []
        moved: list[ast.stmt] = []
        for alias in node.names:
            before = alias.asname or alias.name
            local = self._names.get(before, before)
            now = self._home.get(f"{node.module}.{alias.name}")
            if now is not None and now != self._here:
                package, _, name = now.rpartition(".")
                moved.append(ast.ImportFrom(package, [ast.alias(name, local)], 0))
            elif now is None and node.module and node.module in self._home:
                name = self._others[node.module].get(alias.name, alias.name)
                if self._home[node.module] != self._here:
                    import_as = None if name == local else local
                    moved.append(ast.ImportFrom(self._home[node.module], [ast.alias(name, import_as)], 0))
            elif now is None:
                stay.append(ast.alias(alias.name, None if local == alias.name else local))
        return [*moved, ast.ImportFrom(node.module, stay, 0)] if stay else moved

    def visit_Call(self, node: ast.Call) -> ast.expr:
        match node:
            case ast.Call(func=ast.Name(id="borrow"), args=[ast.Constant(value=str(part))]):
                if (now := self._home.get(f"motelet.{part}")) is not None:
                    if now == self._here:
                        raise ValueError(
                            f"{self._file}: {part} is in this unit, and is kept for more than a call"
                        )
                    node.args = [ast.Constant(now.removeprefix("motelet."))]
        self.generic_visit(node)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        match node.value:
            case ast.Call(func=ast.Name(id="borrow"), args=[ast.Constant(value=str(part))]):
                module = f"motelet.{part}"
                if module in self._home:
                    name = self._others[module].get(node.attr, node.attr)
                    if self._home[module] == self._here:
                        return ast.Name(name, node.ctx)
                    node.attr = name
            case ast.Name(id=local) if local in self._modules:
                module = self._modules[local]
                name = self._others[module].get(node.attr, node.attr)
                if self._home[module] == self._here:
                    return ast.Name(name, node.ctx)
                return ast.Attribute(node.value, name, node.ctx)
        self.generic_visit(node)
        return node

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Name(self._names.get(node.id, node.id), node.ctx)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.stmt:
        return self._definition(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        return self._definition(node)

    def _definition(self, node: ast.ClassDef | ast.FunctionDef) -> ast.stmt:
        if node.name in self._top:
            node.name = self._names.get(node.name, node.name)
        self.generic_visit(node)
        if not node.body:  # of imports only
            node.body = [ast.Pass()]
        return node


def dissolve(trees: Trees) -> None:
    """Put the modules of packages of which nothing is left but these beside the packages, in place.

    A package costs a module, and its name is in that of each module. One with a module whose name is taken
    outside stays.
    """
    for file in [each for each in trees if each.endswith("/__init__.py") and not trees[each].body]:
        folder = file.removesuffix("__init__.py")
        outside = folder[: folder[:-1].rfind("/") + 1]
        moves = {each: outside + each.removeprefix(folder) for each in trees if each.startswith(folder)}
        del moves[file]
        if moves and not trees.keys() & set(moves.values()):
            del trees[file]
            for before, after in moves.items():
                trees[after] = trees.pop(before)
            modules = {module_name(before): module_name(after) for before, after in moves.items()}
            for tree in trees.values():
                _readdress(tree, modules)


def _readdress(tree: ast.Module, modules: Mapping[str, str]) -> None:
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom():
                node.module = modules.get(node.module or "", node.module)
                for alias in node.names:
                    if (now := modules.get(f"{node.module}.{alias.name}")) is not None:
                        node.module = now.rpartition(".")[0]
            case ast.Call(func=ast.Name(id="borrow"), args=[ast.Constant(value=str(part)) as constant]):
                constant.value = modules.get(f"motelet.{part}", f"motelet.{part}").removeprefix("motelet.")
            case ast.Import(names=names):
                if any(alias.name in modules for alias in names):
                    raise ValueError(f"import {names[0].name}: use from .. import for what may move")


def _once(body: list[ast.stmt]) -> list[ast.stmt]:
    """The statements, with each import made once."""
    seen: set[str] = set()
    result: list[ast.stmt] = []
    for node in body:
        if isinstance(node, ast.Pass):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            origin = node.module if isinstance(node, ast.ImportFrom) else ""
            names = [alias for alias in node.names if f"{origin} {ast.unparse(alias)}" not in seen]
            seen |= {f"{origin} {ast.unparse(alias)}" for alias in names}
            if not names:
                continue
            node.names = names
        result.append(node)
    return result


def _common_names_first(body: list[ast.stmt]) -> list[ast.stmt]:
    """A function that is gone at once, but for which the names of `body` that code uses most come first.

    Code has the number of a name in the module's table, which takes one byte up to 127, and the compiler
    numbers names as it meets them: first those of the module itself, then those of its first function.
    """
    uses: Counter[str] = Counter()
    for node in ast.walk(ast.Module(body, [])):
        if isinstance(node, ast.Attribute):
            uses[node.attr] += 1
        elif isinstance(node, ast.arg):
            uses[node.arg] += 1
    names = [name for name, _ in uses.most_common(_SHORT_NUMBERS)]
    if len(uses) < _SHORT_NUMBERS:
        return []
    return ast.parse(f"def any(self):\n    self.{'.'.join(names)}\ndel any\n").body
