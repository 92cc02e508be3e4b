"""The real bridge as a process: options, signals, kill -9, and a disk that does not take what it is given."""

import argparse
import asyncio
import json
import logging
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress

import pytest
import yaml
from board_client import BoardClient, client_context, identity_in, read, server_files, until
from memory_backend import device, model

from cloud_bridge import app
from motelet import protocol as p
from motelet.tools.freeport import free_port
from motelet.tools.load.board import SimulatedBoard

RESOURCE = "default/device/lamp"
COMMAND = [sys.executable, "-m", "motelet.tools.cli", "bridge"]


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    return identity_in(tmp_path_factory.mktemp("state"))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "manifests"
    folder.mkdir()
    put(folder, "model", model())
    put(folder, "lamp", device())
    return folder


def put(folder, name, body):
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(body))


class Bridge:
    """A bridge process on a port of its own, over TLS."""

    def __init__(self, folder, identity):
        self.folder = folder
        self.identity = identity
        self.port = free_port()
        self.log = folder.parent / "log"
        self.context = client_context(identity, "board-1")

    def start(self):
        cert, key, ca = server_files(self.identity)
        tls = ["--cert", cert, "--key", key, "--client-ca", ca]
        options = ["--manifests", self.folder, "--listen", f"localhost:{self.port}", "--log-format", "json"]
        options += ["--http", "127.0.0.1:0"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([*COMMAND, *map(str, options), *map(str, tls)], stderr=log)

    async def started(self):
        seen = len(self.lines("listening"))
        self.start()
        await until(lambda: len(self.lines("listening")) > seen or self.process.poll() is not None)
        assert self.process.poll() is None, read(self.log)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def terminate(self):
        self.process.terminate()
        return self.process.wait(30)

    def lines(self, text):
        found = [json.loads(line) for line in read(self.log).splitlines() if line.startswith("{")]
        return [each for each in found if text in each["text"]]

    def board(self, board):
        return BoardClient(board, self.port, self.context)

    def status(self, name="lamp"):
        text = read(self.folder / f"status/default/{name}.yaml")
        return yaml.safe_load(text)["status"] if text else None

    def value(self, prop, name="lamp"):
        twins = (self.status(name) or {"twins": []})["twins"]
        return next((each["reported"]["value"] for each in twins if each["propertyName"] == prop), None)


@pytest.fixture
def bridge(folder, identity):
    bridge = Bridge(folder, identity)
    yield bridge
    if bridge.process.poll() is None:
        bridge.kill()
    assert "Traceback" not in read(bridge.log)


def test_the_probes_answer(bridge):
    asyncio.run(bridge.started())
    asyncio.run(until(lambda: bridge.lines("serves probes")))
    port = bridge.lines("serves probes")[0]["port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=20) as answer:
        assert (answer.status, answer.read()) == (200, b"ok\n")
    assert bridge.terminate() == 0


def test_help_reads_well():
    text = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True).stdout
    for option in ("--manifests DIR", "--listen HOST:PORT", "--client-ca FILE", "--plain", "--log-level"):
        assert option in text


def parse(folder, *options):
    parser = argparse.ArgumentParser()
    app.configure(parser)
    return parser.parse_args(["--manifests", str(folder), *map(str, options)])


def test_options_that_cannot_be_used_are_told_in_one_line(folder, identity, tmp_path, capsys):
    cert, key, ca = server_files(identity)
    tls = ["--cert", cert, "--key", key, "--client-ca", ca]
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for options, status, text in (
            ([], 2, "--cert is missing"),
            (tls[:2], 2, "--key is missing"),
            (tls[:4], 2, "--client-ca is missing"),
            (["--cert", tmp_path / "none", *tls[2:]], 2, f"cannot read {tmp_path}/none: No such file"),
            (["--cert", junk, *tls[2:]], 2, "not a certificate and its private key"),
            ([*tls[:5], junk], 2, "junk.pem: not a certificate in PEM or DER"),
            ([*tls, "--http", "nonsense"], 2, "--http nonsense: expected HOST:PORT"),
            ([*tls, "--listen", "nonsense"], 2, "--listen nonsense: expected HOST:PORT"),
            ([*tls, "--listen", ":80"], 2, "expected HOST:PORT"),
            ([*tls, "--listen", "localhost:70000"], 2, "expected HOST:PORT"),
            ([*tls, "--listen", f"127.0.0.1:{port}"], 2, f"cannot listen on 127.0.0.1:{port}: "),
            ([*tls, "--listen", "no.such.host.invalid:1"], 2, "cannot listen on no.such.host.invalid:1"),
            (["--plain", "--listen", "0.0.0.0:1"], 2, "--plain listens on a loopback address only"),
            (["--plain", "--listen", "example.com:1"], 2, "--plain listens on a loopback address only"),
        ):
            assert app.run(parse(folder, *options)) == status
            said = capsys.readouterr().err.splitlines()
            (line,) = [each for each in said if not each.startswith("time=")]
            assert line.startswith("motelet bridge: ")
            assert text in line
    assert app.run(parse(tmp_path / "missing", *tls)) == 1
    assert "cannot read the folder" in capsys.readouterr().err


def test_it_runs_and_stops_within_a_process_too(folder, capsys):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = probe.getsockname()

    def stop():
        while True:
            time.sleep(0.01)
            with suppress(ConnectionRefusedError), socket.create_connection(address) as connection:
                # A free port may be given to this very connection, and an early signal would end pytest.
                other = connection.getsockname() != connection.getpeername()
                if other and signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, None):
                    os.kill(os.getpid(), signal.SIGTERM)
                    return

    thread = threading.Thread(target=stop)
    thread.start()
    assert app.run(parse(folder, "--plain", "--listen", f"127.0.0.1:{address[1]}")) == 0
    thread.join()
    assert "text=stopped" in capsys.readouterr().err


