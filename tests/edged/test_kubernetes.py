"""Pods of a real cluster (API server, controller-manager, scheduler) on a board, as with kubectl."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pod_world import PodWorld, config_map, wait_for

from motelet.tools.kubernetes.cluster import Cluster

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
USER = "motelet-bridge"
CONTROLLERS = (
    "deployment-controller",
    "replicaset-controller",
    "daemonset-controller",
    "garbage-collector-controller",
    "node-lifecycle-controller",
    "taint-eviction-controller",
)
UNRUNNABLE_S = 60
LOOP = "import asyncio\nasync def main(context):\n    print('version', context.env.get('V'))\n"
LOOP += "    while True:\n        await asyncio.sleep(1)\n"
CONF = (
    "import asyncio\nasync def main(context):\n    last = None\n    while True:\n"
    "        text = context.open('/conf/text').read()\n        if text != last:\n"
    "            last = text\n            print('now', text)\n        await asyncio.sleep_ms(50)\n"
)
ON_BOARDS = {
    "nodeSelector": {"kubernetes.io/os": "micropython"},
    "tolerations": [
        {"key": "motelet.dev/micropython", "operator": "Exists"},
        {"key": "node.kubernetes.io/not-ready", "operator": "Exists"},
        {"key": "node.kubernetes.io/unreachable", "operator": "Exists"},
    ],
    "terminationGracePeriodSeconds": 1,
    "automountServiceAccountToken": False,
}


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


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterWorld]:
    folder = tmp_path_factory.mktemp("k8s")
    with Cluster(folder / "cluster") as cluster:
        documents = [
            each
            for each in yaml.safe_load_all((ROOT / "cloud_bridge" / "deploy" / "rbac.yaml").read_text())
            if each["kind"] != "ServiceAccount"
        ]
        subject = {"kind": "User", "name": USER, "apiGroup": "rbac.authorization.k8s.io"}
        for each in documents:
            if each["kind"].endswith("Binding"):
                each["subjects"] = [subject]
        for role in ("motelet-bridge-device-profiles", "motelet-bridge-pods"):
            reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
            meta = {"name": role, "namespace": "default"}
            body = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": meta}
            documents.append({**body, "roleRef": reference, "subjects": [subject]})
        crds = ROOT / "cloud_bridge" / "deploy" / "crds"
        cluster.kubectl("apply", "--filename", str(crds))
        cluster.kubectl("wait", "--for=condition=established", "crd", "--all")
        cluster.kubectl("apply", "--filename=-", stdin=yaml.safe_dump_all(documents))
        cluster.start_controller_manager(*CONTROLLERS)
        cluster.start_scheduler()
        running = ClusterWorld(folder / "world", cluster)
        try:
            running.start()
            yield running
        finally:
            running.stop()
            print(running.bridge_log.read_text()[-5000:], running.gateway_log.read_text()[-3000:], sep="\n")


def template(app: str, image: str = "micropython", **container: Any) -> dict[str, Any]:
    main = {
        "name": "main",
        "image": image,
        "volumeMounts": [{"name": "code", "mountPath": "/app"}],
        **container,
    }
    volumes = [{"name": "code", "configMap": {"name": f"{app}-code"}}]
    return {
        "metadata": {"labels": {"app": app}},
        "spec": {**ON_BOARDS, "containers": [main], "volumes": volumes},
    }


def workload(kind: str, app: str, body: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": app, "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": app}}, "template": body, **spec},
    }


def code(app: str, source: str) -> dict[str, Any]:
    found = config_map(f"{app}-code", main_py=source)
    found["metadata"]["namespace"] = "default"
    return found


def test_workloads_of_a_cluster_on_a_board(world: ClusterWorld) -> None:
    begun = time.monotonic()
    world.kubectl_apply(
        workload("Deployment", "nginx", template("nginx", "nginx:1.25"), replicas=2), code("nginx", "")
    )
    # A Deployment: made, scaled, rolled, deleted.
    world.kubectl_apply(code("web", LOOP), workload("Deployment", "web", template("web"), replicas=1))
    (first,) = world.up("web", 1)
    assert first["status"]["phase"] == "Running" and first["spec"]["nodeName"] == "board"
    world.cluster.kubectl("scale", "deployment/web", "--replicas=2")
    world.up("web", 2)
    rolled = template("web", env=[{"name": "V", "value": "2"}])
    world.kubectl_apply(workload("Deployment", "web", rolled, replicas=2))
    wait_for(
        "all are of the new version",
        lambda: all("env" in each["spec"]["containers"][0] for each in world.up("web", 2)),
    )
    wait_for(
        "it says so", lambda: "version 2" in world.container_log(world.up("web", 2)[0]["metadata"]["name"])
    )
    world.cluster.kubectl("delete", "deployment/web", "--wait=false")
    wait_for("all are gone", lambda: not world.pods("web"))

    # A DaemonSet for boards, and its ConfigMap changed.
    mounts = [{"name": "code", "mountPath": "/app"}, {"name": "conf", "mountPath": "/conf"}]
    daemon = template("conf", volumeMounts=mounts)
    daemon["spec"]["volumes"].append({"name": "conf", "configMap": {"name": "settings"}})
    settings = config_map("settings", text="one")
    settings["metadata"]["namespace"] = "default"
    world.kubectl_apply(code("conf", CONF), settings, workload("DaemonSet", "conf", daemon))
    name = world.up("conf", 1)[0]["metadata"]["name"]
    wait_for("the first", lambda: "now one" in world.container_log(name))
    settings["data"]["text"] = "two"
    world.kubectl_apply(settings)
    wait_for("the second", lambda: "now two" in world.container_log(name))
    described = world.cluster.kubectl("describe", "pod", name)
    assert "Started container main" in described
    world.cluster.kubectl("delete", "daemonset/conf", "--wait=false")
    wait_for("it is gone", lambda: not world.pods("conf"))

    # What no board can run waits, and is not made anew again and again.
    while time.monotonic() < begun + UNRUNNABLE_S:
        names = {each["metadata"]["name"] for each in world.pods("nginx")}
        assert len(names) == 2
        time.sleep(1)
    pods = world.pods("nginx")
    assert {each["metadata"]["name"] for each in pods} == names
    for each in pods:
        assert each["status"]["phase"] == "Pending"
        assert each["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "InvalidImageName"
    assert "InvalidImageName" in json.dumps(world.cluster.request("GET", "/api/v1/namespaces/default/events"))
