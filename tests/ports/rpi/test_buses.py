"""What a Raspberry Pi has for buses: the real libraries, over doubles of what the kernel offers."""

import ctypes
import errno
import os
import threading

import gpiod
import pytest
import smbus2
from gpiod.line import Bias, Direction, Value
from modbus_peers import Line as Cable
from smbus2.smbus2 import I2C_FUNCS, I2C_M_RD, I2C_RDWR

from motelet.loop import READ, Loop
from motelet.mappers import i2cload
from motelet.ports.rpi import Port, buses


class Kernel:
    """I2C_RDWR of Linux' i2c-dev on one chip: registers, of which a write tells the first."""

    def __init__(self):
        self.registers = bytearray(range(256))
        self.at = 0
        self.gone = False

    def ioctl(self, _fd, request, argument=None):
        if request == I2C_FUNCS:
            argument.value = 0xFFFFFFFF
            return 0
        assert request == I2C_RDWR
        for message in argument.msgs[: argument.nmsgs]:
            if self.gone or message.addr != 0x76:
                raise OSError(errno.EREMOTEIO, os.strerror(errno.EREMOTEIO))
            if message.flags & I2C_M_RD:
                for i in range(message.len):
                    message.buf[i] = self.registers[self.at + i]
            else:
                data = ctypes.string_at(message.buf, message.len)
                self.at = data[0]
                self.registers[self.at : self.at + len(data) - 1] = data[1:]
        return 0


@pytest.fixture
def kernel(monkeypatch):
    kernel = Kernel()
    monkeypatch.setattr(smbus2.smbus2, "ioctl", kernel.ioctl)
    return kernel


def test_registers_by_smbus2(kernel):
    bus = buses.open_bus("i2c", os.devnull, {"freq": 100000})
    assert bus.readfrom_mem(0x76, 0x10, 3) == b"\x10\x11\x12"
    bus.writeto_mem(0x76, 0x20, b"\xaa\xbb")
    buf = bytearray(3)
    bus.readfrom_mem_into(0x76, 0x1F, buf)
    assert buf == b"\x1f\xaa\xbb"
    with pytest.raises(OSError, match="Remote I/O"):
        bus.readfrom_mem(0x77, 0, 1)


def test_a_bus_that_is_not_there(tmp_path):
    for kind, name, error in (
        ("i2c", str(tmp_path / "i2c-9"), OSError),
        ("pin", "17", OSError),
        ("onewire", str(tmp_path / "w1"), OSError),
        ("adc", "0", ValueError),
        ("spi", "0", ValueError),
    ):
        options = {"mode": "in"} if kind == "pin" else {}
        with pytest.raises(error):
            buses.open_bus(kind, name, options)


class Twin:
    def __init__(self):
        self.said = []
        self.news = threading.Event()

    def reported(self, prop, value):
        prop.value = value
        self.said.append((prop.name, value))

    def applied(self, prop):
        self.said.append((prop.name, "applied"))

    def state(self, device, state, reason):
        device.state, device.reason = state, reason
        self.said.append((state, reason))


class Log:
    def debug(self, *_):
        pass

    info = warning = debug


def fail(_task, error):
    raise error


def test_the_mapper_reads_and_writes_in_a_thread_of_its_own(kernel):
    from bus_world import made, prop

    from motelet import attach
    from motelet.mappers import Mapper

    port = Port()
    loop = Loop(port.clock, port.poller(), fail)
    device = made(
        "i2c",
        {"bus": os.devnull, "address": 0x76},
        prop("x", "INT", desired="9", register=5),
        prop("y", "INT", register=6),
    )
    key = i2cload.bus(device, ())
    twin = Twin()
    mapper = Mapper(loop, Log(), twin, i2cload.driver(key)(port, loop, key))
    attach.add(mapper, device, i2cload)

    def until(wanted):
        while wanted not in twin.said:
            loop.step(-1)

    until(("x", "applied"))
    until(("y", 6))
    assert kernel.registers[5] == 9 and twin.said[0] == ("online", "")
    kernel.gone = True
    until(("offline", "[Errno 121] Remote I/O error"))
    mapper.driver.close()


