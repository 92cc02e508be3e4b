"""The bring-up script says PASS and FAIL line by line, on the real MicroPython with doubles of the chip."""

import re
import socket
from pathlib import Path

from interpreters import running

from motelet.tools.lint import ROOT

CLIENT = Path(__file__).with_name("bringup_client.py")
SCRIPT = ROOT / "boards" / "bringup.py"


def bring_up(state: str) -> list[str]:
    """The lines it prints, against a bridge that hangs up at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    folders = (ROOT / "tools" / "simboard",)
    arguments = (str(SCRIPT), str(port), state)
    with running("micropython", CLIENT, *arguments, folders=folders, heap="1M") as process:
        assert process.stdout is not None
        lines = process.stdout.read().splitlines()
    assert process.returncode == 0, "\n".join(lines)
    return lines


def test_what_is_well_passes_and_what_is_not_fails_by_name() -> None:
    lines = bring_up("provisioned")
    said = {re.split(r"  +", line[5:])[0]: line[:4] for line in lines if re.match("PASS |FAIL ", line)}
    names = re.findall(r'^    "([a-z ]+?)(?:_min)?": \d', SCRIPT.read_text(), re.M)
    assert len(names) == 11
    assert {name for name, word in said.items() if word == "FAIL"} == {"tls"}
    assert set(names) - said.keys() == {"tls handshake ms", "largest free block with tls"}
    assert said["uart1"] == said["store reads back"] == "PASS"
    assert lines[-1] == "FAIL: 1 failed"


def test_a_board_that_is_not_provisioned_is_told_so() -> None:
    lines = bring_up("new")
    assert "run motelet provision first" in "\n".join(lines)
    assert lines[-1] == "FAIL: 1 failed"
