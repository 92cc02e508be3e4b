"""The real mpremote on a board whose gateway serves devices: nothing that it does loses store or gateway.

The board is the real MicroPython on a PTY with a real bridge and real Modbus devices.
"""

import functools
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from motelet.kvlog import Store
from motelet.tools import mpy
from motelet.tools.bench import world
from motelet.tools.image import build
from motelet.tools.kv import ImageFlash
from motelet.tools.lint import ROOT
from motelet.tools.simboard import Board

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        mpy.interpreter() is None and not mpy.interpreter_published(),
        reason="no MicroPython for this computer",
    ),
]
TIMEOUT_S = 90
WINDOW_S = 2
BRINGUP = ROOT / "boards" / "bringup.py"
LONG_S = 5  # a copy that is to outlast the watchdog


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """A provisioned board, connected and in step."""
    folder = tmp_path_factory.mktemp("debugging")
    with world.running(folder / "world", tls=True) as peers:
        config = {name: value for name, value in peers.config.items() if name in ("node", "bridge")}
        config["bridge"] = {
            name: value for name, value in config["bridge"].items() if name not in ("ca", "cert", "key")
        }
        config |= {"store": {"path": "store", "size": 131072}, "network": {"wifi": [{"ssid": "Home"}]}}
        config |= {"debug_window_s": WINDOW_S, "sntp": []}
        values = {name: Path(peers.config["bridge"][name]).read_bytes() for name in ("ca", "cert", "key")}
        values |= {"config": json.dumps(config).encode(), "secrets": b'{"wifi": {"Home": "key"}}'}
        board = Board(folder / "board", {"Home": ["key", -60]})
        chip = json.loads((board.state / "chip.json").read_text())
        chip["nvs"]["motelet"] = {name: value.hex() for name, value in values.items()}
        (board.state / "chip.json").write_text(json.dumps(chip))
        for name, content in {**build.in_lib(build.compile_all(folder / "lib")), **build.entry()}.items():
            path = board.files / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        with board:
            board.wait_for("edgehub synced")
            yield board


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and keeps its log to itself."""

    def log_message(self, *_: object) -> None:
        pass


def mpremote(board: Board, *arguments: str, **options: object) -> str:
    """What the real mpremote prints; it must do what it is asked."""
    command = [sys.executable, "-m", "mpremote", "connect", str(board.port), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, (
        f"{done.stdout}{done.stderr}\n{board.output[-2000:].decode(errors='replace')}"
    )
    return str(done.stdout)


def debug(board: Board, what: str) -> str:
    return mpremote(board, "resume", "exec", f"from motelet import debug; debug.{what}()")


def links(board: Board) -> int:
    """How many links the gateway has made; it must be in step."""
    said = debug(board, "status")
    assert "synced" in said, said
    found = re.search(r"links made: (\d+)", said)
    assert found is not None
    return int(found[1])


def back(board: Board, restarts: int) -> None:
    """Wait until the gateway is back after at least one more restart, and look at its store."""
    end = time.monotonic() + TIMEOUT_S
    while not (len(board.restarts) > restarts and b"edgehub synced" in board.output):
        assert time.monotonic() < end, board.output[-3000:].decode(errors="replace")
        time.sleep(0.05)
    intact(board)


def intact(board: Board) -> None:
    """The store, read while nothing writes to it for want of changes, has all that came and no damage."""
    image = b"".join(
        (path.read_bytes() if path.exists() else b"").ljust(4096, b"\xff")
        for path in (board.files / "store" / str(number) for number in range(131072 // 4096))
    )
    store = Store(ImageFlash(image, 4096, 32))
    store.mount()
    assert not store.damaged
    assert len([key for key in store.keys() if "/device/" in key]) == world.DEVICES  # noqa: SIM118


def test_what_debug_says(board: Board) -> None:
    status = debug(board, "status")
    assert "bench on esp32" in status and "links made: 1" in status and "reset      power on" in status
    assert "address    10.0.0.7" in status and "heap_largest 53248" in status
    devices = debug(board, "devices").splitlines()
    assert len(devices) == world.DEVICES and all("properties: 5" in line for line in devices)
    twins = debug(board, "twins")
    assert (
        len(twins.splitlines()) == world.DEVICES * world.PROPERTIES and "desired: 200 reported: 200" in twins
    )
    assert "devicetwin 0 dropped: 0" in debug(board, "queues")
    assert "largest: 53248" in debug(board, "heap") and "python     free:" in debug(board, "heap")
    assert {line.split()[0] for line in debug(board, "tasks").splitlines()} >= {
        "edgehub",
        "repl",
        "guard",
        "uplink",
    }
    assert "damaged: 0" in debug(board, "store")
    assert "edgehub synced" in debug(board, "log")


def test_an_exec_of_five_seconds_loses_no_connection(board: Board) -> None:
    before = links(board)
    assert "slept" in mpremote(board, "resume", "exec", "import time; time.sleep(5); print('slept')")
    assert links(board) == before
    said = mpremote(board, "resume", "eval", "1 + 1")
    assert said.strip() == "2" and not board.restarts


def test_what_goes_wrong_in_an_exec_is_said_and_interrupted(board: Board) -> None:
    command = [sys.executable, "-m", "mpremote", "connect", str(board.port), "resume", "exec"]
    done = subprocess.run([*command, "1 / 0"], capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 1 and "ZeroDivisionError" in done.stdout + done.stderr
    # One that does not end ends by Ctrl-C, which the next mpremote sends first.
    with subprocess.Popen([*command, "while True: pass"], stdout=subprocess.DEVNULL) as process:
        time.sleep(1)
        process.send_signal(signal.SIGKILL)
    before = links(board)
    assert links(board) == before and not board.restarts


def test_files_go_to_a_board_that_serves(board: Board, tmp_path: Path) -> None:
    before = links(board)
    content = os.urandom(15000)
    (tmp_path / "data.bin").write_bytes(content)
    mpremote(board, "resume", "fs", "cp", str(tmp_path / "data.bin"), ":data.bin")
    assert (board.files / "data.bin").read_bytes() == content
    assert "data.bin" in mpremote(board, "resume", "fs", "ls")
    script = tmp_path / "script.py"
    script.write_text("# " + "x" * 3000 + "\nfor i in range(3):\n    print('line', i)\n")
    assert "line 2" in mpremote(board, "resume", "run", str(script))
    (tmp_path / "there.py").write_text("value = 77\n")
    said = mpremote(board, "resume", "mount", str(tmp_path), "exec", "import there; print(there.value)")
    assert "77" in said
    assert links(board) == before and not board.restarts


def test_lines_are_typed_while_the_gateway_runs(board: Board) -> None:
    before = links(board)
    fd = os.open(board.port, os.O_RDWR | os.O_NOCTTY)
    try:
        seen = bytearray()
        # What was written to nobody waits in the line.
        for typed, answer in (
            (b"\x03", b">>> "),
            (b"1 +\x7f+ 1\r", b"2\r\n>>> "),
            (b"for i in (7, 8):\r print(i * 11)\r\r", b"88"),
            (b"undefined\r", b"NameError"),
        ):
            os.write(fd, typed)
            end = time.monotonic() + TIMEOUT_S
            while answer.replace(b"\r\n", b"\n") not in bytes(seen).replace(b"\r\n", b"\n"):
                assert time.monotonic() < end, bytes(seen)
                if select.select([fd], [], [], 0.1)[0]:
                    seen += os.read(fd, 4096)
    finally:
        os.close(fd)
    assert links(board) == before and not board.restarts


def test_the_repl_of_mpremote_is_the_boards_own(board: Board) -> None:
    before = links(board)
    ours, theirs = os.openpty()
    tty.setraw(theirs)  # as mpremote has it, but from the start
    command = [sys.executable, "-m", "mpremote", "connect", str(board.port), "resume", "repl"]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        killer = threading.Timer(TIMEOUT_S * 2, process.kill)
        killer.start()
        seen = bytearray()
        for typed, answer in ((b"", b"Ctrl-]"), (b"\r20 + 2\r", b"22\n"), (b"\x1d", b"")):
            os.write(ours, typed)
            end = time.monotonic() + TIMEOUT_S
            while answer not in bytes(seen).replace(b"\r", b""):
                assert time.monotonic() < end, bytes(seen)
                if select.select([ours], [], [], 0.1)[0]:
                    seen += os.read(ours, 4096)
        assert process.wait(TIMEOUT_S) == 0
        killer.cancel()
    os.close(ours)
    os.close(theirs)
    assert links(board) == before and not board.restarts


def test_a_package_is_installed_beside_the_running_gateway(board: Board, tmp_path: Path) -> None:
    before = links(board)
    (tmp_path / "extra.py").write_text("value = 1\n")
    (tmp_path / "package.json").write_text(json.dumps({"version": "1", "urls": [["extra.py", "extra.py"]]}))
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        mpremote(board, "resume", "mip", "install", f"http://127.0.0.1:{server.server_port}/package.json")
        server.shutdown()
    assert (board.lib / "extra.py").read_text() == "value = 1\n"
    assert links(board) == before and not board.restarts


def test_a_window_opens_anew_after_a_soft_reset(board: Board) -> None:
    before = len(board.restarts)
    assert "stopped" in mpremote(board, "exec", "print('stopped')")
    board.output.clear()
    mpremote(board, "soft-reset")
    back(board, before + 2)
    assert board.restarts[before:] == ["soft", "soft", "reset"]


def test_ctrl_c_three_times_stops_the_gateway_for_a_while(board: Board) -> None:
    before = len(board.restarts)
    board.output.clear()
    fd = os.open(board.port, os.O_RDWR | os.O_NOCTTY)
    try:
        os.write(fd, b"\x03\x03\x03")
        board.wait_for("stopped by the keyboard")
    finally:
        os.close(fd)
    board.output.clear()
    back(board, before)
    assert board.restarts[before:] == ["reset"]


def test_an_mpremote_that_is_killed_half_way_leaves_a_gateway(board: Board, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(os.urandom(200000))
    half = board.files / "half.bin"
    before = len(board.restarts)
    board.output.clear()
    copy = ["fs", "cp", str(tmp_path / "data.bin"), ":half.bin"]
    with subprocess.Popen([sys.executable, "-m", "mpremote", "connect", str(board.port), *copy]) as process:
        end = time.monotonic() + TIMEOUT_S
        while not half.exists() or not half.stat().st_size:
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.02)
        process.kill()
    assert half.stat().st_size < 200000
    back(board, before + 1)
    assert board.restarts[before:] == ["soft", "reset"]


@pytest.mark.parametrize("mounted", [False, True])
def test_an_mpremote_that_is_killed_with_its_program_running_leaves_a_gateway(
    board: Board, tmp_path: Path, mounted: bool
) -> None:
    before = len(board.restarts)
    script = tmp_path / "script.py"
    script.write_text("print('it runs')\nwhile True: pass\n")
    mount = ["mount", str(tmp_path)] if mounted else []
    command = [
        sys.executable,
        "-m",
        "mpremote",
        "connect",
        str(board.port),
        "resume",
        *mount,
        "run",
        str(script),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while b"it runs" not in process.stdout.readline():
            assert process.poll() is None
        process.kill()
    board.output.clear()
    board.watchdog_part = 0.02  # nobody comes to its help, and a minute is long
    try:
        end = time.monotonic() + TIMEOUT_S
        while len(board.restarts) == before:
            assert time.monotonic() < end
            time.sleep(0.02)
    finally:
        board.watchdog_part = 1
    back(board, before)
    assert board.restarts[before:] == ["watchdog"]


def test_an_install_that_is_killed_half_way_leaves_the_gateway_running(board: Board, tmp_path: Path) -> None:
    before, restarts = links(board), len(board.restarts)
    (tmp_path / "package.json").write_text(json.dumps({"version": "1", "urls": [["part.py", "part.py"]]}))
    asked, killed = threading.Event(), threading.Event()

    class Stalling(Quiet):
        def do_GET(self) -> None:
            if self.path.endswith("part.py"):
                asked.set()
                killed.wait(TIMEOUT_S)
            super().do_GET()

    handler = functools.partial(Stalling, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/package.json"
        command = [
            sys.executable,
            "-m",
            "mpremote",
            "connect",
            str(board.port),
            "resume",
            "mip",
            "install",
            url,
        ]
        with subprocess.Popen(command) as process:
            try:
                assert asked.wait(TIMEOUT_S)
            finally:
                process.kill()
                killed.set()
        server.shutdown()
    assert links(board) == before and len(board.restarts) == restarts
    assert not (board.lib / "part.py").exists()
    intact(board)


def test_a_crash_is_told_and_outlives_a_restart(board: Board) -> None:
    code = "def bad(task):\n    raise ValueError('planted crash')\n    yield\n"
    code += "import motelet; motelet.running.loop.spawn('bad', bad)"
    mpremote(board, "resume", "exec", code)
    before = len(board.restarts)
    board.wait_for("planted crash")
    board.output.clear()
    board.power_cut()
    back(board, before)
    said = debug(board, "status")
    assert re.search(r"crash .*ValueError: planted crash", said, re.S), said


def test_the_bring_up_script_passes_without_the_gateway_and_refuses_to_run_beside_it(board: Board) -> None:
    before, restarts = links(board), len(board.restarts)
    said = mpremote(board, "resume", "run", str(BRINGUP))
    assert "FAIL gateway stopped" in said and said.rstrip().endswith("FAIL: 1 failed") and "store" not in said
    assert links(board) == before and len(board.restarts) == restarts
    window(board, 60)  # longer than the script takes
    lines = mpremote(board, "run", str(BRINGUP)).splitlines()
    # The played chip has less memory in one piece than a real one is hoped to have.
    assert [line[:35].rstrip() for line in lines if "FAIL" in line] == [
        "FAIL largest free block at start",
        "FAIL: 1 failed",
    ]
    assert {"tls handshake ms", "put ms", "store reads back"} <= {
        re.split("  +", line[5:])[0] for line in lines if line.startswith("PASS")
    }
    window(board, WINDOW_S)


def copy_longer_than_the_watchdog(board: Board, folder: Path, *resume: str) -> None:
    """Copy a file for longer than the watchdog waits, which is told to wait a twelfth of its minute."""
    source, size, took = folder / "long.bin", 20000, 0.0
    board.watchdog_part = LONG_S / 60
    try:
        while took < LONG_S:
            source.write_bytes(os.urandom(size))
            began = time.monotonic()
            mpremote(board, *resume, "fs", "cp", str(source), ":long.bin")
            took = time.monotonic() - began
            assert (board.files / "long.bin").read_bytes() == source.read_bytes()
            size = int(size * max(1.5, min(1.3 * LONG_S / took, 60)))
    finally:
        board.watchdog_part = 1
    (board.files / "long.bin").unlink()


def test_a_copy_that_takes_longer_than_the_watchdog_beside_the_gateway(board: Board, tmp_path: Path) -> None:
    before, restarts = links(board), len(board.restarts)
    copy_longer_than_the_watchdog(board, tmp_path, "resume")
    assert links(board) == before and len(board.restarts) == restarts
    intact(board)


def test_a_copy_that_takes_longer_than_the_watchdog_without_the_gateway(board: Board, tmp_path: Path) -> None:
    window(board, 60)
    before = len(board.restarts)
    copy_longer_than_the_watchdog(board, tmp_path)
    assert set(board.restarts[before:]) == {"soft"}
    window(board, WINDOW_S)


def window(board: Board, seconds: int) -> None:
    """Have the board keep the debug window open for so long."""
    code = (
        "import json\nfrom motelet.ports.esp32 import settings\n"
        f"config = dict(json.loads(settings.get('config')), debug_window_s={seconds})\n"
        "settings.put('config', json.dumps(config).encode())"
    )
    mpremote(board, "resume", "exec", code)
    restarts = len(board.restarts)
    board.output.clear()
    board.power_cut()
    back(board, restarts)


def test_a_board_that_hangs_is_bitten_by_its_watchdog(board: Board) -> None:
    before = len(board.restarts)
    board.output.clear()
    # Shorter than the board's own, so that the test is.
    code = "import machine; machine.WDT(timeout=1000)\nimport time\nwhile True: time.sleep(1)"
    subprocess.run(
        [sys.executable, "-m", "mpremote", "connect", str(board.port), "resume", "exec", "--no-follow", code],
        timeout=TIMEOUT_S,
        check=True,
    )
    back(board, before)
    assert board.restarts[before:] == ["watchdog"]
    assert "reset      watchdog" in debug(board, "status")
