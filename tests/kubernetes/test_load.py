"""`motelet load` in front of a real API server: boards with TLS become Nodes, and nothing stays behind."""

import json

import pytest
from kubernetes_world import Objects, prop

from motelet.tools import cli
from motelet.tools.kubernetes.cluster import Cluster
from motelet.tools.load.worlds import NODES

SMALL = ["--nodes", "2", "--devices", "2", "--properties", "2", "--duration", "2", "--json"]  # > a write


def test_a_bridge_before_a_cluster(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--kubernetes", "--kubeconfig", str(cluster.kubeconfig())]
    assert cli.main(["load", *SMALL, "--prefix", "load-kube", *where]) == 0
    figures = [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()]
    assert figures[:4] == [
        "load.connects_per_s", "load.fanout_s", "load.first_reports_s", "load.reports_per_s",
    ]  # fmt: skip
    left = [*cluster.request("GET", NODES)["items"]]
    for plural in ("devices", "devicemodels"):
        left += cluster.request("GET", Objects(cluster).path(plural))["items"]
    assert not [each for each in left if each["metadata"]["name"].startswith(("load-kube", "motelet-load"))]


def test_a_device_of_somebody_else_is_left_alone(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    objects = Objects(cluster)
    objects.model("load-mine", [prop("level")])
    objects.device("load-mine-1-0", "board-of-mine", "load-mine", level="7")
    where = ["--kubernetes", "--kubeconfig", str(cluster.kubeconfig()), "--prefix", "load-mine"]
    assert cli.main(["load", *SMALL, *where]) == cli.EXIT_FAILURE
    error = capsys.readouterr().err
    assert "devices/load-mine-1-0 is there already, and not made by `motelet load`" in error
    assert objects.get("devices", "load-mine-1-0")["spec"]["nodeName"] == "board-of-mine"
    assert objects.get("devices", "load-mine-0-0") is None
