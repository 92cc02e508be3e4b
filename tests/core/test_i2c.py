"""I2C: registers of every width, BME280 and ADS1115 against their data sheets, faults, no garbage."""

from bus_world import I2c, Port, World, made, prop

from motelet.mappers import bme280, i2cload
from tests_util import Clock, allocates_nothing, raises

NAME = "i2c0"


def world(bus, config, *properties):
    fields = {"bus": NAME, "address": "0x76"}
    fields.update(config)
    return World(i2cload, Port({("i2c", NAME): bus}), "i2c", fields, *properties)


def test_registers_of_every_kind():
    chip = {0x10 + i: byte for i, byte in enumerate(b"\x12\x34\xff\xfe\x80\x00\x00\x01abc\x00")}
    bus = I2c(x76=chip)
    board = world(
        bus,
        {},
        prop("plain", "INT", register=0x10),
        prop("wide", "INT", register="0x10", width=2),
        prop("signed", "INT", register=0x12, width=2, signed=True),
        prop("long", "INT", register=0x14, width=4),
        prop("scaled", "FLOAT", register=0x11, scale=0.1, offset=-5),
        prop("flag", "BOOLEAN", register=0x16),
        prop("text", "STRING", register=0x18, width=4),
        prop("bytes", "BYTES", register=0x18, width=4),
    )
    board.run(300)
    values = board.twin.values
    assert values["plain"] == 0x12 and values["wide"] == 0x1234 and values["signed"] == -2
    assert values["long"] == 0x80000001 and abs(values["scaled"] - 0.2) < 1e-6 and values["flag"] is False
    assert values["text"] == "abc" and values["bytes"] == b"abc\0"
    assert board.twin.states == [("online", "")]


def test_little_endian_and_registers_of_two_bytes():
    bus = I2c(x76={0x1234: 1, 0x1235: 2, 0x1236: 0})
    board = world(
        bus,
        {"endianness": "little", "registerSize": 2},
        prop("x", "INT", desired="772", register=0x1234, width=2),
        prop("wide", "INT", register=0x1234, width=3),
    )
    board.run(50)
    # Read first; different, so written, and read again.
    assert bus.writes == [(0x76, 0x1234, b"\x04\x03")]
    board.run(300)
    assert board.twin.values == {"x": 772, "wide": 772} and board.twin.done == ["x"]
    assert len(bus.writes) == 1


def test_what_was_desired_already_is_not_written():
    bus = I2c(x76={1: 7})
    board = world(bus, {}, prop("x", "INT", desired="7", register=1))
    board.run(300)
    assert bus.writes == [] and board.twin.done == ["x"]


def test_a_desired_value_that_does_not_fit_is_said():
    bus = I2c(x76={1: 7})
    for desired, text in (("256", "does not fit 1 bytes"), ("-1", "does not fit 1 bytes")):
        board = world(bus, {}, prop("x", "INT", desired=desired, register=1))
        board.run(300)
        assert bus.writes == [] and text in board.device.reason and board.device.state == "online"
    board = world(bus, {}, prop("x", "STRING", desired="long", register=1))
    board.run(300)
    assert "longer than 1 bytes" in board.device.reason


def test_a_chip_that_goes_and_comes_back():
    bus = I2c(x76={1: 7})
    board = world(bus, {}, prop("x", "INT", register=1))
    board.run(200)
    bus.broken = True
    board.run(10000)
    assert board.device.state == "offline" and "ENODEV" in board.device.reason
    bus.broken = False
    board.run(10000)
    assert board.device.state == "online" and board.device.reason == ""


def test_a_bus_that_is_not_there():
    board = World(i2cload, Port(), "i2c", {"bus": NAME, "address": 0x76}, prop("x", "INT", register=1))
    board.run(10000)
    assert board.device.state == "offline" and "no i2c0" in board.device.reason


