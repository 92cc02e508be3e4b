"""DeviceTwin asked by applications on MQTT for twins and for the membership."""

from twin_world import DEV, NODEV, RESOURCE, World, actual, make, prop, refused, update, view


def test_get_answers_with_all_there_is():
    world = make(prop("level", desired="4"), prop("unknown"))
    now = world.epoch_ms()
    update(world, nosuch=actual("1"))
    said = world.ask(DEV + "twin/get", {"event_id": "g1", "timestamp": 1})
    level = {"expected": {"value": "4"}, "optional": True, "metadata": {"type": "int"}}
    twin = {"level": level, "nosuch": view(now, actual="1")}
    assert said == [(DEV + "twin/get/result", {"event_id": "g1", "timestamp": now, "twin": twin})]


def test_get_refuses_as_kubeedge_does():
    world = make()
    said = world.ask(DEV + "twin/get", "")
    assert said[0][0] == DEV + "twin/get/result" and said[0][1]["code"] == 400
    assert said[0][1]["reason"].startswith("Unmarshal twin info  failed , err: ")  # and no name of a Go type
    said = world.ask(NODEV + "twin/get", {"event_id": "g2"})
    assert refused(said, 404, "Device default/nodev not found while getting twin")["event_id"] == "g2"


def test_membership():
    topic = "$hw/events/node/edge-1/membership/"
    world = World(mqtt=True)
    now = world.epoch_ms()
    world.put(resource=RESOURCE)
    assert world.said() == []  # what the node held before it started is no news
    assert world.ask(topic + "get", {"event_id": "m1"}) == [
        (
            topic + "get/result",
            {"event_id": "m1", "timestamp": now, "devices": [{"id": "default/dev1", "name": "dev1"}]},
        )
    ]
    world.ready()
    world.put(resource="e/device/dev2")
    added = {"event_id": "05" * 16, "timestamp": now, "removed_devices": None}
    added["added_devices"] = [{"id": "e/dev2", "name": "dev2"}]
    assert world.said() == [(topic + "updated", added)]
    world.delete(RESOURCE)
    said = world.said()
    assert said[0][1]["added_devices"] is None
    assert said[0][1]["removed_devices"] == [{"id": "default/dev1", "name": "dev1"}]
    assert world.ask(topic + "get", "")[0][1]["code"] == 400


def test_any_namespace_and_name_works():
    # EdgeCore looks for the namespace with a substring search, and trips over `e`, `dev` or `event`.
    world = World(mqtt=True)
    for namespace in ("e", "dev", "events", "device", "hw", "node", "twin"):
        world.put(resource=namespace + "/device/update")
        base = "$hw/events/device/%s/update/" % namespace
        said = world.ask(base + "twin/update", {"twin": {"x": actual("1")}})
        assert said[0][0] == base + "twin/update/result" and "twin" in said[0][1]
        world.delete(namespace + "/device/update")
        world.said()


def test_topics_that_are_nobodys_are_left_alone():
    world = make()
    for topic in (
        DEV + "twin/edge_updated",
        DEV + "twin",
        DEV + "twin/update/result",
        "$hw/events/device/a/b",
        "$hw/events/node/edge-1/membership/updated",
        DEV + "state/get",
        "$hw/events/node/x",
    ):
        assert world.ask(topic, {"event_id": "x", "twin": {}}) == []
