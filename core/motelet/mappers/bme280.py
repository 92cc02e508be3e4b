"""Bosch BME280: temperature, pressure and humidity over I2C.

Source: BST-BME280-DS002 (section 4.2 compensation, 5 registers, 9.1 measurement time). Each read is a
measurement of its own, in forced mode with one sample a quantity: between reads the chip sleeps and does not
warm itself.
"""

from struct import unpack

from micropython import const

_ID = const(0xD0)
_CTRL_HUM = const(0xF2)
_CTRL_MEAS = const(0xF4)
_DATA = const(0xF7)
_MEASURE_MS = const(10)  # 9.3 at the most
_CHIP_ID = const(0x60)

# By channel: signed, and what the compensated number is to be divided by.
_CHANNELS = {"temperature": (0, True, 100), "pressure": (1, False, 256), "humidity": (2, False, 1024)}


def channel(where, fields):
    """What a visitor wants: (what, size, signed, divide). ValueError."""
    name = fields.get("channel")
    if name not in _CHANNELS:
        raise ValueError("%s: channel %s is none of %s" % (where, name, ", ".join(sorted(_CHANNELS))))
    what, signed, divide = _CHANNELS[name]
    return what, 4, signed, divide


class Chip:
    """One chip; its calibration is read before the first measurement, and again after a failure."""

    def __init__(self):
        self._trim = None

    def work(self, bus, address, what, data, stage, rx):
        """A stage of a read of channel `what`: see `direct`. OSError, ValueError."""
        if data:
            raise ValueError("a BME280 cannot be written")
        if not stage:
            if self._trim is None:
                self._trim = self._calibration(bus, address)
            bus.writeto_mem(address, _CTRL_HUM, b"\x01")  # counts from the next write of CTRL_MEAS on
            bus.writeto_mem(address, _CTRL_MEAS, b"\x25")  # one sample of each, forced mode
            return _MEASURE_MS
        try:
            read = bus.readfrom_mem(address, _DATA, 8)
        except OSError:
            self._trim = None  # it may be another chip next time
            raise
        number = compensate(self._trim, read)[what]
        rx[:4] = (number & 0xFFFFFFFF).to_bytes(4, "big")
        return 0

    def _calibration(self, bus, address):
        found = bus.readfrom_mem(address, _ID, 1)[0]
        if found != _CHIP_ID:
            raise ValueError("no BME280 there: its id is 0x%02x" % found)
        # T1..T3, P1..P9, (a hole), H1; then H2, H3 and H4..H6, of which two share a byte.
        trim = unpack("<HhhHhhhhhhhhBB", bus.readfrom_mem(address, 0x88, 26))
        h2, h3, high4, shared, high5, h6 = unpack("<hBbBbb", bus.readfrom_mem(address, 0xE1, 7))
        return trim[:12] + (trim[13], h2, h3, high4 << 4 | shared & 15, high5 << 4 | shared >> 4, h6)


def compensate(trim, data):
    """-> hundredths of a degree, pascals * 256, percent * 1024; `data` are the 8 bytes from 0xF7 on.

    The integer arithmetic is that of the data sheet, whose names the variables have.
    """
    t1, t2, t3, p1, p2, p3, p4, p5, p6, p7, p8, p9, h1, h2, h3, h4, h5, h6 = trim
    pressure = data[0] << 12 | data[1] << 4 | data[2] >> 4
    temperature = data[3] << 12 | data[4] << 4 | data[5] >> 4
    humidity = data[6] << 8 | data[7]

    half = (temperature >> 4) - t1
    fine = (((temperature >> 3) - (t1 << 1)) * t2 >> 11) + ((half * half >> 12) * t3 >> 14)

    v1 = fine - 128000
    v2 = v1 * v1 * p6 + (v1 * p5 << 17) + (p4 << 35)
    v1 = ((1 << 47) + (v1 * v1 * p3 >> 8) + (v1 * p2 << 12)) * p1 >> 33
    pascals = 0
    if v1:
        p = ((1048576 - pressure << 31) - v2) * 3125 // v1
        pascals = (p + (p9 * (p >> 13) * (p >> 13) >> 25) + (p8 * p >> 19) >> 8) + (p7 << 4)

    v = fine - 76800
    scale = ((v * h6 >> 10) * ((v * h3 >> 11) + 32768) >> 10) + 2097152
    v = ((humidity << 14) - (h4 << 20) - h5 * v + 16384 >> 15) * (scale * h2 + 8192 >> 14)
    v -= ((v >> 15) * (v >> 15) >> 7) * h1 >> 4
    return fine * 5 + 128 >> 8, pascals, min(max(v, 0), 419430400) >> 12
