"""One cluster for all tests of this folder; each test has nodes and devices with names of its own in it."""

from collections.abc import Iterator

import pytest
from kubernetes_world import install

from motelet.tools.kubernetes.cluster import Cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """etcd and kube-apiserver, with RBAC, Devices, and the bridge's rights; what a test starts it stops."""
    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        install(running)
        yield running
