"""What `make lint` checks besides ruff: types with mypy, layers with import-linter.

Both want packages at paths that spell their import names, and the source tree has them elsewhere
(core/motelet, ports, tools), so they look at a tree of symbolic links below build/.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINKS = ROOT / "build" / "links"
STUBS = ROOT / "build" / "esp32-stubs"
STUB_PACKAGES = ("micropython-esp32-stubs", "micropython-stdlib-stubs")


def link_tree(folder: Path, root: Path = ROOT) -> Path:
    """Make `folder` show the packages of the source tree `root` under their import names; returns it.

    Folders are real and files are links: both tools walk the tree, and neither follows a linked folder.
    """
    wanted: dict[Path, Path] = {}
    for inside, name in (
        ("core", ""),
        ("ports", "motelet/ports"),
        ("tools", "motelet/tools"),
        ("cloud_bridge",) * 2,
    ):
        for source in (root / inside).rglob("*.py"):
            wanted[folder / name / source.relative_to(root / inside)] = source
    for old in [path for path in folder.rglob("*") if path.is_symlink()]:
        if old not in wanted or old.readlink() != wanted[old]:
            old.unlink()
    for link, source in wanted.items():
        if not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source)
    return folder


def check_imports(
    links: Path, configuration: Path = ROOT / "pyproject.toml"
) -> subprocess.CompletedProcess[str]:
    """Check the contracts of pyproject.toml over a link tree; the result's stdout is the report."""
    program = (
        "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    )
    command = [sys.executable, "-c", program, "--no-cache", "--no-logo", "--config", str(configuration)]
    return subprocess.run(
        command, cwd=links, env=_environment(links), capture_output=True, text=True, timeout=300
    )


def check_types() -> subprocess.CompletedProcess[str]:
    """Check the types of the packages that pyproject.toml names; the result's stdout is the report."""
    command = [sys.executable, "-m", "mypy", "--no-error-summary"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    for name in ("motelet/tools", "motelet/ports", "cloud_bridge"):  # name the files, not the links to them
        done.stdout = done.stdout.replace(f"build/links/{name}/", f"{name.removeprefix('motelet/')}/")
    return done


def check_chip_types(links: Path = LINKS, stubs: Path = STUBS) -> subprocess.CompletedProcess[str]:
    """Check ports/esp32 against what the chip's own modules have; the result's stdout is the report.

    The stubs come as loose files of two packages, which mypy finds in a folder of their own only. Their own
    mistakes are left out of the report.
    """
    for distribution in STUB_PACKAGES:
        for file in importlib.metadata.files(distribution) or ():
            link = stubs / file
            if (file.suffix == ".pyi" or file.name == "VERSIONS") and not link.is_symlink():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(Path(str(file.locate())))
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "ports/esp32/mypy.ini")]
    command += ["--no-error-summary", "--custom-typeshed-dir", str(stubs), "--package", "motelet.ports.esp32"]
    environment = {**os.environ, "MYPYPATH": os.pathsep.join([str(stubs), str(links)])}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    if done.returncode > 1:
        return done
    marker = "motelet/ports/esp32/"
    lines = [
        f"ports/esp32/{line.partition(marker)[2]}" for line in done.stdout.splitlines() if marker in line
    ]
    return subprocess.CompletedProcess(command, 1 if lines else 0, "".join(f"{line}\n" for line in lines), "")


def _environment(links: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(links)}


def main() -> int:
    """Run both; prints what is wrong; returns 1 if something is."""
    links = link_tree(LINKS)
    checks: dict[str, Callable[[], subprocess.CompletedProcess[str]]] = {
        "types": check_types,
        "types of the chip": check_chip_types,
        "layers": lambda: check_imports(links),
    }
    status = 0
    for name, check in checks.items():
        print(f"checking {name} ...", file=sys.stderr, flush=True)
        done = check()
        if done.returncode:
            print(done.stdout + done.stderr, end="")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
