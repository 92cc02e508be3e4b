"""Programs are found on PATH or fetched whole, once; what cannot be had is named with its command."""

import os
import subprocess
import threading
from pathlib import Path

import pytest

from motelet.tools import fetch


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "motelet"


def fake_program(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return program


def test_cache_folder_respects_xdg(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetch.cache_folder() == cache
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert fetch.cache_folder() == Path.home() / ".cache" / "motelet"


def test_what_is_on_path_is_taken(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = fake_program(tmp_path / "bin", "mosquitto", "exit 0")
    program = fake_program(tmp_path / "bin", "node", "echo v20.1.0")
    fake_program(tmp_path / "bin", "npm", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    assert fetch.mosquitto().command == [str(broker)]
    assert fetch.node().command == [str(program)]
    assert not cache.exists()


def test_mosquitto_runs(tmp_path: Path) -> None:
    program = fetch.mosquitto()
    done = subprocess.run(
        [*program.command, "-h"], env=program.environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.startswith("mosquitto version")


def test_no_debian_says_how_to_install(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_path_with_sbin", lambda: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(fetch.FetchError, match="sudo apt-get install mosquitto"):
        fetch.mosquitto()
    assert not (cache / "mosquitto").exists()
    assert fetch.main(["mosquitto"]) == 1


def test_an_old_node_is_not_taken(tmp_path: Path) -> None:
    assert fetch._node_major(str(fake_program(tmp_path, "old", "echo v12.22.0"))) < fetch.NODE_MAJOR_MIN
    assert fetch._node_major(str(fake_program(tmp_path, "broken", "exit 3"))) == 0
    assert fetch._node_major(str(fake_program(tmp_path, "odd", "echo hello"))) == 0


def test_a_failed_fetch_leaves_nothing_behind(cache: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("")
        raise fetch.FetchError("the network is down")

    with pytest.raises(fetch.FetchError, match="network"):
        fetch.once("thing", fail)
    assert [path.name for path in cache.iterdir()] == ["thing.lock"]


def test_two_at_once_fetch_once(cache: Path) -> None:
    calls = []

    def fill(folder: Path) -> None:
        calls.append(folder)
        (folder / "file").write_text("x")

    threads = [threading.Thread(target=fetch.once, args=("thing", fill)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert (cache / "thing" / "file").read_text() == "x"


def test_a_failing_command_shows_what_it_said() -> None:
    with pytest.raises(fetch.FetchError, match="sh exited with 3: no luck"):
        fetch._checked(["sh", "-c", "echo no luck >&2; exit 3"])


def test_a_command_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "COMMAND_TIMEOUT_S", 0.1)
    with pytest.raises(fetch.FetchError, match="did not finish"):
        fetch._checked(["sleep", "60"])
