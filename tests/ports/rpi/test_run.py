"""`motelet gateway --port rpi` as systemd runs it: it says when it serves, and that it is well."""

import configparser
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from motelet.ports import rpi
from motelet.ports.rpi.run import Notifier, healthy

UNIT = Path(rpi.__file__).parent / "motelet-gateway.service"


@pytest.fixture
def systemd(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(60)
        yield sock


def test_a_gateway_tells_systemd(tmp_path, systemd):
    config = {
        "node": "pi",
        "bridge": {"host": "127.0.0.1", "port": 1},
        "store": {"path": "flash", "size": 65536},
    }
    (tmp_path / "gateway.json").write_text(json.dumps(config))
    environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
    command = [sys.executable, "-m", "motelet.tools.cli", "gateway", "--port", "rpi", "gateway.json"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE) as process:
        try:
            assert systemd.recv(64) == b"READY=1"
            assert [systemd.recv(64) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        finally:
            process.send_signal(signal.SIGTERM)
            errors = process.stderr.read().decode()
        assert process.wait(60) == 0 and "platform=rpi" in errors and "Traceback" not in errors


class Task:
    def __init__(self, held, backoff):
        self._held, self._backoff = held, backoff


class Loop:
    def __init__(self, *tasks):
        self._tasks = tasks


def test_who_fails_again_and_again_is_not_well():
    assert healthy(Loop(Task(False, 60000), Task(True, 32000)))
    assert not healthy(Loop(Task(False, 0), Task(True, 60000)))


def test_without_systemd_nobody_is_told():
    Notifier(None, None).tell(b"READY=1")
    with pytest.raises(OSError, match="No such file"):
        Notifier("/nowhere/notify", None).tell(b"READY=1")


def test_the_unit_names_a_command_there_is_and_a_watchdog():
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str
    unit.read(UNIT)
    service = unit["Service"]
    words = service["ExecStart"].split()
    assert words[0].endswith("/motelet") and words[1:4] == ["gateway", "--port", "rpi"]
    assert service["Type"] == "notify" and int(service["WatchdogSec"]) == 60
    subprocess.run(
        [sys.executable, "-m", "motelet.tools.cli", *words[1:4], "--help"], check=True, capture_output=True
    )


def test_the_status_has_the_temperature_where_there_is_one(tmp_path, monkeypatch):
    file = tmp_path / "temp"
    monkeypatch.setattr(rpi, "THERMAL", file)
    assert "temperature" not in rpi.Port().status()
    file.write_text("48312\n")
    assert rpi.Port().status()["temperature"] == 48.312
