"""Settings of all tests: no deadline for hypothesis, because a busy machine is no fault of the code.

Where several processes run the tests (`make test` does), a file stays in one of them; files that share
something that costs much to start, or a folder that one process writes, stay together.
"""

import pytest
from hypothesis import settings

settings.register_profile("motelet", deadline=None, print_blob=True)
settings.load_profile("motelet")

TOGETHER = {
    "tests/kubernetes/": "kubernetes",
    "tests/edged/test_kubernetes.py": "kubernetes",
    "tests/tools/bench/": "bench",
}
"""The beginning of a test's name to the group it belongs to; other files are a group each."""


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
