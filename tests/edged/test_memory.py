"""A board whose memory runs out under whatever allocation: who took it is ended, the rest goes on."""

from pathlib import Path

import pytest
import shortages

COUNT = 20
"""`make torture` takes 1,000."""
SEED = 1


@pytest.mark.slow
def test_memory_runs_out_again_and_again(tmp_path: Path) -> None:
    assert shortages.shortages(tmp_path, SEED, COUNT) >= COUNT


@pytest.mark.planted
@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "seen"), [("reserve", "lost"), ("held", "lost"), ("blame", "restartCount")]
)
def test_a_fault_is_found(tmp_path: Path, fault: str, seen: str) -> None:
    with pytest.raises(AssertionError, match=seen):
        shortages.shortages(tmp_path, SEED, COUNT, fault=fault)
