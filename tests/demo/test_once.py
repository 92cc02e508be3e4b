"""`motelet demo --once`: the step engine by itself, then the whole demo for real, well and broken."""

import io
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import yaml

from motelet.tools import mpy
from motelet.tools.demo.command import hints
from motelet.tools.demo.once import Step, StepError, run_once, run_step
from motelet.tools.demo.processes import Process, stop_all
from motelet.tools.demo.system import MARKER, System

DEADLINE = 120.0
T = TypeVar("T")
COMMAND = [sys.executable, "-m", "motelet.tools.cli", "demo"]


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Process]:
    process = Process("sleeper", tmp_path)
    process.write_script(["sleep", "1000"], tmp_path, {})
    process.start()
    yield process
    stop_all([process])


def test_a_step_that_happens_takes_its_time(sleeper: Process) -> None:
    looks = iter(["not yet", "nearly", None])
    acts: list[str] = []
    step = Step("it happens", 20, [sleeper], lambda: next(looks), lambda: acts.append("done"))
    assert run_step(step, io.StringIO()) > 0
    assert acts == ["done"]


def test_a_step_that_does_not_happen_says_what_was_seen(sleeper: Process) -> None:
    with pytest.raises(StepError, match=r"not within 0\.05 s: the register holds 20\.0") as caught:
        run_step(Step("never", 0.05, [sleeper], lambda: "the register holds 20.0"), io.StringIO())
    assert caught.value.processes == [sleeper]


def test_a_process_that_ended_is_not_waited_for(sleeper: Process) -> None:
    sleeper.kill()
    with pytest.raises(StepError, match=r"sleeper killed by SIGKILL \(nothing\)") as caught:
        run_step(Step("never", DEADLINE, [sleeper], lambda: "nothing"), io.StringIO())
    assert caught.value.processes == [sleeper]


def test_a_long_wait_shows_progress(sleeper: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motelet.tools.demo.once.PROGRESS_SECONDS", 0.01)
    output = io.StringIO()
    with pytest.raises(StepError):
        run_step(Step("never", 0.1, [sleeper], lambda: "no report"), output)
    assert output.getvalue().startswith("      ... no report\n")


def run_demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "--dir", str(folder), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=DEADLINE)


def no_process_is_left(folder: Path) -> bool:
    return not list(folder.glob("*.pid"))


def device(folder: Path) -> str:
    return (folder / "manifests/thermostat.yaml").read_text()


@pytest.mark.slow
def test_there_and_back_for_real_and_again(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    done = run_demo(folder, "--once")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"^\[\d/4\] ", done.stdout, re.M)) == 4
    assert re.search(r"^there and back +\d+ ms$", done.stdout, re.M)
    assert no_process_is_left(folder)
    assert '"24.5"        # <-- edit me' in device(folder)
    secrets = [path for path in folder.rglob("*") if "key" in path.name]
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}

    again = run_demo(folder, "--once", "--keep")
    assert again.returncode == 0, again.stdout + again.stderr
    assert '"18.5"' in device(folder)

    fresh = run_demo(folder, "--once")
    assert fresh.returncode == 0, fresh.stdout + fresh.stderr
    assert '"24.5"' in device(folder)


