"""A board's start, on the real MicroPython with doubles of the chip's modules: what comes before what."""

import json
import socket
from pathlib import Path

from interpreters import running

from motelet.tools.lint import ROOT

CLIENT = Path(__file__).with_name("board_client.py")
HEAP = "512K"  # the doubles and this program are compiled there: it is the order that is tested
DOUBLES = ROOT / "tools" / "simboard"


def test_the_network_and_tls_memory_come_before_the_rest_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with running(
            "micropython", CLIENT, str(server.getsockname()[1]), folders=(DOUBLES,), heap=HEAP
        ) as process:
            assert process.stdout is not None
            output = process.stdout.read().splitlines()
    assert process.returncode == 0, "\n".join(output)
    lines = [json.loads(line) for line in output if line.startswith("{")]
    told = {line["event"]: line for line in reversed(lines)}  # the first of each
    assert told["wifi"]["gateway"] is False
    assert told["reserve"]["gateway"] is False
    assert told["started"]["tasks"] == ["metamanager", "devicetwin", "edgehub", "uplink", "repl", "guard"]
    assert told["started"]["reserved"] is True
    assert told["ran"]["fed"] >= 1 and told["ran"]["reset"] == "power on"
    # A connection without TLS leaves the reserve alone, the first with TLS takes its place.
    assert told["dialled"]["reserved"] is False
    assert told["crash"]["text"].endswith("ValueError: planted")
    assert told["restart"]["why"] == "reset" and "no partition none" in told["restart"]["text"]
    text = "\n".join(output)
    assert "not provisioned" in text
    assert "motelet: node: expected str" in text and "motelet: network: either" in text
    assert "motelet: config is no JSON" in text
    assert "key" not in text.replace("keyboard", "")  # neither the Wi-Fi's nor any other