def test_plain_on_loopback_of_both_kinds(folder):
    for host in ("127.0.0.1", "[::1]"):
        process = subprocess.Popen(
            [*COMMAND, "--manifests", str(folder), "--plain", "--listen", f"{host}:0"],
            stderr=subprocess.PIPE,
            text=True,
        )
        line = next(line for line in process.stderr if "text=listening" in line)
        assert "tls=False" in line
        process.terminate()
        process.stderr.close()
        assert process.wait(30) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_in_peace(bridge, number):
    async def scenario():
        await bridge.started()
        board = SimulatedBoard()
        async with bridge.board(board) as client:
            await client.until(lambda: board.synced)
            bridge.process.send_signal(number)
            assert await client.closed() == 1001

    asyncio.run(scenario())
    assert bridge.process.wait(30) == 0
    assert bridge.lines("stopped")


def test_a_peer_that_never_ends_does_not_keep_it_from_stopping(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "cloud_bridge")
    monkeypatch.setattr(app, "STOP_SECONDS", 0.01)
    flushed = []

    async def wait_closed():
        await asyncio.Event().wait()

    async def flush():
        flushed.append(True)

    asyncio.run(app._stop(wait_closed, flush))
    assert flushed
    (record,) = caplog.records
    assert record.levelname == "WARNING" and "wait_closed" in dict(record.pairs)["step"]


def test_killed_and_started_again_nothing_is_resent_and_everything_missed_arrives(bridge):
    async def scenario():
        board = SimulatedBoard()
        await bridge.started()
        async with bridge.board(board) as client:
            await client.until(lambda: board.synced)
            board.report(RESOURCE, "level", 41, 5)
            board.report(RESOURCE, "power", True, 6)
            await client.until(lambda: board.acked == 2)
        bridge.kill()
        before = dict(board.flash)
        board.log.clear()
        await bridge.started()
        async with bridge.board(board) as client:
            await client.until(lambda: board.synced)
            assert board.kinds() == [p.WELCOME, p.SYNCED]
            board.report(RESOURCE, "level", 42, 7)
            await client.until(lambda: board.acked == 1)
        assert (bridge.value("level"), bridge.value("power")) == ("42", "true")
        bridge.kill()
        put(bridge.folder, "lamp", device(properties=[]))
        put(bridge.folder, "pump", device("pump"))
        await bridge.started()
        async with bridge.board(board) as client:
            await client.until(lambda: board.synced)
            assert board.flash.keys() == {RESOURCE, "default/device/pump"}
            assert board.flash[RESOURCE] != before[RESOURCE]
        bridge.kill()
        (bridge.folder / "lamp.yaml").unlink()
        await bridge.started()
        async with bridge.board(board) as client:
            await client.until(lambda: board.synced)
            assert board.flash.keys() == {"default/device/pump"}
        await until(lambda: bridge.status() is None)

    asyncio.run(scenario())


