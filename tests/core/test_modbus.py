"""Modbus, what lies where: configuration, registers of every kind and type, both swaps, CRC."""

from motelet.cbor import Writer
from motelet.desired import convert
from motelet.devload import load
from motelet.mappers import modbusload, modbusrare
from motelet.mappers.modbus import ordered
from motelet.mappers.modbusrtu import crc16
from tests_util import Clock, raises


class Loop:
    clock = Clock()


def encode(value):
    writer = Writer(bytearray(1024))
    writer.value(value)
    return bytes(writer.buf[: writer.n])


def device(config, *properties, others=()):
    content = {"protocol": {"protocolName": "modbus", "configData": config}, "properties": list(properties)}
    return load("default/device/plc", encode(content), others)


def attached(kind, register, limit, desired="", scale=None, swaps="", **fields):
    """A property that a driver has accepted. swaps: "b" bytes of registers, "r" order of registers."""
    config = {"register": register, "offset": 7, "isSwap": "b" in swaps, "isRegisterSwap": "r" in swaps}
    if limit is not None:
        config["limit"] = limit
    if scale is not None:
        config["scale"] = scale
    fields.update({"name": "x", "type": kind, "accessMode": "ReadWrite", "desired": {"value": desired}})
    fields["visitors"] = {"protocolName": "modbus", "configData": config}
    plc = device({"ip": "10.0.0.5"}, fields)
    return serve(plc), plc.properties[0]


def serve(plc, devices=()):
    key = modbusload.bus(plc, ())
    driver = modbusload.driver(key)(None, Loop, key)
    modbusload.attach(driver, plc, devices)
    return driver


HR = "HoldingRegister"
IR = "InputRegister"
CO = "CoilRegister"
DI = "DiscreteInputRegister"

