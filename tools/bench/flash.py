"""How long it takes to provision a board: code and settings, over a PTY, to the real MicroPython."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator

from motelet.tools import cli
from motelet.tools.bench import interpreters
from motelet.tools.bench.figures import Figure
from motelet.tools.image import build
from motelet.tools.simboard import Board

NETWORK = "bench"


def measure() -> Iterator[Figure]:
    """`flash.provision_s`: everything a board is given and its settings, written and read back.

    A PTY has no baud rate: a real line of 115,200 baud adds some ten seconds for the code.
    """
    folder = interpreters.ROOT / "flash"
    shutil.rmtree(folder, ignore_errors=True)
    lib = folder / "lib"
    files = build.compile_all(lib)
    secrets = folder / "secrets.json"
    secrets.write_text(json.dumps({"token": "none", "wifi": {NETWORK: "none"}}))
    with Board(folder / "board") as board:
        board.wait_for(">>> ")
        began = time.perf_counter()
        arguments = ["--node", "bench", "--bridge", "bench.invalid:10000", "--wifi", NETWORK]
        arguments += ["--secrets", str(secrets), "--port", str(board.port), "--files", str(lib)]
        if cli.main(["provision", *arguments]):
            raise cli.UserError("the board was not provisioned")
        yield Figure("flash.provision_s", time.perf_counter() - began, "s", len(files))
