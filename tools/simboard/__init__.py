"""A board on a serial line that is not there: the real MicroPython on a PTY, restarted as a chip would be.

Tools that speak to boards (mpremote, `motelet provision`) are run against it. What a chip has and a computer
has not is played: the modules `machine`, `esp32` and `network` (esp_doubles), soft and hard resets, a
watchdog that bites, and a cable that can be pulled. The file system is a folder.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import termios
import threading
import time
import tty
from pathlib import Path

from motelet.tools import mpy

HERE = Path(__file__).parent
HEAP = "1M"  # it is the protocol that is played, not the memory
_RAW_BANNER = b"raw REPL; CTRL-B to exit\r\n>"
_PROMPT = b">>> "
_TICK_S = 0.02
_PAUSE_S = 0.001
_CTRL_A, _CTRL_B = b"\x01\x02"


class Board:
    """One board. `port` is what tools open; `files` is its file system, `state` what outlives a restart.

    A context manager: inside it the board has power. `restarts` notes each restart: "soft", or what the chip
    told: "reset", "watchdog", "deepsleep". `watchdog_part` of its time is what the watchdog waits.
    """

    def __init__(self, folder: Path, access_points: dict[str, list[object]] | None = None) -> None:
        self.port = folder / "ttyUSB0"
        self.files = folder / "files"
        self.state = folder / "state"
        self.lib = self.files / "lib"
        self.lib.mkdir(parents=True)
        self.state.mkdir()
        self.restarts: list[str] = []
        self.watchdog_part = 1.0
        self.output = bytearray()  # all that the board has written
        (self.state / "chip.json").write_text(json.dumps({"aps": access_points or {}, "nvs": {}, "cause": 1}))
        self._running = True
        self._outer = -1
        self._inner = -1
        self._process: subprocess.Popen[bytes] | None = None
        self._raw = False
        self._held = bytearray()  # output that is not shown: up to the first prompt after a raw soft reset
        self._hold = False
        self._lock = threading.RLock()
        self._thread = threading.Thread(target=self._pump, daemon=True)

    def __enter__(self) -> Board:
        self.plug()
        self._spawn(main=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._running = False
        self._thread.join()
        self._kill()
        self.unplug()

    def plug(self) -> None:
        """Connect the cable: `port` is there."""
        with self._lock:
            master, slave = os.openpty()
            tty.setraw(slave)
            self.port.symlink_to(os.ttyname(slave))
            self._slave = slave  # kept open, so that a tool that closes its end hangs nobody up
            self._outer = master

    def unplug(self) -> None:
        """Pull the cable, whatever is being said on it."""
        with self._lock:
            if self._outer >= 0:
                self.port.unlink()
                os.close(self._outer)
                os.close(self._slave)
                self._outer = -1

    def power_cut(self) -> None:
        """Take the power, and give it back."""
        with self._lock:
            (self.state / "rtc").unlink(missing_ok=True)
            (self.state / "why").write_text("power")
            self._kill()

    def nvs(self) -> dict[str, bytes]:
        """What the board has in its NVS, in motelet's namespace."""
        stored = json.loads((self.state / "chip.json").read_text())["nvs"].get("motelet", {})
        return {name: bytes.fromhex(value) for name, value in stored.items()}

    def wait_for(self, text: str, timeout_s: float = 20) -> None:
        """Wait until the board has written `text`. AssertionError with all it wrote, when it does not."""
        end = time.monotonic() + timeout_s
        while text.encode() not in self.output:
            assert time.monotonic() < end, f"{text!r} did not come:\n{self.output.decode(errors='replace')}"
            time.sleep(_TICK_S)

    def _spawn(self, main: bool) -> None:
        interpreter = mpy.interpreter()
        assert interpreter is not None
        master, slave = os.openpty()
        tty.setraw(slave)
        attributes = termios.tcgetattr(slave)
        attributes[3] |= termios.ISIG  # Ctrl-C interrupts, until the program wants it as a byte
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        for name in ("why", "repl", "watchdog"):
            (self.state / name).unlink(missing_ok=True)
        self._hold = not main
        self._raw = False
        environment = {
            **mpy.environment(self.lib),
            "SIM_STATE": str(self.state),
            "SIM_MAIN": "1" if main else "",
        }
        environment["SIM_CODE"] = str(HERE)
        self._process = subprocess.Popen(
            # The leader of a session gets the first terminal that it opens as its own.
            ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(slave), *interpreter, "-X"]
            + [f"heapsize={HEAP}", "-i", str(HERE / "firmware.py")],
            cwd=self.files,
            env=environment,
            start_new_session=True,
        )
        self._inner = master
        self._inner_slave = slave  # kept open: its settings last as long as somebody has it open

    def _kill(self) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _pump(self) -> None:
        while self._running:
            with self._lock:
                ends = [end for end in (self._outer, self._inner) if end >= 0]
                ready = select.select(ends, [], [], 0)[0]
                for end in ready:
                    self._copy(end)
                self._watch()
            if not ready:
                time.sleep(_PAUSE_S)

    def _copy(self, end: int) -> None:
        try:
            data = os.read(end, 4096)
        except OSError:
            data = b""  # nobody has the other end open
        if end == self._outer:
            for byte in data:
                if byte in (_CTRL_A, _CTRL_B):
                    self._raw = byte == _CTRL_A
            if data:
                os.write(self._inner, data)
        elif data:
            self._say(data)

    def _say(self, data: bytes) -> None:
        if self._hold:
            self._held += data
            if _PROMPT not in self._held:
                return
            # The firmware would be in the raw REPL from the start.
            self._hold = False
            self._held.clear()
            self._raw = True
            os.write(self._inner, b"\x01")
            return
        self.output += data
        if self._outer >= 0:
            try:
                os.write(self._outer, data)
            except OSError:
                pass  # nobody listens

    def _watch(self) -> None:
        assert self._process is not None
        watchdog = self.state / "watchdog"
        if self._process.poll() is None:
            try:
                age = time.time() - watchdog.stat().st_mtime
                if age * 1000 > int(watchdog.read_text() or "1000000") * self.watchdog_part:
                    (self.state / "why").write_text("watchdog")
                    self._kill()
            except FileNotFoundError:
                pass
            return
        while select.select([self._inner], [], [], 0)[0]:
            try:
                self._say(os.read(self._inner, 4096))
            except OSError:
                break
        os.close(self._inner)
        os.close(self._inner_slave)
        why = self.state / "why"
        reason = why.read_text() if why.exists() else "soft"
        self.restarts.append(reason)
        chip = json.loads((self.state / "chip.json").read_text())
        chip["cause"] = {"soft": 5, "watchdog": 3, "deepsleep": 4, "power": 1}.get(reason, 2)
        (self.state / "chip.json").write_text(json.dumps(chip))
        # A soft reset from the raw REPL runs boot.py only, and is in the raw REPL again.
        raw = reason == "soft" and self._raw and (self.state / "repl").exists()
        if reason == "soft":
            self._hold = False
            self._say(b"MPY: soft reboot\r\n")
        self._spawn(main=not raw)
