"""`motelet bridge refill` as a process, on a real API server with KubeEdge's ObjectSyncs."""

import asyncio
import os
import subprocess
import sys

import pytest
import yaml

from cloud_bridge.backends.cloudcore.backend import lock
from cloud_bridge.backends.cloudcore.mirror import Mirror
from cloud_bridge.backends.cloudcore.refill import SYNCS
from cloud_bridge.backends.cloudcore.registration import MIRROR
from motelet.tools.kubernetes.cluster import Cluster

GROUP, VERSION = SYNCS.split("/")[2:]
ANY = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def definition(kind: str, scope: str) -> dict:
    """As much of KubeEdge's definition as matters here: that the status is written apart."""
    plural = f"{kind.lower()}s"
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": ANY, "status": ANY}}}
    version = {"name": VERSION, "served": True, "storage": True, "schema": schema}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": scope,
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "versions": [{**version, "subresources": {"status": {}}}],
        },
    }


@pytest.fixture
def syncs(cluster: Cluster):
    found = [definition("ObjectSync", "Namespaced"), definition("ClusterObjectSync", "Cluster")]
    cluster.kubectl("apply", "--filename=-", stdin=yaml.safe_dump_all(found))
    names = [each["metadata"]["name"] for each in found]
    cluster.kubectl("wait", "--for=condition=established", "crd", *names)
    yield
    cluster.kubectl("delete", "crd", *names)


def sync(cluster: Cluster, name: str, kind: str, of: str) -> str:
    """An ObjectSync that says that this was acknowledged; -> its path."""
    folder = f"{SYNCS}/namespaces/default/objectsyncs"
    body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "ObjectSync", "metadata": {"name": name}}
    spec = {"objectAPIVersion": "v1", "objectKind": kind, "objectName": of}
    cluster.request("POST", folder, {**body, "spec": spec})
    status = {"status": {"objectResourceVersion": "77"}}
    cluster.request("PATCH", f"{folder}/{name}/status", status, "application/merge-patch+json")
    return f"{folder}/{name}"


def refill(cluster: Cluster, folder, *nodes: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "motelet.tools.cli",
        "bridge",
        "refill",
        "--cloudcore-state",
        str(folder),
    ]
    command += ["--kubeconfig", str(cluster.kubeconfig()), *nodes]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=dict(os.environ))


def test_the_command_sets_back_what_cloudcore_remembers_and_takes_the_node(cluster, syncs, tmp_path):
    cluster.request("POST", "/api/v1/nodes", {"metadata": {"name": "kitchen.1"}})
    mine = [
        sync(cluster, "kitchen.1.u1", "Device", "lamp"),
        sync(cluster, "kitchen.1.u2", "ConfigMap", "app"),
    ]
    other = sync(cluster, "kitchen.u", "Device", "fan")

    done = refill(cluster, tmp_path, "kitchen.1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "kitchen.1: 2 objects to come, once the bridge has started\n"
    versions = [cluster.request("GET", path)["status"]["objectResourceVersion"] for path in (*mine, other)]
    assert versions == ["0", "0", "77"]

    store = Mirror(tmp_path / "mirror.db")
    node = cluster.request("GET", "/api/v1/nodes/kitchen.1")
    assert node["metadata"]["annotations"][MIRROR] == store.id
    assert set(store.expected()) == {
        ("kitchen.1", "default/device/lamp"),
        ("kitchen.1", "default/configmap/app"),
    }
    asyncio.run(store.close())

    with lock(tmp_path):
        done = refill(cluster, tmp_path, "kitchen.1")
    assert done.returncode == 1
    assert done.stderr == f"motelet bridge: another bridge has the state folder {tmp_path}\n"
    done = refill(cluster, tmp_path, "nowhere")
    assert done.returncode == 1
    assert "nowhere" in done.stderr and len(done.stderr.splitlines()) == 1
    cluster.request("DELETE", "/api/v1/nodes/kitchen.1")
