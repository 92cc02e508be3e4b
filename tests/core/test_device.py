"""Devices: what `load` makes of an effective Device, and what of a desired value may reach a driver."""

from motelet import device
from motelet.cbor import ARRAY, MAP, CborError, Writer
from motelet.desired import convert
from motelet.devfield import share
from motelet.devload import load
from tests_util import raises


def encode(value):
    writer = Writer(bytearray(4096))
    writer.value(value)
    return bytes(writer.buf[: writer.n])


def effective(*properties):
    return {
        "protocol": {"protocolName": "modbus", "configData": {"ip": "10.0.0.5", "port": 502}},
        "properties": list(properties),
    }


def make(*properties, others=()):
    return load("default/device/lamp", encode(effective(*properties)), others)


def plain(**changes):
    fields = {"name": "level", "type": "INT", "accessMode": "ReadWrite"}
    fields.update(changes)
    return fields


def test_a_device_is_what_its_item_says():
    content = effective(
        plain(
            minimum="-5",
            maximum="30.5",
            unit="Celsius",
            visitors={"protocolName": "modbus", "configData": {"register": "HoldingRegister"}},
            desired={"value": "21", "metadata": {"timestamp": "1"}},
            collectCycle=250,
            reportCycle=5000,
            reportToCloud=False,
        ),
        {"name": "on", "type": "BOOLEAN", "accessMode": "ReadOnly"},
    )
    content["stateReport"] = {"reportToCloud": False}
    content["methods"] = [{"name": "ignored"}]
    lamp = load("default/device/lamp", encode(content))
    assert (lamp.id, lamp.resource) == ("default/lamp", "default/device/lamp")
    assert lamp.config == content["protocol"]
    assert (lamp.state, lamp.reason, lamp.flags, lamp.mapper) == ("unknown", "", 0, None)
    level, on = lamp.properties
    assert level.device is lamp
    assert (level.name, level.type, level.limits) == ("level", "INT", (-5, 30.5))
    assert (level.collect_ms, level.report_ms, level.desired) == (250, 5000, "21")
    assert level.flags == device.READ_WRITE | device.APPLY
    assert level.visitor == encode(content["properties"][0]["visitors"])
    assert level.metadata is None  # it only matters to a command
    assert level.value is level.observed is level.time_ms is None
    assert (on.flags, on.limits, on.visitor, on.desired) == (device.TO_CLOUD, None, None, None)
    assert (on.collect_ms, on.report_ms) == (1000, 1000)


def test_a_state_is_reported_unless_it_is_said_not_to_be():
    for report in ({}, {"reportToCloud": True}, {"reportCycle": 1000}):
        content = effective()
        content["stateReport"] = report
        assert load("default/device/lamp", encode(content)).flags == device.TO_CLOUD


def test_momentary_keeps_the_metadata_of_its_command():
    prop = make(
        plain(
            visitors={"configData": {"momentary": True}},
            desired={"value": "1", "metadata": {"timestamp": "17"}},
        )
    ).properties[0]
    assert prop.flags == device.READ_WRITE | device.TO_CLOUD | device.MOMENTARY | device.APPLY
    assert prop.metadata == {"timestamp": "17"}


def test_an_empty_desired_value_is_none():
    prop = make(plain(desired={"value": ""})).properties[0]
    assert prop.desired is None and not prop.flags & device.APPLY


def test_a_cycle_of_zero_is_the_default():
    prop = make(plain(collectCycle=0, reportCycle=0)).properties[0]
    assert (prop.collect_ms, prop.report_ms) == (1000, 1000)


def test_equal_devices_share_what_is_equal():
    one = make(plain(minimum="0", maximum="99"))
    two = make(plain(minimum="0", maximum="99"), others=(one,))
    assert two.properties[0].spec is one.properties[0].spec
    far = make({"name": "on", "type": "BOOLEAN"}, plain(minimum="0", maximum="99"), others=(one,))
    assert far.properties[1].spec != one.properties[0].spec  # another place in the device
    assert far.properties[1].name is one.properties[0].name


def test_what_is_shared_is_equal_in_every_field():
    one = make(plain(minimum="0", maximum="99"))
    spec = one.properties[0].spec
    assert share(type(spec)(*spec), (one,)) is spec
    for change in (
        {"name": "other"},
        {"type": "FLOAT"},
        {"minimum": "1"},
        {"visitors": {"configData": {}}},
        {"collectCycle": 999},
        {"reportCycle": 999},
    ):
        fields = plain(minimum="0", maximum="99")
        fields.update(change)
        assert make(fields, others=(one,)).properties[0].spec is not spec, change


def test_times_and_numbers_are_those_of_each():
    lamp = make(plain(), {"name": "on", "type": "BOOLEAN"})
    items = (lamp,) + lamp.properties
    assert [item.time_ms for item in items] == [None, None, None]
    for n, item in enumerate(items):
        flags = item.flags
        item.time_ms = 1800000000000 + n
        item.ref = 4096 + n
        item.flags |= device.DIRTY
        assert item.flags & 255 == flags | device.DIRTY
    assert [item.time_ms for item in items] == [1800000000000, 1800000000001, 1800000000002]
    assert [item.ref for item in items] == [4096, 4097, 4098]
    lamp.properties[0].ref = 0
    lamp.properties[0].time_ms = None
    assert (lamp.properties[0].ref, lamp.properties[0].time_ms) == (0, None)


