"""The Modbus mapper over TCP, on both interpreters, against pymodbus and against servers that misbehave."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import interpreters
import pytest
from modbus_peers import COIL, DISCRETE, HOLDING, INPUT, WAIT_S, Server, device, gateway, prop
from pymodbus.client import ModbusTcpClient

from motelet.tools.freeport import free_port

TYPES = ModbusTcpClient.DATATYPE
both = pytest.mark.parametrize("interpreter", interpreters.NAMES)
every = pytest.mark.parametrize("interpreter", [*interpreters.NAMES, "rpi"])

# type, pymodbus' name of it, registers, value, minimum
ENCODED = [
    ("INT", TYPES.UINT16, 1, 40000, None),
    ("INT", TYPES.INT16, 1, -123, "-1000"),
    ("INT", TYPES.UINT32, 2, 0x12345678, None),
    ("INT", TYPES.INT32, 2, -123456, "-1000000"),
    ("INT", TYPES.UINT64, 4, 0x0102030405060708, None),
    ("INT", TYPES.INT64, 4, -2, "-5"),
    ("FLOAT", TYPES.FLOAT32, 2, 21.5, None),
    ("DOUBLE", TYPES.FLOAT64, 4, -1234.56789, None),
    ("STRING", TYPES.STRING, 4, "abcdefgh", None),
]
ORDERS = [(False, False), (True, False), (False, True), (True, True)]


def registers(kind: object, value: object, swap: bool, register_swap: bool) -> list[int]:
    """What pymodbus' own encoder makes of the value, with the bytes of each register exchanged if `swap`."""
    words = ModbusTcpClient.convert_to_registers(value, kind, "little" if register_swap else "big")  # type: ignore[arg-type]
    return [word >> 8 | (word & 255) << 8 if swap else word for word in words]


def table(desired: bool) -> tuple[list[dict[str, object]], list[list[int]]]:
    """Every type in every order as properties p0, p1, ..., and the registers that each means."""
    properties = []
    words = []
    for kind, encoding, limit, value, minimum in ENCODED:
        for swap, register_swap in ORDERS:
            fields = {"minimum": minimum} if minimum else {}
            if desired:
                fields["desired"] = str(value)
            at = 10 * len(words)
            register = "HoldingRegister" if desired or at < 180 else "InputRegister"
            offset = at % 180 if not desired else 7 * len(words)
            properties.append(
                prop(
                    f"p{len(words)}",
                    kind,
                    register,
                    offset,
                    limit=limit,
                    isSwap=swap,
                    isRegisterSwap=register_swap,
                    **fields,
                )
            )
            words.append(registers(encoding, value, swap, register_swap))
    return properties, words


@every
def test_values_are_those_that_pymodbus_encodes(interpreter: str) -> None:
    properties, words = table(desired=False)
    with Server(1) as server:
        for i, values in enumerate(words):
            server.set(1, HOLDING if i < 18 else INPUT, 10 * (i % 18), values)
        with gateway(interpreter, device({"ip": "127.0.0.1", "port": server.port}, *properties)) as side:
            side.until(
                *(f"reported d0.p{i} {ENCODED[i // 4][3]!r}" for i in range(len(words))),
                "state d0 online",
            )


@every
def test_desired_values_become_what_pymodbus_encodes(interpreter: str) -> None:
    properties, words = table(desired=True)
    with Server(1) as server:
        with gateway(interpreter, device({"ip": "127.0.0.1", "port": server.port}, *properties)) as side:
            side.until(*(f"applied d0.p{i} {ENCODED[i // 4][3]}" for i in range(len(words))))
        for i, values in enumerate(words):
            assert server.get(1, HOLDING, 7 * i, len(values)) == values, properties[i]


@every
def test_bits_are_read_and_written(interpreter: str) -> None:
    with Server(1) as server:
        server.set(1, COIL, 3, [True])
        server.set(1, DISCRETE, 10, [True, False, True])
        properties = [
            prop("on", "BOOLEAN", "CoilRegister", 3),
            prop("off", "BOOLEAN", "CoilRegister", 4),
            prop("inputs", "INT", "DiscreteInputRegister", 10, limit=3),
            prop("one", "BOOLEAN", "CoilRegister", 20, desired="true"),
            prop("many", "INT", "CoilRegister", 30, limit=7, desired=str(0b1010011)),
        ]
        with gateway(interpreter, device({"ip": "127.0.0.1", "port": str(server.port)}, *properties)) as side:
            side.until(
                "reported d0.on True",
                "reported d0.off False",
                "reported d0.inputs 5",
                "applied d0.one true",
                "applied d0.many 83",
            )
        assert server.get(1, COIL, 20) == [True]
        assert server.get(1, COIL, 29, 9) == [False, True, True, False, False, True, False, True, False]


