"""One bridge and one board for all the tests of a file; each test finds them empty."""

from collections.abc import Iterator

import pytest
from pod_world import PodWorld


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PodWorld]:
    """A board that runs its applications in its own interpreter."""
    world = PodWorld(tmp_path_factory.mktemp("pods"))
    try:
        world.start()
        yield world
    finally:
        world.stop()
        print(world.bridge_log.read_text()[-4000:], world.gateway_log.read_text()[-4000:], sep="\n")


@pytest.fixture
def world(board: PodWorld) -> Iterator[PodWorld]:
    """The board, emptied afterwards."""
    yield board
    board.clear()
