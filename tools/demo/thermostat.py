"""A thermostat that speaks Modbus TCP: the device which the demo, the tests and the bench control.

It is a real Modbus server (pymodbus) with a small model of a heated room behind its registers, so that
what the demo shows has crossed a real fieldbus and can be looked at from outside with any Modbus client.

Register map (unit 1, addresses as on the wire, counted from 0):

    holding register 0   temperature, 0.1 degree Celsius, signed 16 bit, read only (also input register 0)
    holding register 1   setpoint, 0.1 degree Celsius, 5.0 to 30.0, read and write
    coil 0               heater on, read only: the thermostat switches it itself (also discrete input 0)

Run it as a process of its own with ``python -m motelet.tools.demo.thermostat --port 5020``.
"""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from pymodbus.client import ModbusTcpClient
from pymodbus.constants import ExcCodes
from pymodbus.exceptions import ConnectionException, ModbusException
from pymodbus.pdu import ModbusPDU
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

HOST = "127.0.0.1"
UNIT = 1
TEMPERATURE_REGISTER = 0
SETPOINT_REGISTER = 1
HEATER_COIL = 0
SETPOINT_MINIMUM = 5.0
SETPOINT_MAXIMUM = 30.0

_COIL_FUNCTIONS = (1, 5, 15)
_BIT_FUNCTIONS = (1, 2, 5, 15)
_HOLDING_FUNCTIONS = (3, 6, 16, 22, 23)


class Room:
    """The heated room: temperature in degrees Celsius as a function of the setpoint and of time."""

    AMBIENT = 15.0
    HEATING = 0.4
    """Degrees per second with the heater on: slow enough to watch, fast enough not to bore."""
    COOLING = 0.2
    """Degrees per second lost with the heater off."""
    HYSTERESIS = 0.2
    STEP = 0.1
    SETTLED = 300.0
    """Seconds in which every start reaches its cycle around the setpoint; longer gaps are cut to this."""

    def __init__(self, temperature: float = 19.0, setpoint: float = 20.0) -> None:
        self.temperature = temperature
        self.setpoint = setpoint
        self.heater = False

    def advance(self, seconds: float) -> float:
        """Let `seconds` pass, in whole steps. Returns the rest that was too short for one."""
        steps, rest = divmod(seconds, self.STEP)
        for _ in range(int(min(steps, self.SETTLED / self.STEP))):
            if self.temperature < self.setpoint - self.HYSTERESIS:
                self.heater = True
            elif self.temperature > self.setpoint + self.HYSTERESIS:
                self.heater = False
            if self.heater:
                self.temperature += self.HEATING * self.STEP
            elif self.temperature > self.AMBIENT:
                self.temperature -= self.COOLING * self.STEP
        return rest


