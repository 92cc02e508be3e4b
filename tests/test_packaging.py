"""What the distribution installs: every package of the tree, at its import name, and nothing else."""

import ast
import json
import os
import signal
import socket
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from motelet.tools.lint import ROOT

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
TREES = {
    "motelet": "core/motelet",
    "motelet.ports": "ports",
    "motelet.tools": "tools",
    "cloud_bridge": "cloud_bridge",
}


def packages_of_the_tree() -> set[str]:
    """Every package, by its import name."""
    return {
        ".".join([name, *source.parent.relative_to(ROOT / folder).parts])
        for name, folder in TREES.items()
        for source in (ROOT / folder).rglob("__init__.py")
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the working tree."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("core", "ports", "tools", "cloud_bridge", "pyproject.toml", "README.md", "LICENSE"):
        (source / name).symlink_to(ROOT / name)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(source),
    ]
    subprocess.run(pip, check=True, timeout=300)
    (wheel,) = folder.glob("motelet-*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel_names(wheel: Path) -> set[str]:
    """The files in it."""
    return set(zipfile.ZipFile(wheel).namelist())


def test_pyproject_lists_every_package() -> None:
    assert set(SETTINGS["tool"]["setuptools"]["packages"]) == packages_of_the_tree()
    assert SETTINGS["tool"]["setuptools"]["package-dir"] == TREES


def test_every_module_has_a_docstring_that_says_why() -> None:
    sources = [path for folder in TREES.values() for path in (ROOT / folder).rglob("*.py")]
    assert [path for path in sources if not ast.get_docstring(ast.parse(path.read_text()))] == []


@pytest.mark.slow
def test_nothing_else_is_at_the_top_level(wheel_names: set[str]) -> None:
    tops = {PurePosixPath(name).parts[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"motelet", "cloud_bridge"}


@pytest.mark.slow
def test_the_wheel_has_every_source_and_data_file(wheel_names: set[str]) -> None:
    suffixes = {".py", ".cddl", ".md", ".yaml", ".json", ".mjs"}
    expected = {
        f"{name.replace('.', '/')}/{path.relative_to(ROOT / folder).as_posix()}"
        for name, folder in TREES.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in suffixes and path.is_file() and "deploy" not in path.parts  # not for this computer
    }
    assert expected - wheel_names == set()


@pytest.mark.slow
def test_a_linux_gateway_runs_from_anywhere_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "venv", tmp_path / "elsewhere"
    elsewhere.mkdir()
    venv.create(home, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-compile", f"{wheel}[rpi]"], check=True, timeout=300)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
    # What is imported only when a device needs it.
    needs = "import gpiod, smbus2, motelet.ports.rpi.modbus, motelet.ports.rpi.line, motelet.ports.rpi.buses"
    needs += "; from motelet.ports.unix.cpython import Aes; Aes(bytes(32), bytes(16))"
    subprocess.run([home / "bin" / "python", "-I", "-c", needs], check=True, cwd=elsewhere, env=clean)
    config = {"node": "pi", "bridge": {"host": "127.0.0.1", "port": 1}}
    config["store"] = {"path": "flash", "size": 65536}
    (elsewhere / "gateway.json").write_text(json.dumps(config))
    command = [home / "bin" / "motelet", "gateway", "--port", "rpi", "gateway.json"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(60)
        environment = {**clean, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        with subprocess.Popen(command, cwd=elsewhere, env=environment, stderr=subprocess.PIPE) as process:
            try:
                assert systemd.recv(64) == b"READY=1"
            finally:
                process.send_signal(signal.SIGTERM)
                errors = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 0 and "stopped" in errors, errors
    assert (elsewhere / "flash").stat().st_size == 65536


def test_every_name_in_the_coverage_gate_is_a_file() -> None:
    """Coverage is silent about a pattern that fits nothing: one of them would then guard nothing."""
    line = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("SANS_IO"))
    patterns = line.partition(":= ")[2].split(",")
    assert len(patterns) > 5 and [each for each in patterns if not list(ROOT.glob(each))] == []