class Bme280:
    """A chip that measures when it is told to; its trim and readings are those of the BMP280's data sheet."""

    # dig_T1..3, dig_P1..9: BST-BMP280-DS001, section 3.12. Of H1..6 no data sheet has an example.
    trim = (27504, 26435, -1000, 36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000)
    reading = (415148, 519888, 0x6F00)  # pressure, temperature, humidity

    def __init__(self, chip_id=0x60):
        self.chip_id = chip_id
        self.measured = 0
        self.humidity_on = False

    def write(self, register, data):
        if register == 0xF2:
            self.humidity_on = data == b"\x01"
        if register == 0xF4:
            assert data == b"\x25"
            self.measured += 1

    def read(self, register, count):
        if register == 0xD0:
            return bytes([self.chip_id])
        if register == 0x88:
            data = b""
            for number in self.trim:
                number &= 0xFFFF
                data += bytes([number & 255, number >> 8])
            return data + bytes([0, 75])
        if register == 0xE1:  # H2 = 363, H3 = 0, H4 = 320, H5 = 50, H6 = 30
            return bytes([363 & 255, 363 >> 8, 0, 320 >> 4, 320 & 15 | (50 & 15) << 4, 50 >> 4, 30])
        assert register == 0xF7 and count == 8 and self.measured and self.humidity_on
        p, t, h = self.reading
        return bytes(
            [p >> 12, p >> 4 & 255, (p & 15) << 4, t >> 12, t >> 4 & 255, (t & 15) << 4, h >> 8, h & 255]
        )


def test_a_bme280_gives_the_numbers_of_the_data_sheet():
    chip = Bme280()
    board = world(
        I2c(x76=chip),
        {"chip": "bme280"},
        prop("t", "FLOAT", channel="temperature"),
        prop("p", "FLOAT", channel="pressure", scale=0.01),
        prop("h", "FLOAT", channel="humidity"),
    )
    board.run(300)
    values = board.twin.values
    assert abs(values["t"] - 25.08) < 1e-6  # 2508 in the data sheet
    assert abs(values["p"] - 25767236 / 25600) < 1e-2  # 25767236 / 256 Pa there, in hPa here
    assert 0 < values["h"] < 100
    before = chip.measured
    board.run(1000)
    assert chip.measured - before >= 27  # a measurement of its own for each read


def humidity(adc, fine):
    """Humidity by the floating-point formula of the data sheet (section 8.1)."""
    h1, h2, h3, h4, h5, h6 = 75, 363, 0, 320, 50, 30
    x = fine - 76800.0
    x = (adc - (h4 * 64.0 + h5 / 16384.0 * x)) * (
        h2 / 65536.0 * (1.0 + h6 / 67108864.0 * x * (1.0 + h3 / 67108864.0 * x))
    )
    return min(max(x * (1.0 - h1 * x / 524288.0), 0.0), 100.0)


def test_a_bme280s_humidity_is_that_of_the_formula_in_floating_point():
    trim = Bme280.trim + (75, 363, 0, 320, 50, 30)
    _, t, _ = Bme280.reading
    for adc in (0, 20000, 25000, 28416, 32768, 40000, 65535):
        data = bytes([0x65, 0x5A, 0xC0, t >> 12, t >> 4 & 255, (t & 15) << 4, adc >> 8, adc & 255])
        hundredths, _, got = bme280.compensate(trim, data)
        assert hundredths == 2508
        assert abs(got / 1024 - humidity(adc, 128422)) < 0.05


def test_a_chip_that_is_no_bme280_is_said():
    board = world(I2c(x76=Bme280(0x58)), {"chip": "bme280"}, prop("t", "FLOAT", channel="temperature"))
    board.run(300)
    assert "no BME280 there: its id is 0x58" in board.device.reason


class Ads1115:
    """Converts what `inputs` says, in volts; busy for `busy` looks."""

    def __init__(self, busy=0):
        self.inputs = {0b100: 1.0, 0b000: -0.5}
        self.busy = busy
        self.left = 0
        self.config = 0
        self.slept = True

    def write(self, register, data):
        assert register == 1 and data[0] & 0x80
        self.config = data[0] << 8 | data[1]
        self.left = self.busy

    def read(self, register, count):
        assert count == 2
        if register == 1:
            self.left -= 1
            return bytes([0 if self.left >= 0 else 0x80, 0])
        full = (6.144, 4.096, 2.048, 1.024, 0.512, 0.256)[self.config >> 9 & 7]
        number = round(self.inputs[self.config >> 12 & 7] / full * 32768)
        return bytes([number >> 8 & 255, number & 255])


