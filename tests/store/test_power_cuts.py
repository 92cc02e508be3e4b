"""Power cuts at every operation of a few steps of every workload; `make torture` does all of them."""

import json
import re

import pytest

from motelet.tools import torture

PARTS = {"mount": 4, "compaction": 8, "stuck": 24, "mixed": 8, "stream": 3, "batch": 4}


@pytest.mark.parametrize("flash", torture.FLASHES)
@pytest.mark.parametrize("workload", torture.WORKLOADS)
def test_nothing_is_lost(workload, flash):
    count, failure = torture.work(torture.Run(workload, flash, 0, parts=PARTS.get(workload, 6), cuts_max=120))
    assert failure is None
    assert count >= 25


# Cuts that found a mistake which those above miss; the comment says which. (Ids change with the workloads.)
LESSONS = [
    "mount/nor32/2:0:13.done+14.torn-weak",  # the block to fall back on was erased
    "mount/nor256/3:1:0.lost+3.torn-weak",  # the same
    "batch/nor256/2:0:0.done",  # a delete of a batch that was cut was copied
    "mixed/nor256/2:7:1.done",  # the same
    "stuck/nor32/2:17:0.done+2.last+4.torn",  # no block to open but the one to fall back on
]


@pytest.mark.parametrize("ident", LESSONS)
def test_lessons(ident):
    torture.replay(ident)


def test_an_id_replays_the_same_cut(capsys):
    idents = list(torture.Run("batch", "nor32", 0, parts=4, cuts_max=120).cuts())
    ident = next(ident for ident in idents if ident.count("+") == 1)
    assert re.fullmatch(r"batch/nor32/0:\d+:\d+\.[a-z-]+\+\d+\.[a-z-]+", ident)
    torture.replay(ident)
    assert capsys.readouterr().out.count("cut at operation") == 2


def test_the_same_seed_makes_the_same_cuts():
    first = list(torture.Run("mixed", "nor32", 5, parts=8, cuts_max=120).cuts())
    assert first == list(torture.Run("mixed", "nor32", 5, parts=8, cuts_max=120).cuts())


def test_the_command_writes_figures_and_fails_when_there_were_too_few_cuts(tmp_path, monkeypatch):
    few = [
        torture.Run("put", "nor32", 0, parts=6, cuts_max=120),
        torture.Run("put", "file32", 0, parts=6, cuts_max=120),
    ]
    monkeypatch.setattr(torture, "plan", lambda seeds: few)
    output = tmp_path / "build" / "torture.jsonl"
    assert torture.main(["--processes", "1", "--output", str(output)]) == 1
    figures = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(each["name"], each["value"]) for each in figures] == [("kv.power_cuts", 240), ("kv.lost", 0)]
