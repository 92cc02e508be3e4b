"""Hints of Linux' inotify; where there is none, an error that says so."""

import os
import resource
import sys

import pytest

from cloud_bridge.backends.inotify import Hints


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux' own")
def test_hints_name_files_that_were_closed_or_moved_here(tmp_path):
    hints = Hints(tmp_path)
    assert hints.closed() == set()
    with open(tmp_path / "a.yaml", "w") as file:
        file.write("half")
        file.flush()
        assert hints.closed() == set()
    (tmp_path / "x").write_text("x")
    os.replace(tmp_path / "x", tmp_path / "b.yaml")
    assert hints.closed() == {"a.yaml", "x", "b.yaml"}
    assert hints.fileno() > 2
    hints.close()
    with pytest.raises(OSError, match="No such file"):
        Hints(tmp_path / "missing")


def test_without_inotify_there_are_no_hints(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(OSError, match="no inotify"):
        Hints(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux' own")
def test_without_a_free_descriptor_there_are_no_hints(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            Hints(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
