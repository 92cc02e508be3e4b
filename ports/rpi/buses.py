"""The buses and pins of a Linux computer, with the methods of MicroPython's objects.

    i2c      "/dev/i2c-1", by smbus2
    pin      "gpiochip0/17", by the GPIO character device
    pwm      "pwmchip0/0", by the kernel's /sys/class/pwm
    onewire  "/sys/bus/w1/devices", by the kernel's w1_therm

They block for as long as the bus takes.
"""

import errno
from pathlib import Path

PWM = Path("/sys/class/pwm")


def open_bus(kind, name, options):
    """The bus or pin `name`. ValueError for a kind there is not, OSError when it is not there."""
    if kind == "i2c":
        return I2c(name)  # its frequency is the kernel's
    if kind == "pin":
        return Pin(name, **options)
    if kind == "pwm":
        return Pwm(name, **options)
    if kind == "onewire":
        return Wire(name)
    raise ValueError(f"this computer has no {kind}" + (": use an ADS1115" if kind == "adc" else ""))


class I2c:
    """machine.I2C's methods on registers, by smbus2. OSError when nobody answers."""

    def __init__(self, path):
        from smbus2 import SMBus, i2c_msg

        self._message = i2c_msg
        self._bus = SMBus(path)

    def readfrom_mem(self, address, register, count, addrsize=8):
        """`count` bytes from `register` on."""
        read = self._message.read(address, count)
        self._bus.i2c_rdwr(self._message.write(address, register.to_bytes(addrsize // 8, "big")), read)
        return bytes(read)

    def readfrom_mem_into(self, address, register, buf, addrsize=8):
        """Fill `buf` from `register` on."""
        buf[:] = self.readfrom_mem(address, register, len(buf), addrsize)

    def writeto_mem(self, address, register, data, addrsize=8):
        """Write `data` to `register` and those after it."""
        self._bus.i2c_rdwr(self._message.write(address, register.to_bytes(addrsize // 8, "big") + data))


class Pin:
    """machine.Pin's value(). An output is driven from its first value on, and left as it is before."""

    def __init__(self, name, mode, pull=None):
        import gpiod
        from gpiod.line import Bias, Direction, Value

        self._high, self._low, self._output = Value.ACTIVE, Value.INACTIVE, Direction.OUTPUT
        chip, _, offset = name.rpartition("/")
        if not chip or not offset.isdigit():
            raise OSError(errno.ENOENT, f"no pin {name}: expected gpiochip0/17")
        self._offset = int(offset)
        self._settings = gpiod.LineSettings
        self._driven = False
        bias = {"up": Bias.PULL_UP, "down": Bias.PULL_DOWN, None: Bias.AS_IS}[pull]
        direction = Direction.INPUT if mode == "in" else Direction.AS_IS
        settings = gpiod.LineSettings(direction=direction, bias=bias)
        self._bias = bias
        self._request = gpiod.request_lines(
            f"/dev/{chip}", consumer="motelet", config={self._offset: settings}
        )

    def value(self, level=None):
        """The level, 0 or 1; with an argument, drive it."""
        if level is None:
            return 1 if self._request.get_value(self._offset) == self._high else 0
        value = self._high if level else self._low
        if not self._driven:
            settings = self._settings(direction=self._output, bias=self._bias, output_value=value)
            self._request.reconfigure_lines({self._offset: settings})
            self._driven = True
        self._request.set_value(self._offset, value)
        return None


class Pwm:
    """machine.PWM's duty_u16(), by the kernel's files. It is switched on by its first duty cycle."""

    def __init__(self, name, freq, base=None):
        chip, _, number = name.rpartition("/")
        folder = (base or PWM) / chip
        self._folder = folder / f"pwm{number}"
        if not self._folder.exists():
            (folder / "export").write_text(number)
        self._period = 1_000_000_000 // freq

    def duty_u16(self, duty=None):
        """The part of the time that it is high, of 65535; with an argument, set it."""
        if duty is None:
            period = int((self._folder / "period").read_text())
            return round(int((self._folder / "duty_cycle").read_text()) * 65535 / period) if period else 0
        if int((self._folder / "period").read_text()) != self._period:
            (self._folder / "duty_cycle").write_text("0")  # it may never be longer than the period
            (self._folder / "period").write_text(str(self._period))
        (self._folder / "duty_cycle").write_text(str(self._period * duty // 65535))
        (self._folder / "enable").write_text("1")
        return None


class Wire:
    """The scratchpads of DS18B20s, as the kernel reads them: it measures at each read, for up to 750 ms."""

    def __init__(self, folder):
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise OSError(errno.ENOENT, f"no {folder}: is w1-gpio in the device tree?")

    def scratchpad(self, rom):
        """The nine bytes of the thermometer with the code `rom`. OSError when it does not answer."""
        name = f"{rom[0]:02x}-{bytes(reversed(rom[1:7])).hex()}"
        line = (self._folder / name / "w1_slave").read_text().partition(" :")[0]
        try:
            return bytes.fromhex(line)
        except ValueError as error:
            raise OSError(errno.EIO, f"{name}: {line[:40]!r} is not a scratchpad") from error