def test_an_ads1115_gives_volts():
    board = world(
        I2c(x76=Ads1115(busy=3)),
        {"chip": "ads1115"},
        prop("single", "FLOAT", channel="0", gain=4.096),
        prop("pair", "DOUBLE", channel="0-1", scale=10),
    )
    board.run(400)
    assert abs(board.twin.values["single"] - 1.0) < 0.001
    assert abs(board.twin.values["pair"] + 5.0) < 0.01


def test_an_ads1115_that_never_ends_is_silent():
    board = world(I2c(x76=Ads1115(busy=1 << 20)), {"chip": "ads1115"}, prop("x", "FLOAT", channel="0"))
    board.run(20000)
    assert board.device.state == "offline" and "does not end" in board.device.reason


def test_chips_are_only_read():
    for chip, make, channel in (("bme280", Bme280, "temperature"), ("ads1115", Ads1115, "0")):
        board = world(I2c(x76=make()), {"chip": chip}, prop("x", "FLOAT", desired="2", channel=channel))
        board.run(300)
        assert "cannot be written" in board.device.reason and board.device.state == "online"


class Clocked:
    clock = Clock()


def refused(config, *properties):
    device = made("i2c", config, *properties)

    def load():
        key = i2cload.bus(device, [("i2c", "other", 400000)])
        i2cload.attach(i2cload.driver(key)(Port(), Clocked, key), device, ())

    return str(raises(ValueError, load))


GOOD = {"bus": NAME, "address": 0x76}


def test_what_is_wrong_in_a_configuration_is_named():
    x = prop("x", "INT", register=1)
    for config, properties, text in (
        ({}, (x,), "default/d: bus is missing"),
        ({"bus": NAME}, (x,), "address is missing"),
        ({"bus": NAME, "address": 0x78}, (x,), "address 120 is not in 8..119"),
        ({"bus": NAME, "address": "0xZZ"}, (x,), "address is not a number: 0xZZ"),
        ({"bus": NAME, "address": 8, "chip": "bmp"}, (x,), "unknown chip bmp, there are bme280, ads1115"),
        ({"bus": NAME, "address": 8, "endianness": "middle"}, (x,), "neither big nor little"),
        ({"bus": "other", "address": 8}, (x,), "bus other is in use at 400000 Hz"),
        ({"bus": NAME, "address": 8, "frequency": 1}, (x,), "frequency 1 is not in 1000..3400000"),
        (GOOD, (prop("x", "INT"),), "default/d x: register is missing"),
        (GOOD, (prop("x", "INT", register=256),), "register 256 is not in 0..255"),
        (GOOD, (prop("x", "INT", register=1, width=9),), "width 9 is not possible for type INT"),
        (GOOD, (prop("x", "BYTES", register=1, width=33),), "width 33 is not in 1..32"),
        (GOOD, (prop("x", "INT", register=1, scale="a"),), "scale is not a number"),
        (dict(GOOD, chip="bme280"), (prop("x", "INT", channel="wind"),), "channel wind is none of"),
        (dict(GOOD, chip="ads1115"), (prop("x", "INT", channel="4"),), "channel 4 is none of"),
        (dict(GOOD, chip="ads1115"), (prop("x", "INT", channel="0", gain=3),), "gain 3 is none of"),
    ):
        assert text in refused(config, *properties), (text, refused(config, *properties))


def test_a_poll_without_a_change_allocates_nothing():
    bus = I2c(x76={1: 7, 2: 8})
    board = world(bus, {}, prop("x", "INT", register=1), prop("y", "INT", register=1, width=2))
    board.run(1000)
    prop_x, prop_y = board.device.properties
    driver = board.driver

    def poll(rounds):
        for _ in range(rounds):
            driver.begin(prop_x, None)
            driver.step()
            driver.begin(prop_y, None)
            driver.step()

    poll(1)
    assert allocates_nothing(poll, 100)
