"""The whole system, simulated: twenty seeds with faults, and one of them twice."""

import os
import subprocess
import sys

import pytest

from motelet import kvblock
from motelet.tools.simulate.command import outcomes, replay
from motelet.tools.simulate.simulation import Scale, Simulation
from motelet.tools.simulate.worlds import run_world

SEEDS = 20


@pytest.mark.slow
def test_every_promise_is_kept():
    scale = Scale()
    with outcomes(range(SEEDS), scale, 2) as found:
        failures = [f"{replay(each.seed, scale)}: {each.failure}" for each in found if each.failure]
    assert failures == []


def test_a_store_that_breaks_the_rules_of_flash_is_a_broken_promise(monkeypatch):
    monkeypatch.setattr(kvblock, "_erase", lambda store, block: True)
    # It takes a while until a block is opened that was in use.
    outcome = Simulation(3, Scale(minutes=20, gateways=1, devices=4)).run()
    assert "program over programmed bytes" in (outcome.failure or "")


def test_a_seed_does_the_same_alone_as_among_others():
    scale = Scale(minutes=4, gateways=4, devices=4, fault_every=20)
    seeds = range(8, 12)  # of two worlds
    with outcomes(seeds, scale, 2) as found:
        among_others = sorted(found, key=lambda each: each.seed)
    assert among_others == [Simulation(seed, scale).run() for seed in seeds]
    assert all(each.failure is None and each.faults for each in among_others)


def test_a_seed_whose_process_dies_is_named(monkeypatch):
    monkeypatch.setattr(Simulation, "go_on", lambda *_: os._exit(3))
    with pytest.raises(RuntimeError, match="seed 11: its process ended with 3"):
        run_world([11], Scale(minutes=1, gateways=1, devices=1))


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
