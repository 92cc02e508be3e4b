"""The port for a Raspberry Pi and other small Linux computers, on CPython with the libraries for them.

What it has beyond the unix port: serial ports by pyserial, I2C by smbus2, Modbus by pymodbus, pins by the
GPIO character device, thermometers and pulse widths by what the kernel has for them. What blocks is run in a
thread, one a bus (`worker`).
"""

from pathlib import Path

from motelet.ports import unix

THERMAL = Path("/sys/class/thermal/thermal_zone0/temp")


class Port(unix.Port):
    """The platform a gateway runs on. ports/README.md says what each member guarantees."""

    name = "rpi"
    drivers = {"modbus": "motelet.ports.rpi.modbusload"}

    def worker(self, loop):
        from motelet.ports.rpi.worker import Worker

        return Worker(loop)

    def status(self):
        fields = super().status()
        try:
            fields["temperature"] = int(THERMAL.read_text()) / 1000
        except (OSError, ValueError):
            return fields  # a computer that has no such sensor
        return fields

    def serial(self, path, baudrate, parity="N", stopbits=1):
        from motelet.ports.rpi.line import Line

        return Line(path, baudrate, parity, stopbits)

    def bus(self, kind, name, **options):
        from motelet.ports.rpi import buses

        return buses.open_bus(kind, name, options)
