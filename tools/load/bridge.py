"""A bridge in a process of its own, so that nothing but it is in its memory and on its bill."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from motelet.tools.cli import UserError
from motelet.tools.freeport import free_ports

HOST = "127.0.0.1"
NAME = "localhost"
"""What its certificate is for."""
START_SECONDS = 30.0
STOP_SECONDS = 30.0
LOG_TAIL = 1000
"""Characters of the log that an error shows."""


class BridgeProcess:
    """`motelet bridge` with `options` for its backend, files below `folder`. A context manager."""

    def __init__(self, folder: Path, options: Sequence[str], tls: bool = True) -> None:
        self.state = folder / "state"
        self.port, self.enrol_port = free_ports(2)
        self.log = folder / "bridge.log"
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self._folder = folder
        command = ["bridge", *options, "--listen", f"{HOST}:{self.port}"]
        if tls:
            command += ["--state", str(self.state), "--name", NAME, "--enrol", f"{HOST}:{self.enrol_port}"]
        else:
            command.append("--plain")
        self._command = [sys.executable, "-m", "motelet.tools.cli", *command]
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def check(self) -> None:
        """Raises UserError when it has ended."""
        if self._process.poll() is not None:
            raise UserError(f"the bridge has ended:\n{self._tail()}")

    def resident_kib(self) -> int:
        """What the process keeps in RAM. Raises UserError where the system does not tell."""
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        except FileNotFoundError as error:
            raise UserError("only Linux tells how much memory another process has") from error
        (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1])

    def _wait(self) -> None:
        end = time.monotonic() + START_SECONDS
        while "text=listening" not in self.log.read_text(errors="replace"):
            self.check()
            if time.monotonic() > end:
                raise UserError(f"the bridge does not listen within {START_SECONDS:.0f} s:\n{self._tail()}")
            time.sleep(0.05)

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-LOG_TAIL:].strip()
