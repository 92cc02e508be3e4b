"""Twin updates of applications, with the exchanges of a real EdgeCore 1.23; where ours differ it says so."""

from busy_store import Busy
from twin_world import (
    DEV,
    NODEV,
    RESOURCE,
    STRING,
    actual,
    expected,
    make,
    prop,
    refused,
    update,
    view,
)

from motelet.devicetwin.payload import UNMARSHAL
from motelet.devicetwin.update import TRIES_MAX
from motelet.messages import ARRIVED


def test_an_update_is_answered_by_result_and_document():
    world = make()
    now = world.epoch_ms()
    update(world, temperature=actual("25.0"))
    world.clock.advance(500)
    said = world.ask(
        DEV + "twin/update", {"event_id": "ok1", "timestamp": 1, "twin": {"temperature": actual("25.1")}}
    )
    result = {"temperature": view(now + 500, actual="25.1")}
    document = {"last": view(now, actual="25.0"), "current": view(now + 500, actual="25.1")}
    assert said == [
        (DEV + "twin/update/result", {"event_id": "ok1", "timestamp": now + 500, "twin": result}),
        (
            DEV + "twin/update/document",
            {"event_id": "ok1", "timestamp": now + 500, "twin": {"temperature": document}},
        ),
    ]


def test_an_update_of_two_properties_one_of_them_new_ignores_the_clients_time():
    world = make()
    now = world.epoch_ms()
    update(world, temperature=actual("25.1"))
    old = {"actual": {"value": "25.2", "metadata": {"timestamp": 123}}, "metadata": STRING}
    said = update(world, "two", temperature=old, setpoint=actual("1"))
    assert said[0][1]["twin"] == {"setpoint": view(now, actual="1"), "temperature": view(now, actual="25.2")}
    assert said[1][1]["twin"] == {
        "setpoint": {"last": None, "current": view(now, actual="1")},
        "temperature": {"last": view(now, actual="25.1"), "current": view(now, actual="25.2")},
    }
    assert len(said) == 2


def test_a_property_that_the_device_does_not_list_lives_at_the_edge_only():
    world = make(prop("temperature", "STRING"))
    said = update(world, nosuch=actual("1"), temperature=actual("2"))
    assert sorted(said[0][1]["twin"]) == ["nosuch", "temperature"]
    assert world.reports() == [("temperature", "2")]


def test_an_expected_value_is_answered_by_result_document_and_delta():
    world = make()
    now = world.epoch_ms()
    update(world, setpoint=actual("1"))
    said = update(world, "delta", setpoint=expected("9"))
    both = view(now, expected="9", actual="1")
    document = {"setpoint": {"last": view(now, actual="1"), "current": both}}
    assert [topic for topic, _ in said] == [
        DEV + "twin/update/" + end for end in ("result", "document", "delta")
    ]
    assert said[0][1] == {
        "event_id": "delta",
        "timestamp": now,
        "twin": {"setpoint": view(now, expected="9")},
    }
    assert said[1][1] == {"event_id": "delta", "timestamp": now, "twin": document}
    assert said[2][1]["twin"] == {"setpoint": both} and said[2][1]["delta"] == {"setpoint": "9"}
    assert said[2][1]["event_id"] == "05" * 16  # nobody's question, so an id of our own
    said = update(world, setpoint=actual("9"))
    assert len(said) == 2  # no delta any more


def test_what_is_no_json_is_answered_on_the_topic_of_its_device():
    # EdgeCore answers on `$hw/events/device//twin/update/result`, where nobody looks.
    world = make()
    for payload in (
        '{"event_id":"badjson"',
        "",
        "[]",
        "7",
        b'{"event_id":"\xff"}',
        "[" * 2000,
        '{"event_id":7,"twin":{}}',
    ):
        said = world.ask(DEV + "twin/update", payload)
        assert said[0][0] == DEV + "twin/update/result"
        assert refused(said, 400, UNMARSHAL)["event_id"] == ""


def test_an_update_of_an_unknown_device_is_refused():
    world = make()
    said = world.ask(NODEV + "twin/update", {"event_id": "nodev", "twin": {"temperature": actual("1")}})
    assert said[0][0] == NODEV + "twin/update/result"
    assert refused(said, 404, "update rejected due to the device is not existed")["event_id"] == "nodev"


def test_an_update_is_answered_after_the_store_has_it():
    world = make()
    world.flash.dead = True
    said = update(world, "e500", x=actual("1"))
    assert said[0][1]["code"] == 500 and said[0][1]["event_id"] == "e500" and len(said) == 1
    assert world.ask(DEV + "twin/get", {})[0][1]["twin"] == {}


def test_an_update_waits_while_the_store_makes_room():
    world = make()
    busy = Busy(world.store, 5)
    assert world.inbox.put(
        ARRIVED, DEV + "twin/update", b'{"event_id":"1","twin":{"x":{"actual":{"value":"1"}}}}'
    )
    assert world.inbox.put(
        ARRIVED, DEV + "twin/update", b'{"event_id":"2","twin":{"x":{"actual":{"value":"2"}}}}'
    )
    world.step(20)
    said = [each[1]["event_id"] for each in world.said() if each[0] == DEV + "twin/update/result"]
    assert said == ["1", "2"] and busy.left < 0
    assert world.ask(DEV + "twin/get", {})[0][1]["twin"]["x"]["actual"]["value"] == "2"


def test_an_update_is_refused_when_the_store_makes_no_room():
    world = make()
    busy = Busy(world.store, 1000)
    assert world.inbox.put(
        ARRIVED, DEV + "twin/update", b'{"event_id":"e","twin":{"x":{"actual":{"value":"1"}}}}'
    )
    world.step(TRIES_MAX + 10)
    assert busy.left == 1000 - TRIES_MAX
    refused(world.said(), 500, "store is making room, try again")
    busy.left = 1  # the next one has as many tries again
    assert "code" not in update(world, x=actual("2"))[0][1]


def test_the_number_of_properties_of_a_device_is_bounded():
    world = make()
    record = [None, None, 0, 0, "1", 0, 0, 1, "string", True, None]
    world.comm.records["default/dev1"] = {"p%d" % i: record for i in range(64)}
    refused(update(world, one_more=actual("1")), 400, "more than 64 properties")
    assert "code" not in update(world, p1=actual("2"))[0][1]


def test_what_the_cloud_refuses_is_told_to_the_mapper():
    world = make(prop("temperature", "STRING"))
    update(world, temperature=actual("1"))
    item = world.twin.next_report()
    world.twin.sent(item)
    world.twin.refused(item, 5, "not in the spec")
    said = world.said()
    assert said[0][0] == DEV + "twin/update/result"
    refused(said, 400, "temperature refused by the cloud (5): not in the spec")


def test_a_report_made_while_offline_survives_the_power_too():
    world = make(prop("level"))
    update(world, level=actual("7", "int"))
    then = world.epoch_ms()
    again = world.restarted()
    again.clock.advance(5000)
    again.put(prop("level"), resource=RESOURCE)
    level = again.twin.devices["default/dev1"].properties[0]
    assert level.time_ms == then and ("level", "7") in again.reports()
