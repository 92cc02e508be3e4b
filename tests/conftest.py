"""Settings of all tests: no deadline for hypothesis, because a busy machine is no fault of the code.

Where several processes run the tests (`make test` does), a file stays in one of them; files that share
something that costs much to start, or a folder that one process writes, stay together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from motelet.tools.kubernetes.cluster import Cluster

settings.register_profile("motelet", deadline=None, print_blob=True)
settings.load_profile("motelet")

TOGETHER = {
    "tests/kubernetes/": "kubernetes",
    "tests/edged/test_kubernetes.py": "kubernetes",
    "tests/edged/test_killed.py": "kubernetes",
    "tests/tools/bench/": "bench",
}
"""The beginning of a test's name to the group it belongs to; other files are a group each."""


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """etcd and kube-apiserver, with RBAC, Devices, and the bridge's rights; what a test starts it stops."""
    from kubernetes_world import install

    from motelet.tools.kubernetes.cluster import Cluster

    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        install(running)
        yield running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test its group; groups with slow tests begin first, so that none is left for the end."""
    slow = set()
    for item in items:
        file = item.nodeid.partition("::")[0]
        group = next((name for start, name in TOGETHER.items() if file.startswith(start)), file)
        item.add_marker(pytest.mark.xdist_group(group))
        if item.get_closest_marker("slow"):
            slow.add(group)
    items.sort(key=lambda item: item.get_closest_marker("xdist_group").args[0] not in slow)
