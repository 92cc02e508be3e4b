"""A Device and its DeviceModel become what a board gets, or a list of all that is wrong."""

from typing import Any

import cbor2
import pytest
from memory_backend import device, model

from cloud_bridge.backends.base import dotted
from cloud_bridge.devicecontroller import effective
from cloud_bridge.devicecontroller.effective import InvalidError, check_model, join, model_of, node_of


def joined(body: Any, of: Any = None) -> Any:
    return cbor2.loads(join(body, of or model()).content.data)


def test_the_effective_device_has_everything_a_mapper_needs():
    assert joined(device(stateReport={"reportToCloud": True, "reportCycle": 5000})) == {
        "protocol": {
            "protocolName": "modbus",
            "configData": {
                "timeout": 300,
                "communicateMode": "TCP",
                "ip": "10.0.0.9",
                "port": 502,
                "slaveID": 1,
            },
        },
        "properties": [
            {
                "name": "power",
                "type": "BOOLEAN",
                "accessMode": "ReadWrite",
                "visitors": {
                    "protocolName": "modbus",
                    "configData": {"register": "CoilRegister", "offset": 0, "limit": 1},
                },
                "desired": {"value": "true"},
                "reportCycle": 1000,
                "collectCycle": 100,
                "reportToCloud": True,
            },
            {
                "name": "level",
                "type": "INT",
                "accessMode": "ReadWrite",
                "minimum": "0",
                "maximum": "100",
                "unit": "percent",
                "visitors": {
                    "protocolName": "modbus",
                    "configData": {"register": "HoldingRegister", "offset": 7, "limit": 1},
                },
                "desired": {"value": "40", "metadata": {"timestamp": "5"}},
            },
        ],
        "stateReport": {"reportToCloud": True, "reportCycle": 5000},
    }


def test_resource_node_and_types():
    result = join(device(), model())
    assert (result.node, result.resource) == ("board-1", "default/device/lamp")
    assert result.types == {"power": "BOOLEAN", "level": "INT"}


def test_equal_content_is_an_equal_version_whatever_the_order():
    other = device()
    other["spec"] = dict(reversed(other["spec"].items()))
    other["spec"]["protocol"]["configData"] = dict(reversed(other["spec"]["protocol"]["configData"].items()))
    assert join(other, model()).content == join(device(), model()).content
    assert join(device(properties=[]), model()).content.version != join(device(), model()).content.version
    assert len(join(device(), model()).content.version) == 16


def test_another_object_of_the_same_name_is_another_version():
    first, second = device(), device()
    second["metadata"] = {**second["metadata"], "uid": "8f7c"}
    contents = [join(each, model()).content for each in (first, second)]
    assert contents[0].data == contents[1].data
    assert contents[0].version != contents[1].version


def test_a_property_that_is_not_listed_is_there_if_the_model_says_where_it_is():
    assert [each["name"] for each in joined(device(properties=None))["properties"]] == ["power", "level"]


def test_visitors_of_the_instance_alone():
    listed = [{"name": "volts", "visitors": {"protocolName": "onewire", "configData": {"pin": 4}}}]
    assert joined(device(properties=listed))["properties"][-1]["visitors"] == listed[0]["visitors"]


def test_the_old_place_of_state_report_and_the_models_protocol():
    result = joined(device(status={"reportToCloud": False}, protocol=None))
    assert result["stateReport"] == {"reportToCloud": False}
    assert result["protocol"] == {"protocolName": "modbus", "configData": {"timeout": 300, "slaveID": 9}}


def test_an_empty_desired_value_and_a_cycle_of_zero_mean_none():
    listed = [{"name": "power", "desired": {"value": ""}, "reportCycle": 0, "collectCycle": 0}]
    assert set(joined(device(properties=listed))["properties"][0]) == {
        "name",
        "type",
        "accessMode",
        "visitors",
    }


def test_a_device_without_a_node_is_valid_and_nowhere():
    assert join(device(nodeName=""), model()).node == ""


def errors_of(body: Any, of: Any = "model", text: str = "") -> list[str]:
    with pytest.raises(InvalidError) as caught:
        join(body, model() if of == "model" else of, text)
    assert str(caught.value)
    return [f"{dotted(each.path)}: {each.text}" for each in caught.value.errors]


def with_property(**fields: Any) -> Any:
    return device(properties=[{"name": "level", **fields}])


