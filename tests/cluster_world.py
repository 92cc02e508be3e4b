"""A board as `pod_world` has it, whose bridge serves a real cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from pod_world import PodWorld, wait_for

from motelet.tools.kubernetes.cluster import Cluster

USER = "motelet-bridge"


class ClusterWorld(PodWorld):
    """A board whose bridge serves a cluster."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        super().__init__(folder)
        self.cluster = cluster

    def start_bridge(self) -> None:
        kubeconfig = str(self.cluster.kubeconfig(USER, ()))
        command = [
            sys.executable,
            "-m",
            "motelet.tools.cli",
            "bridge",
            "--kubernetes",
            "--kubeconfig",
            kubeconfig,
        ]
        command += [
            "--plain",
            "--listen",
            f"127.0.0.1:{self.port}",
            "--control",
            str(self.folder / "control"),
        ]
        command += self.bridge_options
        with self.bridge_log.open("ab") as output:
            self.bridge = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=output)
        wait_for("the bridge listens", lambda: "listening" in self.bridge_log.read_text())

    def kubectl_apply(self, *objects: dict[str, Any]) -> None:
        self.cluster.kubectl("apply", "--filename=-", stdin=yaml.safe_dump_all(objects))

    def pods(self, app: str) -> list[dict[str, Any]]:
        found = self.cluster.request("GET", f"/api/v1/namespaces/default/pods?labelSelector=app%3D{app}")
        return list(found["items"])

    def up(self, app: str, count: int) -> list[dict[str, Any]]:
        """Wait until `count` pods of `app` are all there is, and ready."""

        def ready() -> Any:
            pods = self.pods(app)
            if len(pods) != count:
                return None
            for each in pods:
                conditions = {c["type"]: c["status"] for c in each.get("status", {}).get("conditions", [])}
                if conditions.get("Ready") != "True" or "deletionTimestamp" in each["metadata"]:
                    return None
            return pods or [{}]

        return list(wait_for(f"{count} of {app}", ready))

    def container_log(self, name: str) -> str:
        command = [sys.executable, "-m", "motelet.tools.cli", "logs", name]
        command += ["--control", str(self.folder / "control")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.stdout

    def said(self, name: str, text: str) -> str:
        """Wait until the container's log has `text`; -> the log."""
        return str(wait_for(text, lambda: text in (log := self.container_log(name)) and log))
