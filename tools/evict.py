"""Move constructors to where the one thing of a class is made, before a board gets the code.

Much of a gateway is made once, by a module that is borrowed for the start. A constructor in the class stays
in RAM for good; in that module it goes with it.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator

from motelet.tools.firmware import ROM
from motelet.tools.fold import module_name
from motelet.tools.hoist import borrowed, identifiers
from motelet.tools.merge import Trees, global_names

_FUNCTIONS = (ast.FunctionDef, ast.Lambda)


def evict(trees: Trees, hosts: Collection[str], keep: Collection[str] = ()) -> dict[str, dict[str, str]]:
    """Change in place: constructors of classes in the files `hosts` go to the borrowed file that calls them.

    `C(1)` becomes `function(C(), 1)` there. A class stays as it is if it is one of `keep`, has or is a base,
    is made in more than one file or in one that stays, or is used as anything but a function or the kind that
    isinstance asks for. -> the names of the functions by file, {file: {function: "__init__"}}.
    """
    made: dict[str, dict[str, str]] = {}
    makers = borrowed(trees)
    # No new name may be one that a constructor uses which moves there later: a function of the language's.
    taken = {name for host in hosts for name in identifiers(trees[host])}
    imports = {file: _imports(tree) for file, tree in trees.items()}
    left = True
    while left:  # a constructor that has moved may have made something itself
        left = False
        for host in hosts:
            for node in trees[host].body:
                if not isinstance(node, ast.ClassDef) or node.name in keep:
                    continue
                constructor = _constructor(node)
                if constructor is None:
                    continue
                near = {each: trees[each] for each in trees if each == host or node.name in imports[each]}
                users = _makers(near, host, node.name)
                if len(users) != 1 or not users <= makers:
                    continue
                (file,) = users
                if _means_the_same(constructor, trees[host], trees[file]):
                    name = _move(trees, host, node, constructor, file, taken)
                    imports[file] = _imports(trees[file])
                    made.setdefault(file, {})[name] = "__init__"
                    left = True
    for tree in trees.values():
        ast.fix_missing_locations(tree)
    return made


def _imports(tree: ast.Module) -> set[str]:
    """Every name that a file or a function in it imports from a module: what that module calls it."""
    imports = [each for each in ast.walk(tree) if isinstance(each, ast.ImportFrom)]
    return {alias.name for each in imports for alias in each.names}


def _constructor(node: ast.ClassDef) -> ast.FunctionDef | None:
    """The constructor of a class, if it may move."""
    for each in node.body:
        if isinstance(each, ast.FunctionDef) and each.name == "__init__" and not node.bases:
            if not any(isinstance(inner, ast.Return) for inner in ast.walk(each)):
                return each
    return None


def _own(scope: ast.AST) -> Iterator[ast.AST]:
    """What is in a module or a function, and not in a function within it; such functions themselves are."""
    for node in ast.iter_child_nodes(scope):
        yield node
        if not isinstance(node, _FUNCTIONS):
            yield from _own(node)


def _imported(scope: ast.AST, module: str, name: str) -> Iterator[tuple[ast.AST, str]]:
    """Each module or function that imports the thing `name` of `module` itself, and what it calls it."""
    for node in _own(scope):
        if isinstance(node, _FUNCTIONS):
            yield from _imported(node, module, name)
        elif isinstance(node, ast.ImportFrom) and node.module == module:
            yield from ((scope, alias.asname or alias.name) for alias in node.names if alias.name == name)


def _local_name(tree: ast.Module, module: str, name: str) -> str | None:
    """What all of a file calls the thing `name` of `module`."""
    return next((local for scope, local in _imported(tree, module, name) if scope is tree), None)


def _makers(trees: Trees, host: str, name: str) -> set[str]:
    """The files that make things of the class `name` of `host`; with host itself where that is not all."""
    found: set[str] = set()
    for file, tree in trees.items():
        uses = list(_uses_of(file, tree, host, name))
        if not uses:
            continue
        calls = [each for each in ast.walk(tree) if isinstance(each, ast.Call)]
        asked = {
            id(each)
            for call in calls
            if ast.unparse(call.func) == "isinstance"
            for each in ast.walk(call.args[1])
        }
        called = {id(call.func) for call in calls}
        for node in uses:
            if id(node) not in asked:
                found |= {file} if id(node) in called else {file, host}
    return found


def _uses_of(file: str, tree: ast.Module, host: str, name: str) -> Iterator[ast.Name]:
    """Where `file` uses the thing `name` of the file `host`."""
    if file == host:
        yield from _uses(tree, name)
    else:
        for scope, local in _imported(tree, module_name(host), name):
            yield from _uses(scope, local)


def _uses(scope: ast.AST, name: str) -> Iterator[ast.Name]:
    """Where `name` stands for what the module or function `scope` calls so."""
    for node in _own(scope):
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load):
            yield node
        elif isinstance(node, _FUNCTIONS) and name not in _variables(node):
            yield from _uses(node, name)


def _variables(node: ast.FunctionDef | ast.Lambda) -> set[str]:
    """The variables of a function, or of one within it, what it imports among them."""
    own = {each.arg for each in ast.walk(node) if isinstance(each, ast.arg)}
    own |= {each.name for each in ast.walk(node) if isinstance(each, ast.ExceptHandler) and each.name}
    imports = [each for each in ast.walk(node) if isinstance(each, ast.ImportFrom)]
    own |= {alias.asname or alias.name for each in imports for alias in each.names}
    return own | {
        each.id
        for each in ast.walk(node)
        if isinstance(each, ast.Name) and not isinstance(each.ctx, ast.Load)
    }


def _means_the_same(constructor: ast.FunctionDef, host: ast.Module, tree: ast.Module) -> bool:
    """Whether what a constructor has from the language is not called otherwise where it is to go."""
    used = {each.id for each in ast.walk(constructor) if isinstance(each, ast.Name)}
    used -= _variables(constructor) | {name for name, _ in global_names(host)}
    return not used & {name for name, _ in global_names(tree)}


def _move(
    trees: Trees,
    host: str,
    node: ast.ClassDef,
    constructor: ast.FunctionDef,
    file: str,
    others: Collection[str],
) -> str:
    """Move a constructor to `file`; -> its name there, none of `others`."""
    tree = trees[file]
    taken = {*identifiers(tree), *identifiers(constructor), *others}
    function = next(each for each in ROM if each not in taken)
    taken.add(function)
    node.body = [each for each in node.body if each is not constructor] or [ast.Pass()]
    uses = {id(each) for each in _uses_of(file, tree, host, node.name)}
    for call in [each for each in ast.walk(tree) if isinstance(each, ast.Call)]:
        if id(call.func) in uses:
            call.args.insert(0, ast.Call(call.func, [], []))
            call.func = ast.Name(function, ast.Load())
    names = dict(_borrowed_names(constructor, trees[host], tree, module_name(host), taken))
    _Rename(names).visit(constructor)
    constructor.name = function
    me = constructor.args.args[0].arg
    constructor.body.append(ast.Return(ast.Name(me, ast.Load())))
    tree.body.append(constructor)
    new = [ast.alias(old, None if old == now else now) for old, now in names.items()]
    new = [each for each in new if _local_name(tree, module_name(host), each.name) is None]
    if new:
        tree.body.insert(0, ast.ImportFrom(module_name(host), new, 0))
    return function


def _borrowed_names(
    constructor: ast.FunctionDef, host: ast.Module, tree: ast.Module, module: str, taken: set[str]
) -> Iterator[tuple[str, str]]:
    """The globals of its module that a constructor uses, with what they are called in its new one."""
    known = {name for name, _ in global_names(host)}
    own = _variables(constructor)
    used = {each.id for each in ast.walk(constructor) if isinstance(each, ast.Name)}
    for name in sorted(used & known - own):
        now = _local_name(tree, module, name)
        if now is None:
            now = name if name not in identifiers(tree) else next(each for each in ROM if each not in taken)
            taken.add(now)
        yield name, now


class _Rename(ast.NodeTransformer):
    def __init__(self, names: dict[str, str]) -> None:
        self._names = names

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Name(self._names.get(node.id, node.id), node.ctx)
