"""The size ledger: what each module of core costs a board, in flash and in heap, at both object sizes."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

from motelet.tools import mpy
from motelet.tools.bench import interpreters
from motelet.tools.bench.figures import Figure


def measure() -> Iterator[Figure]:
    """The figures `core.size.*` (.mpy), `core.heap.*` and `core.heap32.*` (kept after import), in bytes."""
    files = interpreters.board_files(merged=False)
    modules = {
        _module(inner): (source, files / Path(inner).with_suffix(".mpy"))
        for source, inner in mpy.sources(ports=())
        if not inner.startswith("motelet/ports/")
    }
    sizes = {name: compiled.stat().st_size for name, (_, compiled) in modules.items()}
    yield from _ledger("core.size", sizes)
    sources = {name: source for name, (source, _) in modules.items()}
    order = _import_order(sources)
    order32: list[str] = []
    for module in order:
        used = set(_imports(sources[module]))
        # MicroPython for WebAssembly has an asyncio of its own kind.
        if "asyncio" not in used and not (used & sources.keys()) - set(order32) - {module}:
            order32.append(module)
    commands = {
        "core.heap": interpreters.command64("import_probe", *order, merged=False),
        "core.heap32": interpreters.command32("import_probe", *order32, merged=False),
    }
    for name, command in commands.items():
        with interpreters.running(command) as answers:
            yield from _ledger(name, {answer["module"]: int(answer["bytes"]) for answer in answers})


def _ledger(prefix: str, values: dict[str, int]) -> Iterator[Figure]:
    for module, value in values.items():
        yield Figure(f"{prefix}.{module.removeprefix('motelet.')}", value, "bytes")
    yield Figure(f"{prefix}.total", sum(values.values()), "bytes")


def _module(inner: str) -> str:
    """The import name of "motelet/cbor.py"."""
    return ".".join(Path(inner).with_suffix("").parts).removesuffix(".__init__")


def _import_order(sources: dict[str, Path]) -> list[str]:
    """All modules, each after those that it imports, so that each pays for itself only."""
    graph = {
        name: {used for used in _imports(source) if used in sources and used != name}
        | ({name.rpartition(".")[0]} & sources.keys())
        for name, source in sources.items()
    }
    # A package that imports its own parts while it is being imported pays for them.
    for name, used in graph.items():
        graph[name] = {each for each in used if name not in graph[each] or each == name.rpartition(".")[0]}
    return list(graphlib.TopologicalSorter(graph).static_order())


def _imports(source: Path) -> Iterator[str]:
    """The modules that `source` may import at its top level, without asking which of them exist."""
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