@every
def test_a_change_in_the_device_is_reported_and_a_command_written_once(interpreter: str) -> None:
    with Server(1) as server:
        properties = [
            prop("level", "FLOAT", "HoldingRegister", 0, limit=1, scale=0.1),
            prop("reset", "BOOLEAN", "CoilRegister", 0, momentary=True, desired="true"),
        ]
        with gateway(interpreter, device({"ip": "127.0.0.1", "port": server.port}, *properties)) as side:
            side.until("reported d0.level 0.0", "applied d0.reset true", "reported d0.reset True")
            server.set(1, COIL, 0, [False])
            server.set(1, HOLDING, 0, [213])
            side.until("reported d0.level 21.3", "reported d0.reset False")
            server.set(1, HOLDING, 0, [7])
            side.until("reported d0.level 0.7")
            assert server.get(1, COIL, 0) == [False]


@every
def test_a_register_that_is_not_there_is_named_and_the_others_go_on(interpreter: str) -> None:
    with Server(1) as server:
        properties = [
            prop("gone", "INT", "HoldingRegister", 5000),
            prop("here", "INT", "HoldingRegister", 5),
        ]
        with gateway(interpreter, device({"ip": "127.0.0.1", "port": server.port}, *properties)) as side:
            side.until("state d0 online gone: illegal data address", "reported d0.here 0")
            server.set(1, HOLDING, 5, [9])
            side.until("reported d0.here 9")


@every
def test_a_unit_that_is_not_there_is_offline_and_the_others_go_on(interpreter: str) -> None:
    with Server(1, 3, absent=2, mute=3) as server:
        config = {"ip": "127.0.0.1", "port": server.port, "timeout": 200}
        here, absent, mute = (
            device({**config, "slaveID": number}, prop("a", "INT", "HoldingRegister", 0))
            for number in (1, 2, 3)
        )
        with gateway(interpreter, here, absent, mute) as side:
            side.until(
                "state d0 online",
                "reported d0.a 0",
                "state d1 offline gateway target device failed to respond",
                "state d2 offline no answer within 200 ms",
            )
            server.set(1, HOLDING, 0, [1])
            side.until("reported d0.a 1")


@contextmanager
def thermostat(port: int) -> Iterator[ModbusTcpClient]:
    """The demo's thermostat as a process of its own, and a client of it; it is killed at the end."""
    command = [sys.executable, "-m", "motelet.tools.demo.thermostat", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    client = ModbusTcpClient("127.0.0.1", port=port)
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + WAIT_S
            while not client.connect():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield client
        finally:
            client.close()
            process.kill()


@pytest.mark.slow
@both
def test_a_device_that_is_killed_and_started_again_is_offline_and_online(interpreter: str) -> None:
    port = free_port()
    properties = [
        prop("setpoint", "FLOAT", "HoldingRegister", 1, limit=1, scale=0.1, desired="23.5"),
        prop("heater", "BOOLEAN", "CoilRegister", 0),
    ]
    with gateway(interpreter, device({"ip": "127.0.0.1", "port": port}, *properties)) as side:
        assert "111" in side.until_state("d0 offline")[-1]
        for _ in range(2):  # it has forgotten the setpoint when it comes back
            with thermostat(port) as client:
                side.until("state d0 online", "reported d0.setpoint 23.5", "applied d0.setpoint 23.5")
                assert client.read_holding_registers(1).registers == [235]
            side.until_state("d0 offline")


class Stalling:
    """A server whose first connections stop in the middle of an answer; those after them are served."""

    def __init__(self, stalls: int) -> None:
        self.connections = 0
        self._stalls = stalls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._held: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __enter__(self) -> "Stalling":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._held:
            connection.close()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            try:
                connection = self._listener.accept()[0]
            except OSError:
                return
            self.connections += 1
            self._held.append(connection)
            self._serve(connection, self.connections <= self._stalls)

    def _serve(self, connection: socket.socket, stall: bool) -> None:
        try:
            while request := connection.recv(64):
                answer = request[:4] + b"\x00\x05" + request[6:8] + b"\x02\x00\x2a"
                connection.sendall(answer[:9] if stall else answer)
                if stall:
                    while connection.recv(64):
                        pass
        except OSError:
            pass


@both
def test_a_server_that_stalls_in_the_middle_of_an_answer_is_left(interpreter: str) -> None:
    with Stalling(1) as server:
        config = {"ip": "127.0.0.1", "port": server.port, "timeout": 100}
        with gateway(interpreter, device(config, prop("a", "INT", "HoldingRegister", 0))) as side:
            side.until("state d0 online", "reported d0.a 42")
        assert server.connections == 2


@both
def test_unchanged_polls_allocate_nothing(interpreter: str) -> None:
    with Server(1) as server:
        properties = [prop(f"p{i}", "INT", "HoldingRegister", i, limit=1 + i % 2) for i in range(5)]
        for fields in properties:
            fields["collectCycle"] = 10
        with gateway(
            interpreter, device({"ip": "127.0.0.1", "port": server.port}, *properties), mode="locked"
        ) as side:
            side.until("polled 300")