def test_started_while_a_file_is_broken_no_board_loses_a_device(bridge):
    async def scenario():
        board = SimulatedBoard()
        put(bridge.folder, "pump", device("pump"))
        await bridge.started()
        async with bridge.board(board) as client:
            await client.until(lambda: board.synced)
        bridge.kill()
        held = dict(board.flash)
        (bridge.folder / "lamp.yaml").write_text("kind: [\n")  # cannot be read any more
        put(bridge.folder, "pump", device("pump", properties=[{"name": "nonsense"}]))  # not valid any more
        await bridge.started()
        async with bridge.board(board) as client:
            await client.until(lambda: board.synced)
            assert board.flash == held
            board.report(RESOURCE, "level", 1, 5)
            board.report("default/device/pump", "level", 2, 5)
            await client.until(lambda: board.acked == 2)
            assert not board.nacks
        bridge.kill()
        # Not even when what was last good is lost too.
        for path in (bridge.folder / "status/.last-good").iterdir():
            path.unlink()
        await bridge.started()
        async with bridge.board(board) as client:
            await client.until(lambda: p.LIST in board.kinds())
            put(bridge.folder, "fan", device("fan"))
            await client.until(lambda: "default/device/fan" in board.flash)
            assert board.flash.keys() == {*held, "default/device/fan"}
            put(bridge.folder, "lamp", device())
            put(bridge.folder, "pump", device("pump"))
            await client.until(lambda: board.synced)
            assert board.flash.keys() == {*held, "default/device/fan"}

    asyncio.run(scenario())
    (broken,) = bridge.lines("file is broken, its objects stay")
    assert (broken["file"], broken["line"]) == ("lamp.yaml", "2")
    invalid = bridge.lines("object is not valid")[0]
    text = 'the DeviceModel of spec.deviceModelRef has no property "nonsense"'
    assert (invalid["file"], invalid["field"], invalid["error"]) == (
        "pump.yaml",
        "spec.properties[0].name",
        text,
    )


def test_nothing_is_acknowledged_before_the_disk_has_it(bridge):
    """A file stands where the folder of the status has to be: every write fails, as on a full disk."""

    async def scenario():
        board = SimulatedBoard()
        await bridge.started()
        async with bridge.board(board) as client:
            await client.until(lambda: board.synced)
            obstacle = bridge.folder / "status/default"
            obstacle.write_text("in the way")
            board.report(RESOURCE, "level", 41, 5)
            await client.until(lambda: bridge.lines("status not written"))
            board.report(RESOURCE, "power", True, 6)
            await client.flush()
            await (await client.socket.ping())
            assert board.acked == 0
            obstacle.unlink()
            await client.until(lambda: board.acked == 2)
            assert (bridge.value("level"), bridge.value("power")) == ("41", "true")

    asyncio.run(scenario())
    (failed,) = bridge.lines("status not written")
    assert failed["level"] == "error"
    assert failed["key"] == "Device default/lamp"
    assert "exists" in failed["error"] or "Not a directory" in failed["error"]
    assert bridge.lines("status written again")


@pytest.mark.slow
def test_killed_at_any_moment_what_was_acknowledged_is_on_the_disk(bridge):
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    print(f"seed {seed}")

    async def scenario():
        board = SimulatedBoard()
        value, stored = 0, None
        for _ in range(12):
            await bridge.started()
            sent = {}
            async with bridge.board(board) as client:
                ends = time.monotonic() + chance.random() * 0.4
                await client.until(lambda: board.connected)
                while time.monotonic() < ends:
                    if board.tx_seq - board.acked < 8:
                        value = value % 99 + 1
                        sent[board.report(RESOURCE, "level", value, value)] = value
                    await client.until(lambda: board.tx_seq - board.acked < 8)
                bridge.kill()
            acknowledged = str(sent[board.acked]) if board.acked else stored
            later = [str(each) for seq, each in sent.items() if seq > board.acked]
            stored = bridge.value("level")
            assert stored in (acknowledged, *later)

    asyncio.run(scenario())


def test_no_secret_is_ever_logged(bridge):
    secret = "cGFzc3dvcmQxMjM="
    put(
        bridge.folder,
        "secret",
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": secret}},
    )
    body = device(protocol={"protocolName": "x", "configData": {"password": secret}})
    body["spec"]["properties"][1]["desired"]["value"] = "999"
    put(bridge.folder, "lamp", body)

    async def scenario():
        await bridge.started()
        (bridge.folder / "secret.yaml").write_text(f"kind: Secret\ndata: {{k: {secret}")
        await until(lambda: bridge.lines("file is broken"))

    asyncio.run(scenario())
    assert bridge.terminate() == 0
    text = read(bridge.log)
    assert secret not in text
    assert re.search("more than the maximum", text)
    assert "PRIVATE KEY" not in text
