"""A device on a bus of chips, pins or lines, with its Mapper on a virtual clock.

The chips are doubles that keep to their data sheets, behind the methods of MicroPython's own bus objects.
"""

from motelet import attach
from motelet.cbor import Writer
from motelet.devload import load
from motelet.loop import Loop
from motelet.mappers import Mapper
from tests_util import Clock, MemoryPoller


class Log:
    def __init__(self):
        self.lines = []

    def debug(self, *_pairs):
        pass

    def info(self, *pairs):
        self.lines.append(pairs)

    warning = info


class Twin:
    """What it was told last, by property name; `states` all that devices were said to be."""

    def __init__(self):
        self.values = {}
        self.done = []
        self.states = []

    def reported(self, prop, value):
        prop.value = value
        self.values[prop.name] = value

    def applied(self, prop):
        self.done.append(prop.name)

    def state(self, device, state, reason):
        device.state = state
        device.reason = reason
        self.states.append((state, reason))


class Port:
    """Gives out what is in `buses`, by kind and name, and `line` as every serial port."""

    def __init__(self, buses=None, line=None):
        self.buses = buses or {}
        self.line = line
        self.opened = []

    def bus(self, kind, name, **options):
        self.opened.append((kind, name, options))
        if (kind, name) not in self.buses:
            raise OSError(2, "no %s" % name)
        return self.buses[kind, name]

    def serial(self, *settings):
        self.opened.append(settings)
        if self.line is None:
            raise OSError(2, "no port")
        return self.line


def prop(name, kind, desired=None, **config):
    """A property every 100 ms, which is reported at once."""
    fields = {"name": name, "type": kind, "accessMode": "ReadWrite", "collectCycle": 100, "reportCycle": 10}
    fields["visitors"] = {"configData": config}
    if desired is not None:
        fields["desired"] = {"value": desired}
    return fields


def made(protocol, config, *properties):
    """-> the Device, as it is when it has come from the cloud."""
    content = {"protocol": {"protocolName": protocol, "configData": config}, "properties": list(properties)}
    writer = Writer(bytearray(2048))
    writer.value(content)
    return load("default/device/d", bytes(writer.buf[: writer.n]))


def fail(_task, error):
    raise error


class World:
    """One device, its bus and its mapper; `module` is the driver's loading one."""

    def __init__(self, module, port, protocol, config, *properties):
        self.clock = Clock((1 << 30) - 300)  # so that ticks wrap on the way
        self.poller = MemoryPoller(self.clock)
        self.loop = Loop(self.clock, self.poller, fail)
        self.log = Log()
        self.twin = Twin()
        self.device = made(protocol, config, *properties)
        key = module.bus(self.device, ())
        self.driver = module.driver(key)(port, self.loop, key)
        self.mapper = Mapper(self.loop, self.log, self.twin, self.driver)
        attach.add(self.mapper, self.device, module)

    def run(self, ms):
        """Let `ms` pass."""
        end = self.clock.ticks_add(self.clock.ticks_ms(), ms)
        left = ms
        while left > 0:
            self.loop.step(left)
            left = self.clock.ticks_diff(end, self.clock.ticks_ms())


class I2c:
    """A bus of chips by address; a chip is a dict of registers, or has write(reg, data) and read(reg, n)."""

    def __init__(self, **chips):
        self.chips = {int(name[1:], 16): chip for name, chip in chips.items()}
        self.writes = []
        self.broken = False

    def _chip(self, address):
        if self.broken or address not in self.chips:
            raise OSError(19, "ENODEV")
        return self.chips[address]

    def readfrom_mem(self, address, register, count, addrsize=8):
        data = bytearray(count)
        self.readfrom_mem_into(address, register, data, addrsize=addrsize)
        return bytes(data)

    def readfrom_mem_into(self, address, register, buf, addrsize=8):
        chip = self._chip(address)
        assert register >> addrsize == 0
        if isinstance(chip, dict):
            for i in range(len(buf)):
                buf[i] = chip[register + i]
        else:
            buf[:] = chip.read(register, len(buf))

    def writeto_mem(self, address, register, data, addrsize=8):
        chip = self._chip(address)
        assert register >> addrsize == 0
        self.writes.append((address, register, bytes(data)))
        if isinstance(chip, dict):
            for i in range(len(data)):
                chip[register + i] = data[i]
        else:
            chip.write(register, bytes(data))
