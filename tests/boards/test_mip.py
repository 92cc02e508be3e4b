"""The parts install with the real `mpremote mip install` from a local index, to a board on a PTY."""

import functools
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from motelet.tools import mpy
from motelet.tools.image import build, index
from motelet.tools.simboard import Board

pytestmark = pytest.mark.skipif(
    mpy.interpreter() is None and not mpy.interpreter_published(), reason="no MicroPython for this computer"
)
TIMEOUT_S = 120


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and keeps its log to itself."""

    def log_message(self, *_: object) -> None:
        pass


def mpremote(board: Board, *arguments: str) -> str:
    """What the real mpremote prints; it must do what it is asked."""
    command = [sys.executable, "-m", "mpremote", "connect", str(board.port), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_part_brings_what_it_needs_and_nothing_else(tmp_path: Path) -> None:
    names = (
        "__init__",
        "sntp",
        "wallclock",
        "broker",
        "eventbus",
    )  # some of each part: mip takes a second a file
    everything = build.compile_all(tmp_path / "lib")
    files = {path: everything[path] for path in (f"motelet/{name}.mpy" for name in names)}
    sizes = index.write(files, tmp_path / "index")
    assert sum(sizes.values()) == sum(map(len, files.values()))
    handler = functools.partial(Quiet, directory=str(tmp_path / "index"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, Board(tmp_path / "board") as board:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        board.wait_for(">>> ")
        mpremote(board, "mip", "install", "--index", url, "motelet-broker")
        parts = index.parts(files)
        there = {
            path.relative_to(board.lib).as_posix(): path.read_bytes() for path in board.lib.rglob("*.mpy")
        }
        assert there == parts["motelet"] | parts["motelet-broker"]
        # The other way mip knows, a package.json by its address.
        mpremote(board, "mip", "install", f"{url}/motelet-mqtt/package.json")
        assert (board.lib / "motelet" / "eventbus.mpy").read_bytes() == parts["motelet-mqtt"][
            "motelet/eventbus.mpy"
        ]
        said = mpremote(board, "exec", "import motelet; print('imported')")
        assert "imported" in said
        server.shutdown()
