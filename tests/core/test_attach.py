"""Which mapper a device gets: one a bus, by protocol; a user's own driver before ours."""

from bus_world import I2c, Log, Port, Twin, fail, made, prop

from motelet.attach import attach, remove
from motelet.loop import Loop
from tests_util import Clock, MemoryPoller, raises


class Gateway:
    def __init__(self, buses=None, drivers=None):
        self.clock = Clock()
        self.port = Port(buses)
        self.loop = Loop(self.clock, MemoryPoller(self.clock), fail)
        self.log = Log()
        self.twin = Twin()
        self.drivers = drivers or {}


LINE = {"request": "T?", "response": "(.)"}
MODBUS = {"register": "HoldingRegister"}


def test_two_devices_on_one_bus_share_a_mapper_and_two_protocols_do_not():
    gateway = Gateway()
    mappers = {}
    port = {"serialPort": "uart1"}
    first = made("serial", port, prop("x", "STRING", **LINE))
    second = made("serial", port, prop("x", "STRING", **LINE))
    other = made("modbus", dict(port, slaveID=1), prop("x", "INT", **MODBUS))
    for device in (first, second, other):
        attach(gateway, device, mappers)
    assert first.mapper is second.mapper and other.mapper is not first.mapper
    assert sorted(name for name, _ in mappers) == ["modbus", "serial"]


def test_a_bus_whose_last_device_left_is_forgotten():
    gateway = Gateway({("i2c", "i2c0"): I2c(x76={1: 7})})
    mappers = {}
    config = {"bus": "i2c0", "address": 0x76}
    device = made("i2c", config, prop("x", "INT", register=1))
    attach(gateway, device, mappers)
    remove(device)
    gateway.loop.step(0)
    attach(gateway, made("i2c", dict(config, frequency=400000), prop("x", "INT", register=1)), mappers)
    assert list(mappers) == [("i2c", ("i2c", "i2c0", 400000))]


def test_a_users_own_driver():
    gateway = Gateway(drivers={"counter": "own_driver", "modbus": "own_driver"})
    mappers = {}
    devices = [made(name, {"ip": "10.0.0.1"}, prop("n", "INT")) for name in ("counter", "modbus")]
    for device in devices:
        attach(gateway, device, mappers)
    for _ in range(20):
        gateway.clock.advance(50)
        gateway.loop.step(0)
    assert gateway.twin.values["n"] > 3 and len(mappers) == 2
    assert type(devices[1].mapper.driver).__module__ == "own_driver"


def test_a_protocol_without_a_driver_is_named():
    device = made("profibus", {}, prop("x", "INT"))
    assert "default/d: no driver for protocol profibus" in str(
        raises(ValueError, attach, Gateway(), device, {})
    )