# type, register, limit, swaps, scale, minimum, bytes on the wire, value
LAYOUT = (
    ("INT", HR, 1, "", None, None, b"\x12\x34", 0x1234),
    ("INT", IR, 1, "b", None, None, b"\x12\x34", 0x3412),
    ("INT", HR, 1, "r", None, None, b"\x12\x34", 0x1234),
    ("INT", HR, 2, "", None, None, b"\x12\x34\x56\x78", 0x12345678),
    ("INT", HR, 2, "b", None, None, b"\x12\x34\x56\x78", 0x34127856),
    ("INT", HR, 2, "r", None, None, b"\x12\x34\x56\x78", 0x56781234),
    ("INT", HR, 2, "br", None, None, b"\x12\x34\x56\x78", 0x78563412),
    ("INT", HR, 4, "", None, None, b"\x01\x02\x03\x04\x05\x06\x07\x08", 0x0102030405060708),
    ("INT", HR, 4, "b", None, None, b"\x01\x02\x03\x04\x05\x06\x07\x08", 0x0201040306050807),
    ("INT", HR, 4, "r", None, None, b"\x01\x02\x03\x04\x05\x06\x07\x08", 0x0708050603040102),
    ("INT", HR, 4, "br", None, None, b"\x01\x02\x03\x04\x05\x06\x07\x08", 0x0807060504030201),
    ("INT", HR, 1, "", None, None, b"\xff\xff", 65535),
    ("INT", HR, 1, "", None, "-40", b"\xff\xff", -1),
    ("INT", HR, 2, "r", None, "-40", b"\xff\xfe\xff\xff", -2),
    ("INT", HR, 4, "", None, "-1", b"\xff\xff\xff\xff\xff\xff\xff\xfd", -3),
    ("INT", HR, 4, "", None, None, b"\xff\xff\xff\xff\xff\xff\xff\xff", 18446744073709551615),
    ("INT", HR, 1, "", 10, None, b"\x00\x07", 70),
    ("INT", HR, 1, "", 0.29, None, b"\x00\x64", 29),
    ("INT", HR, 1, "", 0, None, b"\x00\x07", 7),
    ("INT", HR, 1, "", -1, None, b"\x00\x07", -7),
    ("INT", CO, 1, "", None, None, b"\x01", 1),
    ("INT", DI, 8, "", None, None, b"\x81", 0x81),
    ("INT", CO, 16, "", None, None, b"\x01\x80", 0x0180),
    ("INT", CO, 16, "b", None, None, b"\x01\x80", 0x8001),
    ("INT", CO, 3, "br", None, None, b"\x05", 5),
    ("FLOAT", HR, 2, "", None, None, b"\x41\xac\x00\x00", 21.5),
    ("FLOAT", IR, 2, "b", None, None, b"\xac\x41\x00\x00", 21.5),
    ("FLOAT", HR, 2, "r", None, None, b"\x00\x00\x41\xac", 21.5),
    ("FLOAT", HR, 2, "br", None, None, b"\x00\x00\xac\x41", 21.5),
    ("FLOAT", HR, 2, "", 2, None, b"\x41\xac\x00\x00", 43.0),
    ("FLOAT", HR, 2, "", None, None, b"\xc1\xac\x00\x00", -21.5),
    ("FLOAT", HR, 1, "", 0.1, None, b"\x00\xd5", 21.3),
    ("FLOAT", HR, 1, "", 0.01, None, b"\x00\x1d", 0.29),
    ("FLOAT", IR, 1, "", 0.1, "-50", b"\xff\xff", -0.1),
    ("FLOAT", HR, 4, "", None, None, b"\x40\x35\x80\x00\x00\x00\x00\x00", 21.5),
    ("FLOAT", HR, None, "", None, None, b"\x41\xac\x00\x00", 21.5),
    ("DOUBLE", HR, 0, "", None, None, b"\x40\x35\x80\x00\x00\x00\x00\x00", 21.5),
    ("DOUBLE", HR, 4, "b", None, None, b"\x35\x40\x00\x80\x00\x00\x00\x00", 21.5),
    ("DOUBLE", HR, 4, "r", None, None, b"\x00\x00\x00\x00\x80\x00\x40\x35", 21.5),
    ("DOUBLE", HR, 4, "br", None, None, b"\x00\x00\x00\x00\x00\x80\x35\x40", 21.5),
    ("DOUBLE", HR, 2, "", None, None, b"\x41\xac\x00\x00", 21.5),
    ("DOUBLE", IR, 1, "", 0.5, None, b"\x00\x03", 1.5),
    ("BOOLEAN", CO, 1, "br", None, None, b"\x01", True),
    ("BOOLEAN", CO, None, "", None, None, b"\x00", False),
    ("BOOLEAN", DI, 1, "", None, None, b"\x01", True),
    ("BOOLEAN", HR, 1, "", None, None, b"\x00\x01", True),
    ("BOOLEAN", HR, 1, "b", None, None, b"\x01\x00", True),
    ("BOOLEAN", IR, 1, "", None, None, b"\x00\x00", False),
    ("STRING", HR, 3, "", None, None, b"abc\x00\x00\x00", "abc"),
    ("STRING", IR, 2, "b", None, None, b"bad\xc3", None),
    ("STRING", HR, 2, "b", None, None, b"badc", "abcd"),
    ("STRING", HR, 2, "r", None, None, b"cdab", "abcd"),
    ("STRING", HR, 1, "", None, None, b"\xc3\xa9", "\xe9"),
    ("STRING", HR, 1, "", None, None, b"\xff\xff", None),
    ("BYTES", HR, 2, "", None, None, b"a\x00\xff\x00", b"a\x00\xff\x00"),
    ("BYTES", HR, 2, "b", None, None, b"\x00a\x00\xff", b"a\x00\xff\x00"),
)

IN_TENTHS = 1e-6  # a float of a 32-bit board has 24 bits


def test_registers_of_every_kind_type_and_order_are_read():
    for kind, register, limit, swaps, scale, minimum, raw, value in LAYOUT:
        fields = {"minimum": minimum} if minimum else {}
        driver, prop = attached(kind, register, limit, "", scale, swaps, **fields)
        assert prop.visitor[3] == len(raw), (kind, register, limit)
        prop.device.raw = bytearray(raw)
        if value is None:
            raises(ValueError, driver.value, prop)
            continue
        result = driver.value(prop)
        assert type(result) is type(value), (kind, register, result)
        if isinstance(value, float):
            assert abs(result - value) <= IN_TENTHS * abs(value), (kind, register, swaps, result)
        else:
            assert result == value, (kind, register, swaps, result)


def test_what_is_written_is_what_would_be_read():
    for kind, register, limit, swaps, scale, minimum, raw, value in LAYOUT:
        if value is None or (register == HR and kind == "BYTES"):
            continue
        fields = {"minimum": minimum} if minimum else {}
        driver, prop = attached(kind, register, limit, "-", scale, swaps, **fields)
        if register in (IR, DI):
            assert register + " cannot be written" in str(raises(ValueError, modbusrare.encode, prop, value))
        else:
            assert modbusrare.encode(prop, value) == raw, (kind, register, swaps, scale, value)


def test_a_scaled_value_is_the_decimal_it_looks_like():
    driver, prop = attached("DOUBLE", HR, 1, "", 0.1)
    for tenths in range(0, 65536, 7):
        prop.device.raw = bytearray((tenths >> 8, tenths & 255))
        assert driver.value(prop) == tenths / 10


