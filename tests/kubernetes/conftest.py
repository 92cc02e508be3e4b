"""One cluster for all tests of this folder; each test has a namespace, or nodes, of its own in it."""

from collections.abc import Iterator

import pytest

from motelet.tools.kubernetes.cluster import Cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """etcd and kube-apiserver, with RBAC; what a test starts besides them it stops."""
    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running
