"""Pods of a real cluster (API server, controller-manager, scheduler) on a board, as with kubectl."""

import json
import os
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from cluster_world import ClusterWorld
from pod_world import NODE, config_map, wait_for

from motelet.tools.kubernetes.cluster import Cluster

pytestmark = pytest.mark.slow

CONTROLLERS = (
    "deployment-controller",
    "replicaset-controller",
    "daemonset-controller",
    "garbage-collector-controller",
    "node-lifecycle-controller",
    "taint-eviction-controller",
)
UNRUNNABLE_S = float(os.environ.get("MOTELET_UNRUNNABLE_S", "5"))
"""How long a Deployment of an image that no board can run is watched; `make torture` takes a minute."""
INVALID = "InvalidImageName"
TOKENS = "authentication.k8s.io"
MOUNTS = {"code": "/app", "conf": "/conf", "account": "/account"}
LOOP = "import asyncio\nasync def main(context):\n    print('version', context.env.get('V'))\n"
LOOP += "    while True:\n        await asyncio.sleep(1)\n"
CONF = (
    "import asyncio\nasync def main(context):\n    last = None\n"
    "    token = context.open('/account/token').read()\n    half = len(token) // 2\n    while True:\n"
    "        text = context.open('/conf/text').read()\n        if text != last:\n            last = text\n"
    "            part = token[:half] if text == 'one' else token[half:]\n"  # a log has no room for all of it
    "            for at in range(0, len(part), 200):\n                print('token', part[at:at + 200])\n"
    "            print('now', text)\n        await asyncio.sleep_ms(50)\n"
)
ON_BOARDS = {
    # The host name, because other tests have left Nodes behind.
    "nodeSelector": {"kubernetes.io/os": "micropython", "kubernetes.io/hostname": NODE},
    "tolerations": [
        {"key": "motelet.dev/micropython", "operator": "Exists"},
        {"key": "node.kubernetes.io/not-ready", "operator": "Exists"},
        {"key": "node.kubernetes.io/unreachable", "operator": "Exists"},
    ],
    "terminationGracePeriodSeconds": 1,
}


@pytest.fixture(scope="module")
def world(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterWorld]:
    running = ClusterWorld(tmp_path_factory.mktemp("k8s"), cluster)
    cluster.start_controller_manager(*CONTROLLERS)
    cluster.start_scheduler()
    try:
        running.start()
        yield running
    finally:
        running.stop()
        for each in ("kube-scheduler", "kube-controller-manager"):
            cluster.stop_component(each)
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
    world.kubectl_apply(
        workload("Deployment", "nginx", template("nginx", "nginx:1.25"), replicas=2), code("nginx", "")
    )
    wait_for("it cannot be run", lambda: [waits_for(each) for each in world.pods("nginx")] == [INVALID] * 2)
    begun = time.monotonic()
    # A Deployment: made, scaled, rolled, deleted.
    world.kubectl_apply(code("web", LOOP), workload("Deployment", "web", template("web"), replicas=1))
    (first,) = world.up("web", 1)
    assert first["status"]["phase"] == "Running" and first["spec"]["nodeName"] == NODE
    assert "kube-api-access-" in json.dumps(first["spec"]["volumes"])  # which a board is not given
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
    mounts = [{"name": each, "mountPath": path} for each, path in MOUNTS.items()]
    daemon = template("conf", volumeMounts=mounts)
    daemon["spec"]["volumes"].append({"name": "conf", "configMap": {"name": "conf-settings"}})
    source = {"serviceAccountToken": {"path": "token"}}
    daemon["spec"]["volumes"].append({"name": "account", "projected": {"sources": [source]}})
    settings = config_map("conf-settings", text="one")
    settings["metadata"]["namespace"] = "default"
    world.kubectl_apply(code("conf", CONF), settings, workload("DaemonSet", "conf", daemon))
    name = world.up("conf", 1)[0]["metadata"]["name"]
    said = world.said(name, "now one")
    settings["data"]["text"] = "two"
    world.kubectl_apply(settings)
    said += world.said(name, "now two").partition("now one")[2]
    described = world.cluster.kubectl("describe", "pod", name)
    assert "Started container main" in described
    # The token that it mounts is its own.
    token = "".join(re.findall(r"^token (\S+)$", said, re.M))
    review = {"apiVersion": f"{TOKENS}/v1", "kind": "TokenReview", "spec": {"token": token}}
    found = world.cluster.request("POST", f"/apis/{TOKENS}/v1/tokenreviews", review)["status"]
    assert found["authenticated"] and found["user"]["username"] == "system:serviceaccount:default:default"
    assert found["user"]["extra"][f"{TOKENS.replace('.k8s', '.kubernetes')}/pod-name"] == [name]
    world.cluster.kubectl("delete", "daemonset/conf", "--wait=false")
    wait_for("it is gone", lambda: not world.pods("conf"))

    # What no board can run waits, and is not made anew again and again: two pods were created, ever.
    time.sleep(max(0.0, begun + UNRUNNABLE_S - time.monotonic()))
    pods = world.pods("nginx")
    assert [each["status"]["phase"] for each in pods] == ["Pending"] * 2
    assert [waits_for(each) for each in pods] == [INVALID] * 2
    events = world.cluster.request("GET", "/api/v1/namespaces/default/events?limit=500")["items"]
    made = [each["message"] for each in events if each["message"].startswith("Created pod: nginx-")]
    assert sorted(made) == sorted(f"Created pod: {each['metadata']['name']}" for each in pods)
    assert INVALID in json.dumps(events)


def waits_for(pod: dict[str, Any]) -> str:
    """The reason why its container waits."""
    statuses = pod.get("status", {}).get("containerStatuses") or [{}]
    return str(statuses[0].get("state", {}).get("waiting", {}).get("reason", ""))


def test_a_readiness_gate(world: ClusterWorld) -> None:
    path = "/api/v1/namespaces/default/pods/gated"
    spec = template("gated")["spec"]
    spec |= {"nodeName": NODE, "readinessGates": [{"conditionType": "shop/open"}]}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "gated"}, "spec": spec}
    world.kubectl_apply(code("gated", LOOP), body)

    def conditions() -> dict[str, str]:
        found = world.cluster.request("GET", path).get("status", {}).get("conditions") or ()
        return {each["type"]: each["status"] for each in found}

    wait_for("it runs", lambda: conditions().get("ContainersReady") == "True")
    assert conditions()["Ready"] == "False"
    for status in ("True", "False"):
        patch = {"status": {"conditions": [{"type": "shop/open", "status": status}]}}
        world.cluster.request("PATCH", f"{path}/status", patch, "application/strategic-merge-patch+json")
        wait_for("it follows", lambda status=status: conditions()["Ready"] == status)
        assert conditions()["shop/open"] == status
    world.cluster.kubectl("delete", "pod", "gated", "--wait=false")