# type, register, limit, scale, minimum, desired text: too much for the register
TOO_MUCH = (
    ("INT", HR, 1, None, None, "65536"),
    ("INT", HR, 1, None, None, "-1"),
    ("INT", HR, 1, None, "-40000", "-32769"),
    ("INT", HR, 1, None, "-1", "32768"),
    ("INT", HR, 1, 0.1, None, "6554"),
    ("INT", CO, 1, None, None, "2"),
    ("INT", CO, 3, None, None, "8"),
    ("INT", HR, 4, None, None, "18446744073709551616"),
    ("FLOAT", HR, 1, 0.1, None, "6553.6"),
    ("FLOAT", HR, 1, 0.1, None, "-0.1"),
    ("FLOAT", HR, 2, None, None, "1e39"),
    ("FLOAT", HR, 2, 0.1, None, "-1e38"),
    ("STRING", HR, 2, None, None, "abcde"),
    ("STRING", HR, 1, None, None, "\xe9\xe9"),
    ("BYTES", HR, 1, None, None, "abc"),
)


def test_what_does_not_fit_is_refused_not_cut_off():
    for kind, register, limit, scale, minimum, desired in TOO_MUCH:
        fields = {"minimum": minimum} if minimum else {}
        driver, prop = attached(kind, register, limit, desired, scale, **fields)
        error = str(raises(ValueError, modbusrare.encode, prop, convert(prop)))
        assert error.startswith("default/plc x: desired"), error
    for kind, limit, desired in (("INT", 1, "65535"), ("STRING", 2, "abcd")):
        driver, prop = attached(kind, HR, limit, desired)
        modbusrare.encode(prop, convert(prop))


def test_an_order_applied_twice_is_none():
    for size in range(1, 9):
        data = bytes(range(size))
        for order in range(4):
            assert ordered(ordered(data, order), order) == data


def test_crc_is_that_of_the_specification():
    frame = b"\x01\x03\x00\x00\x00\x0a\xc5\xcd"
    assert crc16(frame, 0, 6) == 0xCDC5
    assert crc16(frame, 0, 8) == 0
    assert crc16(b"\x02\x07\x41\x12", 0, 2) == 0x1241
    assert crc16(b"", 0, 0) == 0xFFFF


# protocol.configData and the bus it means
BUSES = (
    ({"ip": "10.0.0.5"}, ("10.0.0.5", 502)),
    ({"communicateMode": "TCP", "ip": "plc.local", "port": "5502"}, ("plc.local", 5502)),
    ({"tcp": {"ip": "10.0.0.5", "port": 1502}}, ("10.0.0.5", 1502)),
    ({"serialPort": "/dev/ttyS0"}, ("/dev/ttyS0", 9600, "N", 1)),
    (
        {"communicateMode": "RTU", "serialName": "/dev/ttyS0", "baudRate": "19200", "dataBits": 8},
        ("/dev/ttyS0", 19200, "N", 1),
    ),
    (
        {"com": {"serialPort": "/dev/ttyS1", "baudRate": 115200, "parity": "even", "stopBits": 2}},
        ("/dev/ttyS1", 115200, "E", 2),
    ),
    ({"serialPort": "/dev/ttyS1", "parity": "O", "customizedValues": {"a": 1}}, ("/dev/ttyS1", 9600, "O", 1)),
)


def test_a_bus_is_found_under_every_spelling():
    for config, key in BUSES:
        assert modbusload.bus(device(config), ()) == key, config


# protocol.configData and what its error names
NO_BUSES = (
    ({}, "ip is missing"),
    ({"ip": 5}, "ip is malformed"),
    ({"ip": "a", "port": -1}, "port -1"),
    ({"ip": "a", "port": 65536}, "port 65536"),
    ({"ip": "a", "port": "http"}, "port is not a number"),
    ({"tcp": "a"}, "tcp is malformed"),
    ({"communicateMode": "UDP", "ip": "a"}, "communicateMode"),
    ({"communicateMode": "RTU", "ip": "a"}, "serialPort"),
    ({"serialPort": "/dev/ttyS0", "parity": "mark"}, "parity"),
    ({"serialPort": "/dev/ttyS0", "parity": ""}, "parity"),
    ({"serialPort": "/dev/ttyS0", "dataBits": 7}, "dataBits 7"),
    ({"serialPort": "/dev/ttyS0", "stopBits": 3}, "stopBits 3"),
    ({"serialPort": "/dev/ttyS0", "baudRate": 299}, "baudRate 299"),
)


