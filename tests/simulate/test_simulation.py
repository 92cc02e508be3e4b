"""The whole system, simulated: twenty seeds with faults, and one of them twice."""

import os
import subprocess
import sys

import pytest

from motelet.tools.simulate.command import outcomes, replay
from motelet.tools.simulate.simulation import Scale

SEEDS = 20


@pytest.mark.slow
def test_every_promise_is_kept():
    scale = Scale()
    with outcomes(range(SEEDS), scale, 2) as found:
        failures = [f"{replay(each.seed, scale)}: {each.failure}" for each in found if each.failure]
    assert failures == []


def test_the_same_seed_gives_the_same_trace(tmp_path):
    traces = []
    for hash_seed in ("1", "2"):
        path = tmp_path / hash_seed
        command = [sys.executable, "-m", "motelet.tools.cli", "simulate"]
        command += ["--seed", "7", "--minutes", "10", "--gateways", "6", "--trace", str(path)]
        subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": hash_seed}, check=True)
        traces.append(path.read_bytes())
    assert traces[0] == traces[1]
    assert traces[0].count(b"\n") > 500
    assert b" fault " in traces[0]
