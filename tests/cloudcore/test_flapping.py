"""The short version of `flapping.py`, which `make torture` runs for ten minutes with 500 boards."""

import asyncio
import random

import flapping
import pytest

pytestmark = pytest.mark.slow


def test_links_flap_and_nothing_is_lost(tmp_path):
    seed = random.randrange(2**32)
    print("seed", seed)
    samples = asyncio.run(flapping.flap(20, 4, seed, tmp_path))
    assert samples


def test_memory_that_grows_is_seen():
    assert flapping.growth([50.0] * 100) == 1.0
    assert flapping.growth([50 + each / 5 for each in range(100)]) > flapping.GROWTH_MAX