@pytest.mark.slow
def test_where_there_is_no_micropython_cpython_runs_the_same_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mpy, "interpreter", lambda: None)
    monkeypatch.setattr(mpy, "interpreter_published", lambda: False)
    system = System(tmp_path / "demo")
    assert system.runtime.startswith("CPython 3.")
    assert hints(system)[-1] == "Note: PyPI has no MicroPython for this computer: CPython runs the same core."
    output = io.StringIO()
    try:
        system.prepare()
        assert run_once(system, output) == 0, output.getvalue()
    finally:
        system.stop()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "step"),
    [
        ("thermostat", "the register holds"),
        ("gateway", "the register holds"),
        ("bridge", "the register holds"),
    ],
)
def test_a_process_that_dies_on_the_way_is_named_with_its_log(tmp_path: Path, victim: str, step: str) -> None:
    system = System(tmp_path / "demo")
    output = io.StringIO()
    process = next(each for each in system.processes if each.name == victim)
    change = system.desire

    def desire(degrees: float) -> None:
        process.kill()
        change(degrees)

    system.desire = desire  # type: ignore[method-assign]
    try:
        system.prepare()
        assert run_once(system, output) == 1
    finally:
        system.stop()
    lines = output.getvalue().splitlines()
    failed = next(index for index, line in enumerate(lines) if line.startswith("FAILED"))
    assert lines[failed].startswith(f"FAILED: {step}")
    assert f"{victim} killed by SIGKILL" in lines[failed]
    assert lines[failed + 1] == f"--- end of {process.log} ---"
    assert len(lines) > failed + 2
    assert no_process_is_left(tmp_path / "demo")


@pytest.mark.slow
def test_a_thermostat_that_cannot_be_reached_fails_the_step_that_needs_it(tmp_path: Path) -> None:
    """The command as a user has it: the thermostat is killed from outside, the exit status tells."""
    folder = tmp_path / "demo"
    command = [*COMMAND, "--dir", str(folder), "--once"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as demo:
        os.kill(int(wait_for(lambda: read(folder / "thermostat.pid"))), signal.SIGKILL)
        told, _ = demo.communicate(timeout=DEADLINE)
    assert demo.returncode == 1
    assert re.search(r"^FAILED: .*thermostat", told, re.M)
    assert no_process_is_left(folder)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_demo_that_is_ended_ends_its_processes(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "demo"
    command = [*COMMAND, "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as demo:
        files = [folder / f"{name}.pid" for name in ("thermostat", "bridge", "gateway")]
        wait_for(lambda: all(map(read, files)))
        pids = [int(read(file)) for file in files]
        demo.send_signal(number)
        told, _ = demo.communicate(timeout=DEADLINE)
    assert demo.returncode == 0, told
    assert "Traceback" not in told
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert no_process_is_left(folder)


def wait_for(look: Callable[[], T]) -> T:
    end = time.monotonic() + DEADLINE
    while not (seen := look()):
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.01)
    return seen


def read(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def test_a_folder_that_is_not_the_demos_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests/mine.yaml").write_text("kind: Device\n")
    (tmp_path / "gateway.pid").touch()
    done = run_demo(tmp_path, "--once")
    assert done.returncode == 1
    assert "choose another with --dir" in done.stderr
    assert {path.name for path in tmp_path.rglob("*")} == {"manifests", "mine.yaml", "gateway.pid"}


def test_a_folder_in_use_is_left_alone(tmp_path: Path, sleeper: Process) -> None:
    (tmp_path / MARKER).touch()
    (tmp_path / "gateway.pid").write_text(str(sleeper.state().pid))
    done = run_demo(tmp_path, "--once")
    assert done.returncode == 1
    assert f"gateway.pid names the live process {sleeper.state().pid}" in done.stderr
    assert not (tmp_path / "manifests").exists()


def test_kept_yaml_that_is_broken_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    System(folder).prepare()
    (folder / "manifests/thermostat.yaml").write_text("kind: [")
    done = run_demo(folder, "--once", "--keep")
    assert done.returncode == 1
    assert "manifests/thermostat.yaml: " in done.stderr
    assert "start without --keep" in done.stderr


def test_the_device_gets_the_port_and_keeps_its_comments(tmp_path: Path) -> None:
    system = System(tmp_path / "demo")
    system.prepare()
    text = system.device_file.read_text()
    spec = yaml.safe_load(text)["spec"]
    assert spec["protocol"]["configData"]["port"] == system.thermostat_port
    assert "# <-- edit me" in text
    system.desire(23.5)
    assert system.device_file.read_text() == text.replace('"21.0"', '"23.5"')
