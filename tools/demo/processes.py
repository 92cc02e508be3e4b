"""The processes of the demo: started by scripts that a user can run too, logged to files, stopped cleanly.

The demo starts its processes through the very scripts it tells the user to paste, so those are known to
work. A process that a user started with such a script is seen through its pid file, but never stopped: it
is not ours.
"""

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

STOP_SECONDS = 5.0
"""How long a process may take to end itself before it is killed."""

TAIL_SIZE = 16384
EXITED = "exited"
"""How the text of a `State` begins for a process that ended by itself."""

_SCRIPT = """\
#!/bin/sh
# Starts the {name} of the demo (again). Written by `motelet demo` at each start: edits are lost.
pid_file={pid_file}
log={log}
runs() {{ pid=$(cat "$pid_file" 2>/dev/null) && kill -0 "$pid" 2>/dev/null; }}
# A process that was killed a moment ago may need another moment to be gone.
for _ in 1 2 3 4 5 6 7 8 9 10; do
    if runs; then sleep 0.3; fi
done
if runs; then
    echo "the {name} runs already, pid $pid" >&2
    exit 1
fi
cd {folder} || exit 1
echo $$ >"$pid_file" || exit 1
echo "{name}: pid $$, log in $log; Ctrl-C stops it"
exec env {environment} {command} >>"$log" 2>&1
"""


@dataclass(frozen=True)
class State:
    """Whether a process runs, its pid if so, and in words what became of it if not."""

    running: bool
    pid: int | None
    text: str


class Process:
    """One process, its start script and its log, all in the demo's work folder."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.script = folder / f"start-{name}.sh"
        self.log = folder / "logs" / f"{name}.log"
        self.pid_file = folder / f"{name}.pid"
        self._child: subprocess.Popen[bytes] | None = None

    def write_script(self, command: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> None:
        """Write the start script: `command` in the folder `cwd`, with `environment` on top of the user's."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        text = _SCRIPT.format(
            name=self.name,
            folder=shlex.quote(str(cwd)),
            pid_file=shlex.quote(str(self.pid_file)),
            log=shlex.quote(str(self.log)),
            environment=" ".join(shlex.quote(f"{key}={value}") for key, value in environment.items()),
            command=shlex.join(command),
        )
        self.script.write_text(text, encoding="utf-8")
        self.script.chmod(0o755)

    def start(self) -> None:
        """Start it as a child of this process; a log of an earlier run is emptied. Raises OSError."""
        self.log.write_bytes(b"")
        # In a session of its own: Ctrl-C in the terminal reaches the demo alone, which then stops all.
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                ["/bin/sh", str(self.script)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    def state(self) -> State:
        """What it does now, whoever started it."""
        if self._child is not None and self._child.poll() is None:
            return State(True, self._child.pid, "running")
        pid = self._foreign_pid()
        if pid is not None:
            return State(True, pid, "running")
        if self._child is None:
            return State(False, None, "not started")
        return State(False, None, _how_it_ended(self._child.returncode))

    def kill(self) -> None:
        """Kill our child at once (SIGKILL), as the power cut of a gateway would."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def request_stop(self) -> None:
        """Ask our child to end; returns at once."""
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()

    def finish_stop(self) -> int | None:
        """Wait until our child has ended, by force after STOP_SECONDS. Returns the pid of one not ours."""
        if self._child is not None:
            try:
                self._child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        foreign = self._foreign_pid()
        if foreign is None:
            self.pid_file.unlink(missing_ok=True)
        return foreign

    def tail(self, lines: int) -> list[str]:
        """The last lines of the log, as far as they are within its last TAIL_SIZE bytes."""
        if not self.log.exists():
            return []
        with self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_SIZE))
            return log.read().decode(errors="replace").splitlines()[-lines:]

    def _foreign_pid(self) -> int | None:
        """The pid of a live process that the pid file names and that is not our child."""
        try:
            pid = int(self.pid_file.read_text())
            if self._child is not None and pid == self._child.pid:
                return None
            os.kill(pid, 0)
        except (FileNotFoundError, ValueError, ProcessLookupError):
            return None
        except PermissionError:
            # Somebody else's process: the number was given out again since.
            return None
        return pid


def stop_all(processes: Sequence[Process]) -> list[str]:
    """Stop our children, all at the same time. Returns a line for each process that goes on without us."""
    for process in processes:
        process.request_stop()
    left = ((process, process.finish_stop()) for process in processes)
    return [
        f"{process.name}: was started outside the demo and runs on; end it with: kill {pid}"
        for process, pid in left
        if pid
    ]


def _how_it_ended(status: int) -> str:
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"{EXITED} with status {status}"
