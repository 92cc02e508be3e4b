"""I2C: registers of a chip, and the chips that need more than registers (`i2cchips`).

Source: UM10204, I2C-bus specification (section 3.1.10: addresses and combined formats). The bus is
MicroPython's machine.I2C, or what a port has that is called the same way.
"""

from motelet.mappers import direct


class Driver(direct.Driver):
    """One I2C bus. `key` is ("i2c", name, frequency).

    device.config is (address, bits of a register's number, bytes are little-endian, chip or None); the
    `what` of a visitor is the register's number, or the chip's own.
    """

    def __init__(self, port, loop, key):
        direct.Driver.__init__(self, port, loop, key)
        self._buffers = {}  # by size: a slice of one large buffer would be garbage at each read

    def open(self):
        """See `direct`."""
        return self.port.bus("i2c", self.key[1], freq=self.key[2])

    def work(self, prop, data, stage):
        """See `direct`."""
        address, bits, little, chip = prop.device.config
        what, size, _, _, _, _, _ = prop.spec.visitor
        if chip is not None:
            return chip.work(self.bus, address, what, data, stage, self.rx)
        if data:
            self.bus.writeto_mem(address, what, bytes(reversed(data)) if little else data, addrsize=bits)
            return 0
        rx = self._buffers.get(size)
        if rx is None:
            self._buffers[size] = rx = bytearray(size)
        self.bus.readfrom_mem_into(address, what, rx, addrsize=bits)
        # As it is on the wire, but little-endian: then the other way round.
        for i in range(size):
            self.rx[i] = rx[size - 1 - i] if little else rx[i]
        return 0
