"""Pins, analogue inputs, pulse widths, and thermometers on a wire."""

from bus_world import Port, World, made, prop

from motelet.mappers import gpioload, onewireload
from motelet.mappers.onewire import crc8
from tests_util import raises


class Pin:
    def __init__(self, level=0):
        self.level = level
        self.driven = []

    def value(self, level=None):
        if level is None:
            return self.level
        self.level = level
        self.driven.append(level)


class Analog:
    def __init__(self, number):
        self.number = number

    def read_u16(self):
        return self.number

    def duty_u16(self, number=None):
        if number is None:
            return self.number
        self.number = number


def gpio(buses, *properties):
    port = Port(buses)
    return World(gpioload, port, "gpio", {}, *properties), port


def test_inputs_and_outputs():
    door, relay = Pin(1), Pin(0)
    world, port = gpio(
        {("pin", "door"): door, ("pin", "relay"): relay},
        prop("door", "BOOLEAN", pin="door", pull="up", inverted=True),
        prop("relay", "BOOLEAN", desired="true", pin="relay", direction="out"),
    )
    world.run(300)
    assert world.twin.values == {"door": False, "relay": True} and relay.driven == [1]
    assert ("pin", "door", {"mode": "in", "pull": "up"}) in port.opened
    assert ("pin", "relay", {"mode": "out"}) in port.opened and len(port.opened) == 2
    door.level = 0
    world.run(200)
    assert world.twin.values["door"] is True


def test_an_inverted_output_and_one_that_is_right_already():
    low = Pin(1)
    world, _ = gpio(
        {("pin", "a"): low}, prop("a", "BOOLEAN", desired="1", pin="a", inverted=True, direction="out")
    )
    world.run(300)
    assert low.driven == [0] and world.twin.values["a"] is True
    same = Pin(1)
    world, _ = gpio({("pin", "a"): same}, prop("a", "BOOLEAN", desired="1", pin="a", direction="out"))
    world.run(300)
    assert same.driven == []


def test_analogue_inputs_and_pulse_widths():
    fan = Analog(0)
    world, port = gpio(
        {("adc", "battery"): Analog(32768), ("pwm", "fan"): fan},
        prop("battery", "FLOAT", adc="battery", scale=3.3, offset=0.1),
        prop("fan", "FLOAT", desired="25", pwm="fan", frequency=25000, scale=100),
    )
    world.run(300)
    assert abs(world.twin.values["battery"] - 1.75) < 0.001
    assert fan.number == 16384 and abs(world.twin.values["fan"] - 25) < 0.01
    assert ("pwm", "fan", {"freq": 25000}) in port.opened


def test_an_input_cannot_be_written_and_a_pin_that_is_not_there_is_said():
    world, _ = gpio({("adc", "a"): Analog(0)}, prop("a", "FLOAT", desired="1", adc="a"))
    world.run(300)
    assert "cannot be written" in world.device.reason and world.device.state == "online"
    world, _ = gpio({}, prop("a", "BOOLEAN", pin="nowhere"))
    world.run(10000)
    assert world.device.state == "offline" and "no nowhere" in world.device.reason


def test_what_is_wrong_with_a_pin_is_named():
    for fields, kind, text in (
        ({}, "BOOLEAN", "d x: one of pin, adc and pwm is needed"),
        ({"pin": "a", "adc": "b"}, "BOOLEAN", "one of pin, adc and pwm is needed"),
        ({"pin": "a"}, "FLOAT", "type FLOAT is not possible for a pin"),
        ({"pin": "a", "direction": "up"}, "BOOLEAN", "direction up is neither in nor out"),
        ({"pin": "a", "pull": "out"}, "BOOLEAN", "pull out is neither up nor down"),
        ({"pwm": "a", "frequency": 10**9}, "FLOAT", "frequency 1000000000 is not in 1..40000000"),
    ):
        device = made("gpio", {}, prop("x", kind, **fields))
        assert text in str(raises(ValueError, gpioload.attach, Driver(), device, ()))


class Driver:
    rx = bytearray(8)


ROM = bytes([0x28, 1, 2, 3, 4, 5, 6])
ROM += bytes([crc8(ROM)])


class Wire:
    """A DS18B20 behind onewire.OneWire's methods; `sixteenths` of a degree, 85 degrees before it measured."""

    def __init__(self, sixteenths):
        self.sixteenths = sixteenths
        self.there = True
        self.damaged = False
        self._said = b""
        self._measured = 85 * 16
        self._out = b""

    def reset(self):
        self._said = b""
        return self.there

    def writebyte(self, byte):
        self._said += bytes([byte])
        if self._said == b"\x55" + ROM + b"\x44":
            self._measured = self.sixteenths
        if self._said == b"\x55" + ROM + b"\xbe":
            number = self._measured & 0xFFFF
            self._out = bytes([number & 255, number >> 8, 0x4B, 0x46, 0x7F, 0xFF, 0x0C, 0x10])
            self._out += bytes([crc8(self._out) ^ self.damaged])

    def write(self, data):
        for byte in data:
            self.writebyte(byte)

    def readbyte(self):
        byte = self._out[0]
        self._out = self._out[1:]
        return byte


class Kernel:
    """What Linux' driver has: the scratchpad, measured."""

    def scratchpad(self, rom):
        assert rom == ROM
        data = b"\x50\x05\x4b\x46\x7f\xff\x0c\x10"
        return data + bytes([crc8(data)])


def wire(bus, *properties):
    config = {"bus": "wire", "rom": ROM.hex()}
    return World(onewireload, Port({("onewire", "wire"): bus}), "onewire", config, *properties)


def test_the_crc_of_a_thermometer():
    # MAXIM application note 27, example: the ROM code 02 1C B8 01 00 00 00 has the CRC A2.
    assert crc8(b"\x02\x1c\xb8\x01\x00\x00\x00") == 0xA2 and crc8(b"\x02\x1c\xb8\x01\x00\x00\x00\xa2") == 0


def test_a_thermometer_measures_before_it_is_read():
    # The data sheet's table 1: 0191h is 25.0625, FF5Eh -10.125.
    for sixteenths, degrees in ((0x0191, 25.0625), (0xFF5E - 0x10000, -10.125)):
        world = wire(Wire(sixteenths), prop("t", "FLOAT"), prop("f", "FLOAT", scale=1.8, offset=32))
        world.run(4000)
        assert world.twin.values["t"] == degrees and abs(world.twin.values["f"] - degrees * 1.8 - 32) < 1e-4


def test_a_thermometer_of_the_kernel():
    world = wire(Kernel(), prop("t", "FLOAT"))
    world.run(200)
    assert world.twin.values == {"t": 85.0}


def test_a_wire_with_nobody_or_noise_on_it():
    bus = Wire(400)
    world = wire(bus, prop("t", "FLOAT"))
    bus.there = False
    world.run(20000)
    assert world.device.state == "offline" and "no answer on the wire" in world.device.reason
    bus.there = True
    bus.damaged = True
    world.run(90000)
    assert world.device.state == "offline" and world.twin.values == {}
    bus.damaged = False
    world.run(90000)
    assert world.device.state == "online" and world.twin.values == {"t": 25.0}


def test_a_rom_that_is_none():
    for rom in ("", "28", "zz" * 8, ROM[:7].hex() + "00", "10" + ROM.hex()[2:]):
        device = made("onewire", {"bus": "wire", "rom": rom}, prop("t", "FLOAT"))
        error = str(raises(ValueError, onewireload.attach, Driver(), device, ()))
        assert "is not the code of a DS18B20" in error or "rom" in error