DEEP: Any = {"a": {"b": {"c": {"d": 1}}}}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (device(nodeName="Board_1"), "spec.nodeName: must be at most 253"),
        (device(nodeName=5), 'spec.nodeName: must be a string: write it in quotes ("5")'),
        (device(nodeName="n" * 254), "spec.nodeName: must be at most 253"),
        (device(deviceModelRef=None), "spec.deviceModelRef: is missing"),
        (device(deviceModelRef={"name": ""}), "spec.deviceModelRef.name: is missing"),
        (device(deviceModelRef=["x"]), "spec.deviceModelRef: must be a mapping"),
        (device(protocol="modbus"), "spec.protocol: must be a mapping"),
        (device(protocol={"configData": [1]}), "spec.protocol.configData: must be a mapping"),
        (device(protocol={"configData": {"x": DEEP}}), "spec.protocol.configData.x.a.b: is nested too deep"),
        (
            device(protocol={"configData": {"x": [2**63]}}),
            "spec.protocol.configData.x[0]: does not fit 64 bits",
        ),
        (device(protocol={"configData": {"x": "y" * 513}}), "spec.protocol.configData.x: is longer than 512"),
        (device(properties={}), "spec.properties: must be a list"),
        (device(properties=["power"]), "spec.properties[0]: must be a mapping"),
        (device(properties=[{}]), "spec.properties[0].name: is missing"),
        (device(properties=[{"name": "x" * 129}]), "spec.properties[0].name: is longer than 128 bytes"),
        (
            device(properties=[{"name": "hue"}]),
            'spec.properties[0].name: the DeviceModel of spec.deviceModelRef has no property "hue"',
        ),
        (
            device(properties=[{"name": "power"}, {"name": "power"}]),
            'spec.properties[1].name: there is another property "power"',
        ),
        (
            device(properties=[{"name": "volts"}]),
            'spec.properties[0].visitors: is missing, and the DeviceModel has none for "volts"',
        ),
        (with_property(visitors="x"), "spec.properties[0].visitors: must be a mapping"),
        (
            with_property(visitors={"protocolName": 1}),
            "spec.properties[0].visitors.protocolName: must be a string",
        ),
        (with_property(desired="40"), "spec.properties[0].desired: must be a mapping"),
        (
            with_property(desired={"value": 40}),
            'spec.properties[0].desired.value: must be a string: write it in quotes ("40")',
        ),
        (
            with_property(desired={"value": True}),
            'spec.properties[0].desired.value: must be a string: write it in quotes ("true")',
        ),
        (
            with_property(desired={"value": "warm"}),
            'spec.properties[0].desired.value: "warm" is not a whole number',
        ),
        (
            with_property(desired={"value": "-1"}),
            "spec.properties[0].desired.value: -1 is less than the minimum, 0",
        ),
        (
            with_property(desired={"value": "101"}),
            "spec.properties[0].desired.value: 101 is more than the maximum, 100",
        ),
        (
            with_property(desired={"value": "1", "metadata": {"a": 1}}),
            "spec.properties[0].desired.metadata.a: must be a string",
        ),
        (
            with_property(desired={"metadata": {f"k{i}": "v" for i in range(17)}}),
            "spec.properties[0].desired.metadata: has 17 entries, at most 16",
        ),
        (
            with_property(reportCycle=-1),
            "spec.properties[0].reportCycle: must be a whole number from 0 to 86400000",
        ),
        (with_property(collectCycle="100"), "spec.properties[0].collectCycle: must be a whole number"),
        (with_property(collectCycle=86_400_001), "spec.properties[0].collectCycle: must be a whole number"),
        (with_property(reportToCloud="yes"), "spec.properties[0].reportToCloud: must be true or false"),
        (device(stateReport={"reportCycle": True}), "spec.stateReport.reportCycle: must be a whole number"),
        (device(status=[]), "spec.status: must be a mapping"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(body, error):
    assert any(each.startswith(error) for each in errors_of(body)), errors_of(body)


def test_a_desired_value_of_what_can_only_be_read():
    listed = [{"name": "volts", "desired": {"value": "3"}, "visitors": {"configData": {}}}]
    assert errors_of(device(properties=listed)) == [
        "spec.properties[0].desired.value: the DeviceModel says that this property is ReadOnly"
    ]


def test_a_missing_model_is_said_in_the_callers_words_and_the_rest_is_checked_all_the_same():
    found = errors_of(with_property(desired={"value": 40}, reportCycle=-1), None, "there is no DeviceModel x")
    assert found[0] == "spec.deviceModelRef.name: there is no DeviceModel x"
    assert len(found) == 3


def test_all_errors_are_found_at_once():
    body = device(nodeName="A", properties=[{"name": "level", "desired": {"value": "x"}}, {"name": "y"}])
    assert len(errors_of(body)) == 3


def test_no_protocol_anywhere():
    assert errors_of(device(protocol=None), model(protocol=None)) == [
        "spec.protocol.protocolName: is missing, and the DeviceModel names no protocol"
    ]


def test_a_device_too_large_for_a_board(monkeypatch):
    monkeypatch.setattr(effective, "OBJECT_SIZE_MAX", 300)
    assert "bytes when encoded for a board, at most 300" in errors_of(device())[0]


@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        ({"name": "Lamp", "namespace": "default"}, "metadata.name"),
        ({"name": "x" * 254, "namespace": "default"}, "metadata.name"),
        ({"name": "../../etc/passwd", "namespace": "default"}, "metadata.name"),
        ({"name": "a..b", "namespace": "default"}, "metadata.name"),
        ({"name": "lamp\n", "namespace": "default"}, "metadata.name"),
        ({"name": 5, "namespace": "default"}, "metadata.name"),
        ({"name": "lamp", "namespace": "a.b"}, "metadata.namespace"),
        ({"name": "lamp", "namespace": "x" * 64}, "metadata.namespace"),
        ({"name": "lamp", "namespace": ".."}, "metadata.namespace"),
        ({"name": "lamp"}, "metadata.namespace"),
        (None, "metadata"),
    ],
)
def test_names_follow_rfc_1123(metadata, error):
    body = {**device(), "metadata": metadata}
    assert errors_of(body)[0].startswith(error)
    with pytest.raises(InvalidError):
        check_model({**model(), "metadata": metadata})