class Thermostat:
    """The Modbus TCP server before a `Room`. `port` 0 takes a free one; `port` holds it after `start`."""

    def __init__(self, port: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.port = port
        self.room = Room()
        self._clock = clock
        self._at = clock()
        self._server: ModbusTcpServer | None = None

    async def start(self) -> None:
        """Listen. Raises OSError when the port cannot be had."""
        self._server = ModbusTcpServer(self._device(), address=(HOST, self.port))
        if not await self._server.listen():
            raise OSError(f"cannot listen on {HOST}:{self.port}")
        listener = self._server.transport
        assert isinstance(listener, asyncio.Server)
        self.port = listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and drop the clients; harmless before `start`."""
        if self._server is not None:
            await self._server.shutdown()  # type: ignore[no-untyped-call]
            self._server = None

    def _device(self) -> SimDevice:
        bits = [SimData(HEATER_COIL, values=False, datatype=DataType.BITS)]
        temperature = SimData(TEMPERATURE_REGISTER, datatype=DataType.INT16, readonly=True)
        setpoint = SimData(SETPOINT_REGISTER, datatype=DataType.INT16)
        blocks = (bits, list(bits), [temperature, setpoint], [temperature])
        return SimDevice(UNIT, simdata=blocks, action=self._access)

    async def _access(
        self,
        function: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """Called by pymodbus before each access: bring the room up to now and the registers up to the room.

        The range checks and the read-only temperature were passed already, so a write here is to the
        setpoint or to the coil.
        """
        now = self._clock()
        self._at = now - self.room.advance(now - self._at)
        if values is not None:
            return self._write(function, int(values[0]))
        if function in _BIT_FUNCTIONS:
            registers[0] = int(self.room.heater)
            return None
        registers[TEMPERATURE_REGISTER] = round(self.room.temperature * 10) & 0xFFFF
        if function in _HOLDING_FUNCTIONS:
            registers[SETPOINT_REGISTER] = round(self.room.setpoint * 10) & 0xFFFF
        return None

    def _write(self, function: int, raw: int) -> ExcCodes | None:
        if function in _COIL_FUNCTIONS:
            return ExcCodes.ILLEGAL_ADDRESS
        value = _signed(raw) / 10
        if not SETPOINT_MINIMUM <= value <= SETPOINT_MAXIMUM:
            print(f"refused setpoint {value} (outside {SETPOINT_MINIMUM} to {SETPOINT_MAXIMUM})", flush=True)
            return ExcCodes.ILLEGAL_VALUE
        print(f"setpoint {self.room.setpoint} -> {value}", flush=True)
        self.room.setpoint = value
        return None


@dataclass(frozen=True)
class Registers:
    """What the thermostat holds: degrees Celsius, and whether it heats."""

    temperature: float
    setpoint: float
    heater: bool


class ThermostatClient:
    """Looks at the thermostat from outside, over Modbus, as any other master on the network would.

    Every method raises `pymodbus.exceptions.ModbusException` when the thermostat does not answer or refuses.
    """

    def __init__(self, port: int, timeout: float = 1.0) -> None:
        self._client = ModbusTcpClient(HOST, port=port, timeout=timeout, retries=0)

    def read(self) -> Registers:
        """Read all of it."""
        client = self._client
        numbers = self._ask(
            lambda: client.read_holding_registers(TEMPERATURE_REGISTER, count=2, device_id=UNIT)
        )
        coils = self._ask(lambda: client.read_coils(HEATER_COIL, count=1, device_id=UNIT))
        return Registers(
            temperature=_signed(numbers.registers[0]) / 10,
            setpoint=_signed(numbers.registers[1]) / 10,
            heater=coils.bits[0],
        )

    def write_setpoint(self, degrees: float) -> None:
        """Turn the knob: write the setpoint register."""
        raw = round(degrees * 10) & 0xFFFF
        self._ask(lambda: self._client.write_register(SETPOINT_REGISTER, raw, device_id=UNIT))

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._client.close()  # type: ignore[no-untyped-call]

    def _ask(self, request: Callable[[], ModbusPDU]) -> ModbusPDU:
        if not self._client.connected and not self._client.connect():  # type: ignore[no-untyped-call]
            raise ConnectionException("the thermostat does not answer")
        try:
            answer = request()
        except OSError as error:
            # pymodbus lets through that a connection was reset, and keeps it.
            self.close()
            raise ConnectionException(f"the thermostat does not answer: {error}") from error
        if answer.isError():
            raise ModbusException(f"the thermostat refused: {answer}")
        return answer


def _signed(raw: int) -> int:
    return raw - 0x10000 if raw & 0x8000 else raw


async def _serve(port: int) -> None:
    thermostat = Thermostat(port)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await thermostat.start()
    print(f"thermostat listening on {HOST}:{thermostat.port}", flush=True)
    await stop.wait()
    await thermostat.stop()


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM. Returns the exit status: 1 when the port cannot be had."""
    parser = argparse.ArgumentParser(
        prog="motelet.tools.demo.thermostat", description="A Modbus TCP thermostat."
    )
    parser.add_argument("--port", type=int, default=5020, help="TCP port, 0 for a free one (default 5020)")
    port = parser.parse_args(arguments).port
    try:
        asyncio.run(_serve(port))
    except OSError as error:
        print(f"thermostat: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