def test_a_property_has_no_other_attribute():
    raises(AttributeError, getattr, make(plain()).properties[0], "raw")


# What is refused: the property as it would be in the item, and what the text must name.
REFUSED = (
    ({"type": "INT"}, "name is missing"),
    (plain(name=""), "name is empty"),
    (plain(name="x" * 129), "too long"),
    (plain(name=7), "name is malformed"),
    ({"name": "level"}, "level: type is missing"),
    (plain(type="STREAM"), "level: unknown type STREAM"),
    (plain(accessMode="WriteOnly"), "accessMode WriteOnly"),
    (plain(minimum="low"), "level: minimum is not a number: low"),
    (plain(maximum=5), "level: maximum is malformed"),
    (plain(collectCycle=9), "level: collectCycle 9 is not in 10..86400000"),
    (plain(collectCycle=86400001), "collectCycle 86400001"),
    (plain(reportCycle=-1), "reportCycle -1"),
    (plain(reportCycle="soon"), "reportCycle is not a number: soon"),
    (plain(reportCycle=1.5), "reportCycle is malformed"),
    (plain(reportToCloud="yes"), "reportToCloud is malformed"),
    (plain(visitors="x"), "visitors is malformed"),
    (plain(visitors={"configData": 3}), "configData is malformed"),
    (plain(visitors={"configData": {"momentary": 1}}), "momentary is malformed"),
    (plain(desired="21"), "desired is malformed"),
    (plain(desired={"value": 21}), "value is malformed"),
)


def test_what_is_malformed_is_refused_by_name():
    for fields, text in REFUSED:
        error = str(raises(ValueError, make, fields))
        assert text in error and "default/lamp" in error, (text, error)


def test_a_property_listed_twice_is_refused():
    assert "used twice" in str(raises(ValueError, make, plain(), plain()))


def test_more_properties_than_the_limit_are_refused():
    writer = Writer(bytearray(4096))
    writer.head(MAP, 1)
    writer.value("properties")
    writer.head(ARRAY, 65)
    for i in range(65):
        writer.value({"name": str(i), "type": "INT"})
    content = bytes(writer.buf[: writer.n])
    assert "more than 64 properties" in str(raises(ValueError, load, "default/device/lamp", content))


def test_what_is_no_device_is_refused():
    good = encode(effective(plain()))
    for resource in ("default/pod/lamp", "lamp", "default/device/", "/device/lamp", "a/device/b/c"):
        assert "not a device" in str(raises(ValueError, load, resource, good))
    raises(ValueError, load, "default/device/lamp", encode({"properties": []}))
    raises(ValueError, load, "default/device/lamp", encode({"protocol": {}}))
    raises(ValueError, load, "default/device/lamp", encode({"protocol": 1}))
    raises(ValueError, load, "default/device/lamp", good + b"\x00")
    raises(CborError, load, "default/device/lamp", good[:-1])
    raises(CborError, load, "default/device/lamp", b"")


def wanted(kind, text, **changes):
    return make(plain(type=kind, desired={"value": text}, **changes)).properties[0]


CONVERTED = (
    ("INT", "21", 21),
    ("INT", "-3", -3),
    ("INT", "9223372036854775807", 9223372036854775807),
    ("FLOAT", "21.5", 21.5),
    ("DOUBLE", "-1e3", -1000.0),
    ("FLOAT", "7", 7.0),
    ("BOOLEAN", "true", True),
    ("BOOLEAN", "False", False),
    ("BOOLEAN", "1", True),
    ("BOOLEAN", "0", False),
    ("STRING", "12", "12"),
    ("BYTES", "az", b"az"),
)


def test_desired_text_becomes_a_value_of_its_type():
    for kind, text, value in CONVERTED:
        result = convert(wanted(kind, text))
        assert result == value and type(result) is type(value), (kind, text, result)


# type, desired text, further fields of the property, what the error says
NOT_CONVERTED = (
    ("INT", "21.5", {}, "level: desired 21.5 is not of type INT"),
    ("INT", "", {"desired": {"value": "x"}}, "desired x is not of type INT"),
    ("FLOAT", "warm", {}, "desired warm is not of type FLOAT"),
    ("FLOAT", "nan", {}, "desired nan is not finite"),
    ("DOUBLE", "-inf", {}, "desired -inf is not finite"),
    ("BOOLEAN", "on", {}, "desired on is not a BOOLEAN"),
    ("INT", "31", {"maximum": "30"}, "desired 31 is above maximum 30"),
    ("FLOAT", "30.6", {"maximum": "30.5"}, "desired 30.6 is above maximum 30.5"),
    ("INT", "-1", {"minimum": "0"}, "desired -1 is below minimum 0"),
    ("INT", "1", {"accessMode": "ReadOnly"}, "desired 1 of a ReadOnly property"),
)


def test_desired_text_that_may_not_be_written_is_refused_by_name():
    for kind, text, changes, message in NOT_CONVERTED:
        fields = {"desired": {"value": text}}
        fields.update(changes)
        prop = make(plain(type=kind, **fields)).properties[0]
        error = str(raises(ValueError, convert, prop))
        assert message in error and error.startswith("default/lamp level"), error


def test_limits_are_part_of_the_range():
    for text in ("0", "30"):
        convert(wanted("INT", text, minimum="0", maximum="30"))
