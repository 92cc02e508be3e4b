"""The Modbus mapper on a serial line, on both interpreters, against pymodbus over pseudo-terminals."""

import interpreters
import pytest
from modbus_peers import COIL, HOLDING, Line, Server, device, gateway, prop

both = pytest.mark.parametrize("interpreter", interpreters.NAMES)
every = pytest.mark.parametrize("interpreter", [*interpreters.NAMES, "rpi"])


def config(line: Line, unit: int = 1) -> dict[str, object]:
    return {"serialPort": line.one, "baudRate": 19200, "slaveID": unit, "timeout": 500}


PROPERTIES = [
    prop("level", "INT", "HoldingRegister", 0),
    prop("setpoint", "FLOAT", "HoldingRegister", 10, limit=2, desired="21.5"),
    prop("heater", "BOOLEAN", "CoilRegister", 0, desired="true"),
]


@every
def test_values_are_read_and_written(interpreter: str) -> None:
    with Line() as line, Server(1, path=line.other) as server:
        server.set(1, HOLDING, 0, [7])
        with gateway(interpreter, device(config(line), *PROPERTIES)) as side:
            side.until(
                "state d0 online",
                "reported d0.level 7",
                "applied d0.setpoint 21.5",
                "reported d0.setpoint 21.5",
                "applied d0.heater true",
            )
            assert server.get(1, HOLDING, 10, 2) == [0x41AC, 0]
            assert server.get(1, COIL, 0) == [True]
            server.set(1, HOLDING, 0, [8])
            side.until("reported d0.level 8")


@both
def test_noise_is_passed_over(interpreter: str) -> None:
    with Line() as line, Server(1, path=line.other) as server:
        line.noise = b"\x01\x03\x00\xff"
        with gateway(interpreter, device(config(line), *PROPERTIES)) as side:
            side.until("applied d0.setpoint 21.5", "applied d0.heater true")
            assert server.get(1, HOLDING, 10, 2) == [0x41AC, 0]


@every
def test_an_exception_is_named_and_a_missing_unit_is_offline(interpreter: str) -> None:
    with Line() as line, Server(1, 9, path=line.other, mute=9):
        here = device(config(line), prop("gone", "INT", "HoldingRegister", 5000), PROPERTIES[0])
        missing = device(config(line, unit=9), PROPERTIES[0])
        with gateway(interpreter, here, missing) as side:
            side.until(
                "state d0 online gone: illegal data address",
                "reported d0.level 0",
                "state d1 offline no answer within 500 ms",
            )


@pytest.mark.slow
@both
def test_a_line_that_is_cut_and_mended_is_offline_and_online(interpreter: str) -> None:
    with Line() as line, Server(1, path=line.other) as server:
        with gateway(interpreter, device(config(line), *PROPERTIES)) as side:
            side.until("applied d0.setpoint 21.5")
            line.cut = True
            side.until("state d0 offline no answer within 500 ms")
            server.set(1, HOLDING, 10, [0, 0])
            line.cut = False
            side.until("state d0 online", "applied d0.setpoint 21.5")
            assert server.get(1, HOLDING, 10, 2) == [0x41AC, 0]


@both
def test_a_line_that_is_not_there_is_offline(interpreter: str) -> None:
    gone = device({"serialPort": "/dev/no-such-line", "slaveID": 1}, PROPERTIES[0])
    with gateway(interpreter, gone) as side:
        assert "2" in side.until_state("d0 offline")[-1]


@both
def test_unchanged_polls_allocate_nothing(interpreter: str) -> None:
    with Line() as line, Server(1, path=line.other):
        properties = [prop(f"p{i}", "INT", "HoldingRegister", i, collectCycle=10) for i in range(3)]
        with gateway(interpreter, device(config(line), *properties), mode="locked") as side:
            side.until("polled 300")
