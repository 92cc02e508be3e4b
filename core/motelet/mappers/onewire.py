"""1-Wire: DS18B20 thermometers, any number of them on one wire.

Source: DS18B20 data sheet 19-7487 (memory, commands, conversion times). The wire is MicroPython's
onewire.OneWire; where a port's bus knows scratchpads itself, as Linux' kernel does, that is used.
"""

from micropython import const

from motelet.mappers import direct

_MATCH_ROM = const(0x55)
_CONVERT = const(0x44)
_READ_SCRATCHPAD = const(0xBE)
_CONVERT_MS = const(750)  # at 12 bits
_NO_DEVICE = const(19)  # ENODEV
_IO = const(5)  # EIO


def crc8(data):
    """Dallas' CRC (x^8 + x^5 + x^4 + 1, reflected) of bytes; 0 over data followed by its CRC."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x8C if crc & 1 else crc >> 1
    return crc


class Driver(direct.Driver):
    """One wire. `key` is ("onewire", name). device.config is the ROM code, 8 bytes."""

    def open(self):
        """See `direct`."""
        return self.port.bus("onewire", self.key[1])

    def work(self, prop, data, stage):
        """See `direct`."""
        if data:
            raise ValueError("a thermometer cannot be written")
        rom = prop.device.config
        if hasattr(self.bus, "scratchpad"):
            scratchpad = self.bus.scratchpad(rom)
        elif not stage:
            self._select(rom)
            self.bus.writebyte(_CONVERT)
            return _CONVERT_MS
        else:
            self._select(rom)
            self.bus.writebyte(_READ_SCRATCHPAD)
            scratchpad = bytes([self.bus.readbyte() for _ in range(9)])
        # A line that is stuck low reads as zeros, of which the CRC is right.
        if crc8(scratchpad) or not any(scratchpad):
            raise OSError(_IO, "the answer of %s is damaged" % rom.hex())
        self.rx[0] = scratchpad[1]
        self.rx[1] = scratchpad[0]
        return 0

    def _select(self, rom):
        if not self.bus.reset():
            raise OSError(_NO_DEVICE, "no answer on the wire")
        self.bus.writebyte(_MATCH_ROM)
        self.bus.write(rom)
