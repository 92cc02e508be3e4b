"""The control plane that the other tests lean on is a real one, and its programs are found or built."""

import json
import urllib.error
from pathlib import Path

import pytest

from motelet.tools.fetch import FetchError
from motelet.tools.kubernetes import components
from motelet.tools.kubernetes.cluster import Cluster, ClusterError


def test_it_is_kubernetes(cluster: Cluster) -> None:
    assert cluster.request("GET", "/version")["gitVersion"] == components.version()
    assert "kube-node-lease" in cluster.kubectl("get", "namespaces", "--output=name")
    with pytest.raises(ClusterError, match="NotFound"):
        cluster.kubectl("get", "node", "nobody")


def test_a_user_may_do_what_rbac_says_and_nothing_else(cluster: Cluster) -> None:
    config = json.loads(cluster.kubeconfig("somebody", ("people",)).read_text())
    assert config["users"][0]["name"] == "somebody"
    with pytest.raises(ClusterError, match='User "somebody" cannot list resource "nodes"'):
        cluster.kubectl(f"--kubeconfig={cluster.kubeconfig('somebody', ('people',))}", "get", "nodes")


def test_the_api_server_can_be_started_again(cluster: Cluster) -> None:
    cluster.request("POST", "/api/v1/namespaces", {"metadata": {"name": "stays"}})
    cluster.stop_component("kube-apiserver")
    with pytest.raises(urllib.error.URLError):
        cluster.request("GET", "/readyz")
    cluster.start_apiserver()
    assert cluster.request("GET", "/api/v1/namespaces/stays")["metadata"]["name"] == "stays"


def test_a_component_that_ends_shows_its_log(tmp_path: Path) -> None:
    broken = Cluster(tmp_path)
    with pytest.raises(ClusterError, match="unknown flag: --no-such-flag"):
        broken.start_apiserver("--no-such-flag")


def test_assets_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kubectl").write_text("")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    assert components.program("kubectl") == tmp_path / "kubectl"
    assert components.program("etcd").parent.name.startswith("kubernetes-v")  # what is not there is built


def test_a_build_that_fails_says_how_to_do_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho module lookup disabled >&2\nexit 1\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(FetchError, match=r"(?s)module lookup disabled.*KUBEBUILDER_ASSETS"):
        components.program("etcd")
