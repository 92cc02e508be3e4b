"""The walkthrough of deploy/README.md, as far as it goes without containers: its words, on a real API server.

The pod of the bridge is a process here, with the arguments and the rights that the pod has; the image, and
the port-forward to it, are left out. The gateway is the real one, and joins by the token.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_world import DEPLOY, config

from motelet.tools import demo
from motelet.tools.freeport import free_ports
from motelet.tools.kubernetes.cluster import Cluster

MOTELET = [sys.executable, "-m", "motelet.tools.cli"]
DEADLINE_S = 60.0


def written() -> str:
    """What the page tells to do."""
    return (DEPLOY / "README.md").read_text().partition("## In fifteen minutes")[2]


def container() -> dict[str, Any]:
    deployment = next(yaml.safe_load_all((DEPLOY / "bridge.yaml").read_text()))
    found: dict[str, Any] = deployment["spec"]["template"]["spec"]["containers"][0]
    return found


@pytest.fixture
def ports(cluster: Cluster, tmp_path: Path) -> Iterator[tuple[int, int]]:
    """A bridge with the arguments of the pod; -> where boards connect, and where they join."""
    connect, enrol = free_ports(2)
    names = {"$(POD_NAME)": "bridge-walk", "$(POD_NAMESPACE)": "motelet", "0.0.0.0:8080": "127.0.0.1:0"}
    words = [
        re.sub("|".join(map(re.escape, names)), lambda m: names[m[0]], word) for word in container()["args"]
    ]
    words += [
        f"--kubeconfig={config(cluster)}",
        f"--listen=127.0.0.1:{connect}",
        f"--enrol=127.0.0.1:{enrol}",
    ]
    with (tmp_path / "bridge.log").open("wb") as log:
        process = subprocess.Popen([*MOTELET, "bridge", *words], stderr=log, env=dict(os.environ))
    try:
        yield connect, enrol
    finally:
        process.kill()
        process.wait()


def until(shown: Any, *words: str) -> None:
    """Wait until the words stand in what `shown()` prints."""
    end = time.monotonic() + DEADLINE_S
    while not all(word in (text := shown()) for word in words):
        assert time.monotonic() < end, text
        time.sleep(0.1)


def test_the_walkthrough(cluster: Cluster, ports: tuple[int, int], tmp_path: Path) -> None:
    (command,) = re.findall(r"motelet (bridge token create .*) > token", written())
    token = subprocess.run(
        [*MOTELET, *command.split(), f"--kubeconfig={config(cluster)}"], capture_output=True, check=True
    )
    (tmp_path / "token").write_bytes(token.stdout)
    gateway = json.loads(re.findall(r"(?s)\n\n    (\{\"node\".*?\}\})\n\n", written())[0])
    assert gateway["bridge"]["port"] == 10000  # which port-forward brings here
    gateway["bridge"].update(port=ports[0], enrol_port=ports[1])
    (tmp_path / "gateway.json").write_text(json.dumps(gateway))
    with (tmp_path / "gateway.log").open("wb") as log:
        running = subprocess.Popen(
            [*MOTELET, "gateway", "gateway.json"], cwd=tmp_path, stdout=log, stderr=log
        )
    try:
        until(lambda: cluster.kubectl("get", "nodes"), "kitchen")
        for each in sorted((Path(demo.__file__).parent / "manifests").glob("*.yaml"), reverse=True):
            body = yaml.safe_load(each.read_text())
            if body["kind"] == "Device":
                body["spec"]["nodeName"] = "kitchen"
            cluster.kubectl("apply", "--filename=-", stdin=yaml.safe_dump(body))
        # Nobody answers at the address of the thermostat, and that is what is to be seen.
        until(lambda: cluster.kubectl("get", "devices,devicestatuses"), "kitchen", "thermostat", "offline")
    finally:
        running.terminate()
        running.wait()
        print((tmp_path / "gateway.log").read_text(), (tmp_path / "bridge.log").read_text(), sep="\n")
