"""What `motelet demo` tells the user to try, tried: each edit and each kill, and what is then shown."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

DEADLINE = 120.0
pytestmark = pytest.mark.slow


class Shown:
    """A running demo without a terminal; `lines` is what it has printed so far, without the times."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[str] = []
        command = [sys.executable, "-m", "motelet.tools.cli", "demo", "--dir", str(folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(re.sub(r"^[0-9:]{8} |\n$", "", line))

    def expect(self, pattern: str, act: Callable[[], None] = lambda: None) -> re.Match[str]:
        """Wait for a new line that matches, after `act`."""
        seen = len(self.lines)
        act()
        end = time.monotonic() + DEADLINE
        while True:
            for line in self.lines[seen:]:
                if found := re.search(pattern, line):
                    return found
            assert time.monotonic() < end, f"no line with {pattern}: {self.lines[seen:]}"
            time.sleep(0.01)

    def edit(self, old: str, new: str) -> None:
        """Write the device's YAML as an editor does that writes in place."""
        path = self.folder / "manifests/thermostat.yaml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def kill(self, name: str) -> None:
        os.kill(int((self.folder / f"{name}.pid").read_text()), signal.SIGKILL)

    def close(self) -> None:
        self.process.terminate()
        assert self.process.wait(DEADLINE) == 0
        self._reader.join()


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Shown]:
    shown = Shown(tmp_path / "demo")
    yield shown
    shown.close()


@pytest.fixture
def users() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that the user starts in another terminal."""
    users: list[subprocess.Popen[bytes]] = []
    yield users
    for process in users:
        process.kill()
        process.wait()


def test_an_edit_arrives_and_a_mistake_is_named(shown: Shown) -> None:
    shown.expect(r"setpoint: desired 21\.0 reported 21(\.0)? \(in-sync\)")
    shown.expect(r"desired 24\.5 reported 24\.5 \(in-sync\)", lambda: shown.edit('"21.0"', '"24.5"'))
    shown.expect(
        r"^thermostat\.yaml, line \d+: 99 is more than the maximum", lambda: shown.edit('"24.5"', '"99"')
    )
    shown.expect(r"^thermostat\.yaml, line \d+: .*scalar", lambda: shown.edit('"99"', '"99'))
    shown.expect(r"desired 18\.5 reported 18\.5 \(in-sync\)", lambda: shown.edit('"99', '"18.5"'))


@pytest.mark.parametrize("name", ["gateway", "bridge", "thermostat"])
def test_a_process_that_was_killed_is_started_again(
    shown: Shown, users: list[subprocess.Popen[bytes]], name: str
) -> None:
    shown.expect(r"setpoint: .*\(in-sync\)")
    shown.expect(f"^{name}: killed by SIGKILL", lambda: shown.kill(name))
    shown.expect(r"setpoint: desired 24\.5 .*\(offline\)", lambda: shown.edit('"21.0"', '"24.5"'))
    script = shown.folder / f"start-{name}.sh"
    assert any(line == f"  start  sh {script}   # the {name} again" for line in shown.lines)
    shown.expect(
        r"desired 24\.5 reported 24\.5 \(in-sync\)", lambda: users.append(subprocess.Popen(["sh", script]))
    )
