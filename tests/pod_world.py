"""A bridge on a folder of YAML and a gateway on the real MicroPython, as processes: for the tests of pods."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from build_folder import build_folder

from motelet.tools import mpy
from motelet.tools.freeport import free_port

DEADLINE_S = 120.0
NODE = "board"
BUILD = build_folder("micropython-pods")


def wait_for(what: str, happened: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """Until `happened()` is something; -> that."""
    end = time.monotonic() + deadline_s
    while not (found := happened()):
        assert time.monotonic() < end, f"{what}: did not happen"
        time.sleep(0.01)
    return found


class PodWorld:
    """`folder` has all files; `process`: applications run in processes of their own, not in the gateway."""

    def __init__(self, folder: Path, process: bool = False, heap: str = "192K", **edged: Any) -> None:
        self.folder = folder
        self.manifests = folder / "manifests"
        self.manifests.mkdir(parents=True)
        self.port = free_port()
        self.bridge: subprocess.Popen[bytes] | None = None
        self.gateway: subprocess.Popen[bytes] | None = None
        self.bridge_options: list[str] = []
        self.python = [sys.executable]
        self.arguments: list[str] = []
        self.environment = dict(os.environ)
        self.gateway_log = folder / "gateway.log"
        self.bridge_log = folder / "bridge.log"
        self.heap = heap
        self.config: dict[str, Any] = {
            "node": NODE,
            "bridge": {"host": "127.0.0.1", "port": self.port, "path": f"/motelet/v1/{NODE}"},
            "store": {"path": str(folder / "flash.img"), "size": 512 * 1024},
            "edged": {"process": process, **edged},
        }

    # -- the processes -----------------------------------------------------------------------

    def start(self) -> None:
        """Start both, and wait until they are in step."""
        self.start_bridge()
        self.start_gateway()
        self.synced()

    def start_bridge(self) -> None:
        command = [sys.executable, "-m", "motelet.tools.cli", "bridge", "--manifests", str(self.manifests)]
        command += ["--plain", "--listen", f"127.0.0.1:{self.port}", *self.bridge_options]
        with self.bridge_log.open("ab") as output:
            self.bridge = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=output)
        wait_for("the bridge listens", lambda: "listening" in self.bridge_log.read_text())

    def start_gateway(self) -> None:
        path = self.folder / "gateway.json"
        path.write_text(json.dumps(self.config))
        self.gateway_log.unlink(missing_ok=True)
        with self.gateway_log.open("ab") as output:
            self.gateway = subprocess.Popen(
                [*self.interpreter(), str(path), *self.arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def interpreter(self) -> list[str]:
        """The command of a gateway: of a board's MicroPython, or of CPython that starts processes."""
        if self.config["edged"]["process"]:
            return [*self.python, "-m", "motelet.tools.cli", "gateway"]
        mpy.build(BUILD, mpy.TEST_OPT_LEVEL)
        self.environment = mpy.environment(BUILD)
        interpreter = mpy.interpreter()
        assert interpreter is not None
        return [*interpreter, "-X", f"heapsize={self.heap}", "-m", "motelet.ports.unix.run"]

    def synced(self) -> None:
        wait_for("the board is in step", lambda: "synced" in self.gateway_log.read_text())

    @property
    def gateway_pid(self) -> int:
        """The process that is the gateway now."""
        assert self.gateway is not None
        return self.gateway.pid

    def kill_gateway(self) -> None:
        """As if the power went."""
        assert self.gateway is not None
        self.gateway.send_signal(signal.SIGKILL)
        self.gateway.wait()

    def stop(self) -> None:
        """End both."""
        for process in (self.gateway, self.bridge):
            if process is not None:
                process.send_signal(signal.SIGKILL)
                process.wait()

    # -- what a user does --------------------------------------------------------------------

    def apply(self, *objects: dict[str, Any]) -> None:
        """Write each object to its file."""
        for each in objects:
            name = f"{each['kind']}-{each['metadata']['name']}"
            fresh = self.manifests / f".{name}"
            fresh.write_text(yaml.safe_dump(each))
            fresh.replace(self.manifests / f"{name}.yaml")

    def remove(self, kind: str, name: str) -> None:
        (self.manifests / f"{kind}-{name}.yaml").unlink()

    def clear(self) -> None:
        """Remove everything, and wait until the board has."""
        for path in self.manifests.glob("*.yaml"):
            path.unlink()
        wait_for("no pod is left", lambda: not list((self.manifests / "status" / "_pods").glob("*/*.yaml")))

    def status(self, name: str, namespace: str = "default") -> dict[str, Any]:
        """The pod's status, empty before there is one."""
        try:
            path = self.manifests / "status" / "_pods" / namespace / f"{name}.yaml"
            found: dict[str, Any] = yaml.safe_load(path.read_text())["status"]
        except FileNotFoundError:
            return {}
        return found

    def container(self, name: str, index: int = 0) -> dict[str, Any]:
        found = self.status(name).get("containerStatuses") or [{}] * (index + 1)
        return dict(found[index])

    def running(self, name: str) -> dict[str, Any]:
        """Wait until the pod runs; -> its status."""
        wait_for(f"{name} runs", lambda: "running" in self.container(name).get("state", {}))
        return self.status(name)

    def logs(self, name: str, *options: str) -> str:
        """What `motelet logs` prints, once the board is not too busy to answer."""
        control = str(self.manifests / "status" / ".control")
        command = [sys.executable, "-m", "motelet.tools.cli", "logs", name, "--control", control, *options]

        def answered() -> "subprocess.CompletedProcess[str] | None":
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=dict(os.environ))
            assert done.returncode == 0 or "the board did not answer" in done.stderr, done.stderr
            return done if done.returncode == 0 else None

        return str(wait_for(f"the log of {name}", answered).stdout)

    def logged(self, name: str, text: str, deadline_s: float = DEADLINE_S) -> str:
        """Wait until the pod's log has `text`; -> the log."""
        found = wait_for(
            f"{name} says {text}", lambda: (log := self.logs(name)) and text in log and log, deadline_s
        )
        return str(found)

    def events(self, text: str) -> list[str]:
        """The lines of the bridge's log that are events with `text`."""
        lines = self.bridge_log.read_text().splitlines()
        return [line for line in lines if "text=event" in line and text in line]


def config_map(name: str, **data: str) -> dict[str, Any]:
    """A ConfigMap; a key main_py is main.py."""
    data = {key.replace("_py", ".py"): value for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def pod(name: str, source: str | None = None, **spec: Any) -> list[dict[str, Any]]:
    """A pod of one container whose program is `source`; `container`: more fields of it."""
    container = {"name": "main", "image": "micropython", **spec.pop("container", {})}
    volumes = list(spec.pop("volumes", []))
    objects = []
    if source is not None:
        objects.append(config_map(name, main_py=source))
        container.setdefault("volumeMounts", [])
        container["volumeMounts"] = [*container["volumeMounts"], {"name": "code", "mountPath": "/app"}]
        volumes.append({"name": "code", "configMap": {"name": name}})
    body = {"containers": [container], "terminationGracePeriodSeconds": 2, **spec}
    if volumes:
        body["volumes"] = volumes
    objects.append({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": body})
    return objects
