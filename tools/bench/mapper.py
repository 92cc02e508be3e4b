"""What polling costs a serial Modbus bus beyond the time that the bus itself takes."""

from __future__ import annotations

import os
import select
import statistics
import sys
import time
import tty
from collections.abc import Iterator
from dataclasses import dataclass

from pymodbus.framer import FramerRTU

from motelet.tools.bench import interpreters
from motelet.tools.bench.figures import Figure
from motelet.tools.cli import UserError

BAUDS = (9600, 115200)
CHARACTER_BITS = 10  # on the line: start, eight of data, stop; no parity
SILENCE_BITS = 38.5  # between two frames: 3.5 characters of 11 bits (MODBUS over Serial Line V1.02, 2.5.1.1),
SILENCE_S = 0.00175  # and never less, which is the figure for lines faster than 19,200 baud
REQUEST = 8  # bytes
ANSWER_REGISTERS = 2
POLLS = 400
WARM_UP = 20  # polls that are not counted
QUIET_S = 30  # how long the gateway may take for its first request


@dataclass(frozen=True)
class Line:
    """A serial line's own times, in seconds."""

    baud: int

    @property
    def character(self) -> float:
        """One character."""
        return CHARACTER_BITS / self.baud

    @property
    def silence(self) -> float:
        """What must lie between two frames."""
        return max(SILENCE_BITS / self.baud, SILENCE_S)

    @property
    def exchange(self) -> float:
        """A request, the silence by which it ends, its answer, and the silence before the next request."""
        return (REQUEST + 5 + 2 * ANSWER_REGISTERS) * self.character + 2 * self.silence


def measure() -> Iterator[Figure]:
    """`mapper.modbus_overhead_percent.<baud>` of core's driver on MicroPython, and `...pymodbus.<baud>`.

    The time between two requests of a gateway that always has one to make, over what the line takes for an
    exchange by itself. The device answers as soon as the line lets it, byte by byte at the line's speed. The
    value is the median exchange's: what else runs on the computer, which plays line and device as well, is in
    the spread.
    """
    for port, suffix in (("unix", ""), ("rpi", ".pymodbus")):
        for baud in BAUDS:
            yield _figure(f"mapper.modbus_overhead_percent{suffix}.{baud}", Line(baud), port)


def _figure(name: str, line: Line, port: str) -> Figure:
    percent = [100 * (each / line.exchange - 1) for each in _exchanges(line, port)]
    return Figure(name, statistics.median(percent), "%", len(percent), max(percent) - min(percent))


def _exchanges(line: Line, port: str) -> list[float]:
    """Seconds from each request to the next."""
    master, slave = os.openpty()
    tty.setraw(slave)
    arguments = [port, os.ttyname(slave), str(line.baud)]
    try:
        if port == "unix":
            command = interpreters.command64("modbus_probe", *arguments)
        else:
            command = (
                [sys.executable, str(interpreters.BOARD / "modbus_probe.py"), *arguments],
                dict(os.environ),
            )
        with interpreters.running(command):
            return list(serve(master, line, WARM_UP + POLLS))[WARM_UP:]
    finally:
        os.close(master)
        os.close(slave)


def serve(fd: int, line: Line, polls: int) -> Iterator[float]:
    """Be a device on the line; gives the seconds from each of `polls` requests to the next.

    UserError when a request is none, or comes before the line has been silent for its time.
    """
    answer = bytes((1, 3, 2 * ANSWER_REGISTERS)) + bytes.fromhex("41ac0000")
    answer += FramerRTU.compute_CRC(answer).to_bytes(2, "big")
    before = ended = 0.0
    for poll in range(polls + 1):
        if not select.select([fd], [], [], QUIET_S)[0]:
            raise UserError("the gateway asks no more")
        began = time.perf_counter()
        if poll:
            if began < ended + line.silence:
                raise UserError(f"a request after {1e6 * (began - ended):.0f} us of silence")
            yield began - before
        before = began
        _request(fd)
        at = began + REQUEST * line.character + line.silence
        for byte in answer:
            at += line.character
            time.sleep(max(at - time.perf_counter(), 0))
            ended = time.perf_counter()
            os.write(fd, bytes((byte,)))


def _request(fd: int) -> None:
    request = b""
    while len(request) < REQUEST:
        request += os.read(fd, REQUEST - len(request))
    if request[:2] != b"\x01\x03" or FramerRTU.compute_CRC(request) != 0:
        raise UserError(f"no request: {request.hex()}")
