"""Real Modbus devices for the tests, pymodbus over TCP and over pseudo-terminals, and a gateway for them."""

import asyncio
import os
import pty
import queue
import select
import tempfile
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cbor2
import interpreters
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from motelet.tools.freeport import free_port

WAIT_S = 60  # a bound for what would hang
GATEWAY = Path(__file__).parent / "mappers" / "gateway_side.py"
SIZE = 300  # bits or registers of each kind
COIL, DISCRETE, HOLDING, INPUT = 1, 2, 3, 4


async def absent(*_: Any) -> ExcCodes:
    """What a gateway answers for a unit that does not answer it."""
    return ExcCodes.GATEWAY_NO_RESPONSE


def unit(number: int, action: Any = None) -> SimDevice:
    """A device with SIZE coils, discrete inputs, holding and input registers of their own, all 0."""
    bits = SimData(0, count=SIZE, values=False, datatype=DataType.BITS)
    registers = SimData(0, count=SIZE, values=0, datatype=DataType.REGISTERS)
    return SimDevice(number, simdata=([bits], [bits], [registers], [registers]), action=action)


class Server:
    """A pymodbus server in a thread of its own; TCP on `port`, or RTU on the terminal `path`.

    `absent` is a unit that it would have to ask, and that does not answer it; `mute` one that never answers.
    """

    def __init__(self, *units: int, port: int = 0, path: str = "", absent: int = 0, mute: int = 0) -> None:
        self.port = port or free_port()
        self._path = path
        self._units = units
        self._absent = absent
        self._mute = mute
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))
        self._thread.start()
        assert self._ready.wait(WAIT_S)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._server.shutdown())
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()
        self._loop.close()

    def get(self, number: int, kind: int, address: int, count: int = 1) -> list[Any]:
        return list(self._call(self._server.async_getValues(number, kind, address, count)))

    def set(self, number: int, kind: int, address: int, values: list[Any]) -> None:
        function = {COIL: 15, DISCRETE: 2, HOLDING: 16, INPUT: 4}[kind]
        self._call(self._server.async_setValues(number, function, address, values))

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(WAIT_S)

    async def _run(self) -> None:
        self._stop = asyncio.Event()
        devices = [unit(number) for number in self._units]
        if self._absent:
            devices.append(unit(self._absent, absent))
        if self._path:
            self._server: Any = ModbusSerialServer(devices, port=self._path, trace_packet=self._trace)
        else:
            address = ("127.0.0.1", self.port)
            self._server = ModbusTcpServer(devices, address=address, trace_packet=self._trace)
        await self._server.serve_forever(background=True)
        self._ready.set()
        await self._stop.wait()

    def _trace(self, sending: bool, data: bytes) -> bytes:
        return b"" if sending and data[0 if self._path else 6] == self._mute else data


class Line:
    """Two serial lines joined by a cable, which may be `cut`: what enters at `one` leaves at `other`."""

    def __init__(self) -> None:
        self.cut = False
        self.noise = b""  # goes before each piece on its way to `one`
        self._masters = []
        self._slaves = []
        for _ in range(2):
            master, slave = pty.openpty()
            tty.setraw(slave)
            self._masters.append(master)
            self._slaves.append(slave)  # held, so that the line does not hang up between two users
        self.one, self.other = (os.ttyname(slave) for slave in self._slaves)
        self._wake, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._stop)
        self._thread.join(WAIT_S)
        for fd in [*self._masters, *self._slaves, self._wake]:
            os.close(fd)

    def _run(self) -> None:
        one, other = self._masters
        while True:
            ready = select.select([one, other, self._wake], [], [])[0]
            if self._wake in ready:
                return
            for fd in ready:
                data = os.read(fd, 1024)
                if not self.cut:
                    os.write(other if fd == one else one, data if fd == one else self.noise + data)


class Gateway:
    """What a gateway told its twin, line by line."""

    def __init__(self, stdout: Any) -> None:
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._thread = threading.Thread(target=self._read, args=(stdout,))
        self._thread.start()

    def _read(self, stdout: Any) -> None:
        for line in stdout:
            self._lines.put(line.strip())
        self._lines.put(None)

    def _next(self, seen: list[str]) -> str:
        line = self._lines.get(timeout=WAIT_S)
        assert line is not None, f"the gateway ended after {seen}"
        seen.append(line)
        return line

    def until(self, *wanted: str) -> list[str]:
        """Wait until each of these lines has come; returns all that came meanwhile."""
        missing = set(wanted)
        seen: list[str] = []
        while missing:
            missing.discard(self._next(seen))
        return seen

    def until_state(self, start: str) -> list[str]:
        """Wait for a state that begins like this, whatever its reason; returns all that came meanwhile."""
        seen: list[str] = []
        while not self._next(seen).startswith("state " + start):
            pass
        return seen

    def join(self) -> None:
        self._thread.join(WAIT_S)


@contextmanager
def gateway(interpreter: str, *devices: dict[str, Any], mode: str = "run") -> Iterator[Gateway]:
    """A gateway that serves these effective Devices as d0, d1, ... until the block ends.

    `interpreter` "rpi" is CPython with the port and the driver of a Raspberry Pi.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"d{i}.cbor" for i in range(len(devices))]
        for file, content in zip(files, devices, strict=True):
            file.write_bytes(cbor2.dumps(content))
        if interpreter == "rpi":
            interpreter, mode = "cpython", "rpi"
        with interpreters.running(interpreter, GATEWAY, mode, *map(str, files)) as process:
            side = Gateway(process.stdout)
            try:
                yield side
            finally:
                process.kill()
                side.join()


def device(config: dict[str, Any], *properties: dict[str, Any]) -> dict[str, Any]:
    """An effective Device on Modbus."""
    return {"protocol": {"protocolName": "modbus", "configData": config}, "properties": list(properties)}


def prop(name: str, kind: str, register: str, offset: int, **fields: Any) -> dict[str, Any]:
    """A property that is read often; some of `fields` are the visitor's, the others the property's own."""
    visitor = {"register": register, "offset": offset}
    for key in ("limit", "scale", "isSwap", "isRegisterSwap", "momentary"):
        if key in fields:
            visitor[key] = fields.pop(key)
    if "desired" in fields:
        fields["desired"] = {"value": fields["desired"]}
    return {
        "name": name,
        "type": kind,
        "accessMode": "ReadWrite",
        "collectCycle": 50,
        "reportCycle": 50,
        "visitors": {"protocolName": "modbus", "configData": visitor},
        **fields,
    }
