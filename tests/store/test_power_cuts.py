"""Power cuts at every operation of a few steps of every workload; `make torture` does all of them."""

import json
import re

import pytest

from motelet.tools import torture

PARTS = {"mount": 4, "compaction": 8, "stuck": 24, "mixed": 8, "stream": 3, "batch": 4}


@pytest.mark.parametrize("flash", torture.FLASHES)
@pytest.mark.parametrize("workload", torture.WORKLOADS)
def test_nothing_is_lost(workload, flash):
    parts = PARTS.get(workload, 6)
    count, failure = torture.work(torture.Run(workload, flash, 0, part=parts - 1, parts=parts, cuts_max=250))
    assert failure is None
    assert count >= 25


def test_an_id_replays_the_same_cut(capsys):
    idents = list(torture.Run("batch", "nor32", 0, parts=4, cuts_max=40).cuts())
    ident = next(ident for ident in idents if ident.count("+") == 1)
    assert re.fullmatch(r"batch/nor32/0:\d+:\d+\.[a-z-]+\+\d+\.[a-z-]+", ident)
    torture.replay(ident)
    assert capsys.readouterr().out.count("cut at operation") == 2


def test_the_same_seed_makes_the_same_cuts():
    first = list(torture.Run("mixed", "nor32", 5, parts=8, cuts_max=60).cuts())
    assert first == list(torture.Run("mixed", "nor32", 5, parts=8, cuts_max=60).cuts())


def test_the_command_writes_figures_and_fails_when_there_were_too_few_cuts(tmp_path, monkeypatch):
    few = [torture.Run("put", "nor32", 0, parts=6, cuts_max=20), torture.Run("put", "file32", 0, parts=6, cuts_max=20)]
    monkeypatch.setattr(torture, "plan", lambda seeds: few)
    output = tmp_path / "build" / "torture.jsonl"
    assert torture.main(["--processes", "1", "--output", str(output)]) == 1
    assert [json.loads(line) for line in output.read_text().splitlines()] == [
        {"name": "kv.power_cuts", "value": 40, "unit": "count"},
        {"name": "kv.lost", "value": 0, "unit": "count"},
    ]
