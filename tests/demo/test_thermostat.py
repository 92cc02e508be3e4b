"""The demo's thermostat, looked at as any Modbus master would."""

import asyncio
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusException

from motelet.tools.demo.thermostat import HOST, UNIT, Registers, Room, Thermostat, ThermostatClient


class Served:
    """A thermostat on a thread of its own, with a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.thermostat = Thermostat(clock=lambda: self.now)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.thermostat.start(), self._loop).result(10)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.thermostat.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    yield served
    served.close()


@pytest.fixture
def client(served: Served) -> Iterator[ThermostatClient]:
    client = ThermostatClient(served.thermostat.port)
    yield client
    client.close()


@pytest.fixture
def raw(served: Served) -> Iterator[ModbusTcpClient]:
    raw = ModbusTcpClient(HOST, port=served.thermostat.port, timeout=5, retries=0)
    assert raw.connect()
    yield raw
    raw.close()


def test_the_temperature_follows_the_setpoint(served: Served, client: ThermostatClient) -> None:
    assert client.read() == Registers(temperature=19.0, setpoint=20.0, heater=False)
    client.write_setpoint(24.5)
    served.now += 1.0
    assert client.read() == Registers(temperature=19.4, setpoint=24.5, heater=True)
    served.now += 60.0
    assert client.read().temperature == pytest.approx(24.5, abs=2 * Room.HYSTERESIS)
    client.write_setpoint(17.0)
    served.now += 5.0
    assert not client.read().heater
    served.now += 60.0
    assert client.read().temperature == pytest.approx(17.0, abs=2 * Room.HYSTERESIS)


def test_time_passes_alike_in_many_short_looks_and_in_one(served: Served, client: ThermostatClient) -> None:
    client.write_setpoint(30.0)
    for _ in range(100):
        served.now += 0.07
        client.read()
    room = Room(setpoint=30.0)
    room.advance(7.0)
    assert client.read().temperature == pytest.approx(room.temperature, abs=0.1)


def test_a_long_silence_costs_no_long_computation() -> None:
    room = Room(setpoint=30.0)
    room.advance(1e12)
    assert room.temperature == pytest.approx(30.0, abs=2 * Room.HYSTERESIS)


def test_a_negative_temperature_is_signed(served: Served, client: ThermostatClient) -> None:
    served.thermostat.room.temperature = -12.3
    assert client.read().temperature == -12.3


def test_input_register_and_discrete_input_show_the_same(raw: ModbusTcpClient) -> None:
    assert raw.read_input_registers(0, count=1, device_id=UNIT).registers == [190]
    assert raw.read_discrete_inputs(0, count=1, device_id=UNIT).bits[0] is False


@pytest.mark.parametrize("degrees", [4.9, 30.1, -1.0])
def test_a_setpoint_out_of_range_is_refused(client: ThermostatClient, degrees: float) -> None:
    with pytest.raises(ModbusException, match="exception_code=3"):
        client.write_setpoint(degrees)
    assert client.read().setpoint == 20.0


@pytest.mark.parametrize("degrees", [5.0, 30.0])
def test_the_ends_of_the_range_belong_to_it(client: ThermostatClient, degrees: float) -> None:
    client.write_setpoint(degrees)
    assert client.read().setpoint == degrees


def test_what_is_read_only_or_missing_is_an_illegal_address(raw: ModbusTcpClient) -> None:
    answers = [
        raw.write_register(0, 5, device_id=UNIT),
        raw.write_registers(0, [230, 230], device_id=UNIT),
        raw.write_coil(0, True, device_id=UNIT),
        raw.write_registers(1, [230, 230], device_id=UNIT),
        raw.read_holding_registers(2, count=1, device_id=UNIT),
    ]
    assert [answer.exception_code for answer in answers] == [2] * 5
    assert raw.read_holding_registers(0, count=2, device_id=UNIT).registers == [190, 200]


def test_several_registers_may_be_written_with_one_in_them(raw: ModbusTcpClient) -> None:
    assert not raw.write_registers(1, [215], device_id=UNIT).isError()
    assert raw.read_holding_registers(1, count=1, device_id=UNIT).registers == [215]


def test_a_thermostat_that_is_gone_is_named() -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionException, match="thermostat"):
        ThermostatClient(port).read()


def test_a_thermostat_that_is_killed_while_it_is_asked_is_named() -> None:
    def reset_each() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.recv(256)
            # Closed at once and without a word: what the kernel does for a process that is killed.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

    with socket.create_server((HOST, 0)) as listener:
        server = threading.Thread(target=reset_each)
        server.start()
        client = ThermostatClient(listener.getsockname()[1])
        for _ in range(2):  # and once more: the connection is a new one
            with pytest.raises(ConnectionException, match="thermostat does not answer: .*reset"):
                client.read()
        listener.shutdown(socket.SHUT_RDWR)
        server.join()


def command(port: int) -> list[str]:
    return [sys.executable, "-m", "motelet.tools.demo.thermostat", "--port", str(port)]


def test_it_runs_as_a_process_and_ends_when_told() -> None:
    with subprocess.Popen(command(0), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rsplit(":", 1)[1])
        client = ThermostatClient(port, timeout=5)
        client.write_setpoint(21.5)
        assert client.read().setpoint == 21.5
        client.close()
        process.terminate()
        assert process.wait(10) == 0
        assert process.stdout.read() == "setpoint 20.0 -> 21.5\n"


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        done = subprocess.run(command(port), check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"thermostat: cannot listen on {HOST}:{port}"