@pytest.mark.parametrize(
    ("prop", "error"),
    [
        ({"type": "int"}, "type: must be one of INT, FLOAT, DOUBLE, BOOLEAN, STRING, BYTES"),
        ({"type": "STREAM"}, "type: must be one of"),
        ({"type": None}, "type: must be one of"),
        ({"accessMode": "readwrite"}, "accessMode: must be one of ReadWrite, ReadOnly"),
        ({"unit": 5}, "unit: must be a string"),
        ({"minimum": 5}, 'minimum: must be a string: write it in quotes ("5")'),
        ({"minimum": "low"}, 'minimum: "low" is not a whole number'),
        ({"minimum": "6", "maximum": "5"}, "minimum: 6 is more than the maximum, 5"),
        ({"type": "STRING", "maximum": "5"}, "maximum: is only for numbers, not for STRING"),
        ({"name": ""}, "name: is missing"),
        ({"visitors": {"configData": "x"}}, "visitors.configData: must be a mapping"),
    ],
)
def test_a_model_is_checked_by_itself(prop, error):
    good = {"name": "p", "type": "INT", "accessMode": "ReadOnly"}
    check_model(model(properties=[good]))
    with pytest.raises(InvalidError) as caught:
        check_model(model(properties=[{**good, **prop}]))
    assert str(caught.value.errors[0]).startswith(f"spec.properties[0].{error}")


def test_a_model_has_a_limit_of_properties_and_no_two_of_one_name():
    good = {"name": "p", "type": "INT", "accessMode": "ReadOnly"}
    many = [{**good, "name": f"p{i}"} for i in range(effective.PROPERTIES_MAX + 1)]
    check_model(model(properties=many[1:]))
    with pytest.raises(InvalidError, match="at most 256"):
        check_model(model(properties=many))
    with pytest.raises(InvalidError, match="another property"):
        check_model(model(properties=[good, good]))
    with pytest.raises(InvalidError, match="spec: is missing"):
        check_model({**model(), "spec": None})


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"spec": 5},
        {"spec": {"nodeName": 5, "deviceModelRef": 5}},
        {"spec": {"deviceModelRef": {"name": 5}}},
    ],
)
def test_node_and_model_of_anything(body):
    assert node_of(body) == ""
    assert model_of(body) == ""