def test_a_serial_port_has_one_setting_at_a_time():
    keys = [("a", 502), ("/dev/ttyS0", 9600, "N", 1)]
    plc = {"serialPort": "/dev/ttyS0"}
    assert modbusload.bus(device(plc), keys) == keys[1]
    assert modbusload.bus(device({"serialPort": "/dev/ttyS1", "baudRate": 19200}), keys)[1] == 19200
    for field, value in (("baudRate", 19200), ("parity", "even"), ("stopBits", 2)):
        plc[field] = value
        error = str(raises(ValueError, modbusload.bus, device(plc), keys))
        assert error == "default/plc: serialPort /dev/ttyS0 is in use with other settings: 9600 N 1", error
        del plc[field]


def test_a_malformed_bus_is_refused_by_name():
    for config, text in NO_BUSES:
        error = str(raises(ValueError, modbusload.bus, device(config), ()))
        assert text in error and error.startswith("default/plc"), error


def attach(config, visitor, kind="INT"):
    fields = {"name": "x", "type": kind, "visitors": visitor}
    plc = device(config, fields)
    serve(plc)
    return plc


GOOD = {"configData": {"register": HR}}

# protocol.configData, visitors, type, what the error names
MALFORMED = (
    ({"ip": "a", "slaveID": 256}, GOOD, "INT", "slaveID 256"),
    ({"ip": "a", "slaveID": -1}, GOOD, "INT", "slaveID -1"),
    ({"serialPort": "/a", "slaveID": 0}, GOOD, "INT", "slaveID 0"),
    ({"serialPort": "/a", "slaveID": 248}, GOOD, "INT", "slaveID 248"),
    ({"serialPort": "/a"}, GOOD, "INT", "slaveID is missing"),
    ({"ip": "a", "timeout": -1}, GOOD, "INT", "timeout -1"),
    ({"ip": "a", "timeout": 60001}, GOOD, "INT", "timeout 60001"),
    ({"ip": "a"}, {}, "INT", "x: configData is missing"),
    ({"ip": "a"}, {"configData": {}}, "INT", "x: register is missing"),
    ({"ip": "a"}, {"configData": {"register": "Holding"}}, "INT", "unknown register Holding"),
    ({"ip": "a"}, {"configData": {"register": HR, "offset": 65536}}, "INT", "offset 65536"),
    ({"ip": "a"}, {"configData": {"register": HR, "offset": 65535, "limit": 2}}, "INT", "offset 65535"),
    ({"ip": "a"}, {"configData": {"register": HR, "offset": -1}}, "INT", "offset -1"),
    ({"ip": "a"}, {"configData": {"register": HR, "limit": 124}}, "STRING", "limit 124"),
    ({"ip": "a"}, {"configData": {"register": IR, "limit": 126}}, "STRING", "limit 126"),
    ({"ip": "a"}, {"configData": {"register": CO, "limit": 1969}}, "BYTES", "limit 1969"),
    ({"ip": "a"}, {"configData": {"register": DI, "limit": 2001}}, "BYTES", "limit 2001"),
    ({"ip": "a"}, {"configData": {"register": HR, "limit": -1}}, "STRING", "limit -1"),
    ({"ip": "a"}, {"configData": {"register": HR, "limit": 3}}, "INT", "limit 3"),
    ({"ip": "a"}, {"configData": {"register": HR, "limit": 5}}, "DOUBLE", "limit 5"),
    ({"ip": "a"}, {"configData": {"register": CO, "limit": 17}}, "BOOLEAN", "limit 17"),
    ({"ip": "a"}, {"configData": {"register": HR, "scale": "0.1"}}, "INT", "scale is malformed"),
    ({"ip": "a"}, {"configData": {"register": HR, "isSwap": "yes"}}, "INT", "isSwap is malformed"),
    (
        {"ip": "a"},
        {"configData": {"register": HR, "isRegisterSwap": 1}},
        "INT",
        "isRegisterSwap is malformed",
    ),
)


def test_a_malformed_visitor_is_refused_by_name():
    for config, visitor, kind, text in MALFORMED:
        error = str(raises(ValueError, attach, config, visitor, kind))
        assert text in error and error.startswith("default/plc"), (text, error)


def test_what_is_attached_is_compact_and_shared():
    one = attach({"ip": "a", "slaveID": "17", "timeout": 250}, GOOD)
    assert one.config == 17 << 16 | 250
    assert one.properties[0].visitor == (3, 0, 1, 2, 0, 1, 1, 0)
    two = device({"ip": "a"}, {"name": "x", "type": "INT", "visitors": GOOD}, {"name": "y", "type": "INT"})
    serve(two, (one,))
    assert two.config == 1 << 16 | 1000
    assert two.properties[0].spec is one.properties[0].spec
    assert two.properties[1].visitor is None  # nothing says where it is: it is not polled
