"""States of devices that mappers on MQTT tell DeviceTwin."""

from twin_world import DEV, NODEV, RESOURCE, make

from motelet.devicetwin.payload import rfc3339


def test_state_updates():
    world = make()
    device = world.twin.devices["default/dev1"]
    now = world.epoch_ms()
    said = world.ask(DEV + "state/update", {"event_id": "s1", "timestamp": 1, "state": "online"})
    assert said[0][0] == DEV + "state/update/result" and said[0][1]["timestamp"] == now
    assert said[0][1]["device"] == {"name": "dev1", "state": "online", "lastOnlineTime": rfc3339(now)}
    assert world.reports() == [("state", "online")]
    assert len(world.ask(DEV + "state/update", {"state": "online"})) == 1  # answered though nothing changed
    for payload in ({"state": "asleep"}, {}, {"state": 7}, "", "{"):
        assert world.ask(DEV + "state/update", payload) == []
    assert world.ask(NODEV + "state/update", {"state": "online"}) == []
    said = world.ask(DEV + "state/update", {"state": "Unhealthy"})
    assert said[0][1]["device"] == {"name": "dev1", "state": "Unhealthy"} and device.state == "Unhealthy"


def test_a_state_told_before_the_power_went_arrives():
    world = make()
    world.ask(DEV + "state/update", {"state": "online"})
    then = world.epoch_ms()
    again = world.restarted()
    again.clock.advance(5000)
    again.put(resource=RESOURCE)
    device = again.twin.devices["default/dev1"]
    assert (device.state, device.time_ms) == ("online", then) and ("state", "online") in again.reports()


def test_times_are_rfc_3339():
    for ms, text in (
        (0, "1970-01-01T00:00:00Z"),
        (951782399999, "2000-02-28T23:59:59Z"),
        (951782400000, "2000-02-29T00:00:00Z"),
        (1735689599000, "2024-12-31T23:59:59Z"),
        (1795377020881, "2026-11-22T19:50:20Z"),
        (4107542400000, "2100-03-01T00:00:00Z"),
    ):
        assert rfc3339(ms) == text
