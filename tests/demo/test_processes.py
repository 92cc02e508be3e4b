"""Starting, watching and stopping processes through the scripts that a user can paste."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from motelet.tools.demo import processes
from motelet.tools.demo.processes import Process, stop_all

SERVE = "import os, time; print('hello', os.environ['GREETING'], os.getcwd(), flush=True); time.sleep(1000)"
DEADLINE = 20.0


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.01)


def make(folder: Path, code: str = SERVE) -> Process:
    process = Process("sleeper", folder)
    process.write_script([sys.executable, "-c", code], folder, {"GREETING": 'it\'s "me" $HOME'})
    return process


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    # Every name in the scripts must survive a shell.
    folder = tmp_path / "a folder's $name"
    folder.mkdir()
    return folder


@pytest.fixture
def process(folder: Path) -> Iterator[Process]:
    process = make(folder)
    yield process
    stop_all([process])


def test_it_runs_with_its_environment_in_its_folder(process: Process, folder: Path) -> None:
    assert process.state().text == "not started"
    process.start()
    wait_for(lambda: process.tail(1))
    assert process.tail(1) == [f'hello it\'s "me" $HOME {folder}']
    state = process.state()
    assert state.running
    assert process.pid_file.read_text().strip() == str(state.pid)


def test_what_became_of_it_is_told(process: Process, folder: Path) -> None:
    process.start()
    pid = process.state().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not process.state().running)
    assert process.state().text == "killed by SIGKILL"
    failing = make(folder, "raise SystemExit(3)")
    failing.start()
    wait_for(lambda: not failing.state().running)
    assert failing.state().text == "exited with status 3"


def test_a_user_starts_it_again_with_the_script(process: Process) -> None:
    process.start()
    process.kill()
    with subprocess.Popen([process.script], stdout=subprocess.PIPE, text=True) as users:
        try:
            assert users.stdout is not None
            assert f"pid {users.pid}" in users.stdout.readline()
            wait_for(lambda: process.state().running)
            assert process.state().pid == users.pid
            # It is the user's: the demo leaves it alone and says so.
            left = stop_all([process])
            assert left == [
                f"sleeper: was started outside the demo and runs on; end it with: kill {users.pid}"
            ]
            assert users.poll() is None
        finally:
            users.kill()


def test_the_script_refuses_a_second_one(process: Process) -> None:
    process.start()
    wait_for(lambda: process.tail(1))
    done = subprocess.run([process.script], check=False, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 1
    assert done.stderr == f"the sleeper runs already, pid {process.state().pid}\n"
    assert process.state().running


def test_a_pid_file_of_a_process_that_is_gone_means_nothing(process: Process) -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    for content in (str(gone.pid), "", "no number"):
        process.pid_file.write_text(content)
        assert not process.state().running


def test_one_that_does_not_listen_is_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.2)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True)"
    process = make(folder, deaf + "; time.sleep(1000)")
    process.start()
    wait_for(lambda: process.tail(1))
    assert stop_all([process]) == []
    assert process.state().text == "killed by SIGKILL"
    assert not process.pid_file.exists()


def test_the_tail_is_the_end_of_the_log(process: Process) -> None:
    assert process.tail(3) == []
    process.log.write_bytes(b"x" * processes.TAIL_SIZE + b"1\n2\n\xff3\n4\n")
    assert process.tail(2) == ["\N{REPLACEMENT CHARACTER}3", "4"]
