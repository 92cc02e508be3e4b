"""What DeviceTwin tells applications on MQTT without being asked, and how it waits for room."""

from twin_world import DEV, RESOURCE, World, actual, make, prop, told, update

from motelet.devicetwin.comm import MAILBOX_SIZE
from motelet.messages import ARRIVED, PUBLISH


def test_answers_wait_for_room_and_none_is_lost():
    world = make()
    waiting = [b'{"event_id":"%d","twin":{"x":{"actual":{"value":"1"}}}}' % i for i in range(6)]

    def run():
        for _ in range(40):
            while waiting and world.inbox.put(ARRIVED, DEV + "twin/update", waiting[0]):
                waiting.pop(0)
            world.step(1)

    run()
    assert MAILBOX_SIZE - 3 < len(world.out) <= MAILBOX_SIZE and len(world.inbox) > 0
    ids = []
    for _ in range(3):
        ids += [payload["event_id"] for topic, payload in world.said() if topic.endswith("result")]
        run()
    assert ids == ["0", "1", "2", "3", "4", "5"] and world.comm.dropped == 0


def test_what_a_mapper_in_this_process_reports_is_published():
    world = World(mqtt=True)
    lamp = world.put(
        prop("level", desired="9"),
        prop("on", "BOOLEAN"),
        prop("heat", "FLOAT"),
        prop("raw", "BYTES"),
        resource=RESOURCE,
    )
    level, on, heat, raw = lamp.properties
    now = world.epoch_ms()
    world.twin.reported(level, 7)
    kind = {"optional": True, "metadata": {"type": "int"}, "expected": {"value": "9"}}
    current = dict(kind, actual=told("7", now))
    assert world.said() == [
        (
            DEV + "twin/update/document",
            {"event_id": "05" * 16, "timestamp": now, "twin": {"level": {"last": kind, "current": current}}},
        ),
        (
            DEV + "twin/update/delta",
            {"event_id": "05" * 16, "timestamp": now, "twin": {"level": current}, "delta": {"level": "9"}},
        ),
    ]
    world.twin.reported(level, 9)
    assert len(world.said()) == 1
    world.twin.reported(on, True)
    world.twin.reported(heat, 1.5)
    world.twin.reported(raw, b"ab")
    said = world.said()  # what was read at once is told at once
    values = [said[0][1]["twin"][name] for name in ("on", "heat", "raw")]
    assert len(said) == 1 and [value["last"] for value in values] == [None, None, None]
    assert [value["current"]["actual"]["value"] for value in values] == ["true", "1.5", "ab"]


def test_the_state_of_a_device_is_published_whoever_tells_it():
    world = World(mqtt=True)
    lamp = world.put(prop("level"), resource=RESOURCE)
    world.twin.state(lamp, "offline", "no answer")
    assert world.said()[0][1]["device"] == {"name": "dev1", "state": "offline"}


def test_a_desired_value_from_the_cloud_is_published():
    # Current EdgeCore tells its mappers on MQTT nothing.
    world = make(prop("level", desired="4"))
    world.put(prop("level", desired="5"), resource=RESOURCE)
    said = world.said()
    assert [topic for topic, _ in said] == [DEV + "twin/update/document", DEV + "twin/update/delta"]
    states = said[0][1]["twin"]["level"]
    assert (states["last"]["expected"]["value"], states["current"]["expected"]["value"]) == ("4", "5")
    assert said[1][1]["delta"] == {"level": "5"}
    world.put(prop("level", desired="5"), resource=RESOURCE)
    assert world.said() == []


def test_when_the_broker_comes_back_open_differences_are_said_again():
    world = make(prop("level", desired="4"))
    world.comm.connected(False)
    update(world, level=actual("1", "int"))
    assert world.said() == [] and world.comm.dropped == 0
    world.comm.connected(True)
    world.step()
    said = world.said()
    assert len(said) == 1 and said[0][1]["delta"] == {"level": "4"}


def test_news_wait_for_room_newest_first_and_only_too_many_are_dropped_and_counted():
    world = World(mqtt=True)
    lamp = world.put(prop("level"), prop("other"), resource=RESOURCE)
    level, other = lamp.properties
    for _ in range(MAILBOX_SIZE):
        assert world.out.put(PUBLISH, "t", "{}")
    for i in range(4):
        world.twin.reported(level, i)
        world.twin.reported(other, i)
        world.step()
    assert world.comm.dropped == 0
    world.twin.reported(level, 4)  # one more than may wait
    assert world.comm.dropped == 1 and "no room" in world.lines[-1]
    world.twin.reported(other, 5)
    world.twin.reported(level, 5)
    world.twin.reported(other, 6)
    world.said()
    twins = [payload["twin"] for topic, payload in world.said()]
    assert [sorted(twin) for twin in twins] == [["level", "other"]]
    values = [
        (twin["last"]["actual"]["value"], twin["current"]["actual"]["value"]) for twin in twins[0].values()
    ]
    assert sorted(values) == [("3", "5"), ("3", "6")]
