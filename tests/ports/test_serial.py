"""The serial lines of the unix port on both interpreters, over a pseudo-terminal."""

import os
import pty
import select
import termios
from pathlib import Path

import interpreters
import pytest

from motelet.ports.unix import serial

WAIT_S = 90  # a bound for what would hang
PROGRAM = Path(__file__).parent / "serial_client.py"
MESSAGE = b"\x00\x03\x04\x0a\x0d\x11\x13\x1a\x7f\xff."  # what a terminal that is not raw would act upon
SETTINGS = [(9600, "N", 1), (19200, "E", 1), (115200, "O", 1), (1200, "N", 2)]


def receive(fd: int, n: int) -> bytes:
    data = b""
    while len(data) < n:
        assert select.select([fd], [], [], WAIT_S)[0]
        data += os.read(fd, n - len(data))
    return data


@pytest.mark.parametrize(("baudrate", "parity", "stopbits"), SETTINGS)
@pytest.mark.parametrize("interpreter", interpreters.NAMES)
def test_a_serial_line(interpreter: str, baudrate: int, parity: str, stopbits: int) -> None:
    master, slave = pty.openpty()
    arguments = (os.ttyname(slave), str(baudrate), parity, str(stopbits))
    with interpreters.running(interpreter, PROGRAM, *arguments) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "nothing None None\n"
        _, oflag, cflag, lflag, ispeed, ospeed, _ = termios.tcgetattr(slave)
        assert ispeed == ospeed == getattr(termios, f"B{baudrate}") and oflag == lflag == 0
        assert cflag & termios.CSIZE == termios.CS8 and cflag & termios.CLOCAL and cflag & termios.CREAD
        # A pseudo-terminal takes no parity: what is asked of the driver is tested in tests/core.
        assert bool(cflag & termios.CSTOPB) == (stopbits == 2)
        for _ in range(2):
            os.write(master, MESSAGE[:4])
            os.write(master, MESSAGE[4:])
            assert receive(master, len(MESSAGE)) == MESSAGE
            assert client.stdout.readline() == "echoed\n"
        os.close(slave)
        os.close(master)
        assert client.stdout.readline() == "hung up\n"
    assert client.returncode == 0


@pytest.mark.parametrize("name", serial.LINUX)
def test_the_constants_micropython_does_not_name_are_the_systems(name: str) -> None:
    assert serial.LINUX[name] == getattr(termios, name)