class Request:
    """What gpiod gives for a line; `level` is the wire."""

    def __init__(self, path, consumer, config):
        self.path, self.consumer = path, consumer
        ((self.offset, self.settings),) = config.items()
        self.level = Value.ACTIVE
        self.driven = []

    def get_value(self, offset):
        assert offset == self.offset
        return self.level

    def reconfigure_lines(self, config):
        self.settings = config[self.offset]
        self.level = self.settings.output_value
        self.driven.append(self.level)

    def set_value(self, offset, value):
        assert offset == self.offset and self.settings.direction == Direction.OUTPUT
        self.level = value
        self.driven.append(value)


def test_pins_by_gpiod(monkeypatch):
    made = []
    monkeypatch.setattr(
        gpiod, "request_lines", lambda path, **options: made.append(Request(path, **options)) or made[-1]
    )
    pin = buses.open_bus("pin", "gpiochip0/17", {"mode": "in", "pull": "up"})
    assert made[0].path == "/dev/gpiochip0" and made[0].offset == 17
    assert made[0].settings.direction == Direction.INPUT and made[0].settings.bias == Bias.PULL_UP
    assert pin.value() == 1
    out = buses.open_bus("pin", "gpiochip0/4", {"mode": "out"})
    assert made[1].settings.direction == Direction.AS_IS  # a relay does not click because a gateway starts
    assert out.value() == 1 and made[1].driven == []
    out.value(0)
    assert set(made[1].driven) == {Value.INACTIVE} and out.value() == 0
    out.value(1)
    assert out.value() == 1 and made[1].driven[-1] == Value.ACTIVE


def test_pulse_widths_by_the_kernels_files(tmp_path):
    folder = tmp_path / "pwmchip0" / "pwm0"
    folder.mkdir(parents=True)
    for name in ("period", "duty_cycle", "enable"):
        (folder / name).write_text("0")
    pwm = buses.Pwm("pwmchip0/0", 1000, tmp_path)
    assert pwm.duty_u16() == 0
    pwm.duty_u16(16384)
    read = {path.name: int(path.read_text()) for path in folder.iterdir()}
    assert read["period"] == 1_000_000 and read["enable"] == 1 and abs(read["duty_cycle"] - 250_000) < 20
    assert abs(pwm.duty_u16() - 16384) <= 1


def test_a_thermometer_by_the_kernels_files(tmp_path):
    rom = bytes([0x28, 0xAB, 0x89, 0x67, 0x45, 0x23, 0x01, 0x00])
    (tmp_path / "28-0123456789ab").mkdir()
    file = tmp_path / "28-0123456789ab" / "w1_slave"
    file.write_text("50 05 4b 46 7f ff 0c 10 1c : crc=1c YES\n50 05 4b 46 7f ff 0c 10 1c t=85000\n")
    wire = buses.Wire(tmp_path)
    assert wire.scratchpad(rom) == bytes.fromhex("5005 4b46 7fff 0c10 1c")
    file.write_text("nonsense")
    with pytest.raises(OSError, match="is not a scratchpad"):
        wire.scratchpad(rom)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        wire.scratchpad(rom)


def test_a_serial_line_by_pyserial():
    port = Port()
    with Cable() as cable:
        one = port.serial(cable.one, 19200)
        other = port.serial(cable.other, 115200, "N", 2)
        loop = Loop(port.clock, port.poller(), fail)
        got = bytearray(16)
        assert one.readinto(got) is None
        seen = []

        def run(task):
            loop.watch(one, READ, task)
            while len(seen) < 3:
                count = one.readinto(got, 2)
                if count is None:
                    yield
                else:
                    seen.extend(got[:count])

        loop.spawn("reader", run)
        assert other.write(b"xabcx", 1, 3) == 3
        while len(seen) < 3:
            loop.step(-1)
        assert bytes(seen) == b"abc"
        with pytest.raises(OSError, match="exclusively lock"):
            port.serial(cable.one, 9600)
        loop.unwatch(one)
        one.close()
        other.close()
    for settings in ((cable.one, 9600, "M"), (cable.one, 9600, "N", 3)):
        with pytest.raises(ValueError, match="stop bits"):
            port.serial(*settings)
    with pytest.raises(OSError, match="nowhere"):
        port.serial("/dev/nowhere", 9600)
