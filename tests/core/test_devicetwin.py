"""DeviceTwin toward MetaManager, mappers and EdgeHub."""

from twin_world import LAMP, World, content, prop

from motelet.device import APPLY, DIRTY, INFLIGHT
from motelet.devicetwin import find
from motelet.devicetwin.spec import DEVICES_MAX
from motelet.messages import PUT
from tests_util import heap_locked


def test_a_device_goes_to_its_mapper_and_back():
    world = World()
    lamp = world.put(prop("level", desired="3"))
    assert world.driver.devices == [lamp] and lamp.mapper is world.driver
    assert lamp.properties[0].flags & APPLY
    world.delete()
    assert world.driver.devices == [] and world.twin.devices == {}
    world.delete()  # of what is not there: no error


def test_a_change_of_the_spec_keeps_what_was_reported_where_name_and_type_stay():
    world = World()
    lamp = world.put(prop("level"), prop("mode", "STRING"), prop("gone"))
    world.twin.reported(lamp.properties[0], 7)
    world.twin.reported(lamp.properties[1], "auto")
    world.twin.reported(lamp.properties[2], 1)
    world.twin.state(lamp, "online")
    new = world.put(prop("level", desired="9"), prop("mode", "INT"))
    assert new is not lamp and world.driver.devices == [new]
    assert (new.state, new.properties[0].value, new.properties[0].time_ms) == ("online", 7, world.epoch_ms())
    assert new.properties[1].value is None
    assert new.properties[0].flags & APPLY
    assert sorted(world.reports()) == [("level", 7), ("state", "online")]


def test_what_was_under_way_when_the_spec_changed_is_sent_again():
    world = World()
    lamp = world.put(prop("level"))
    world.twin.reported(lamp.properties[0], 7)
    sent = world.twin.next_report()
    world.twin.sent(sent)
    world.put(prop("level", desired="9"))
    world.twin.acked(sent)
    assert world.reports() == [("level", 7)]


def test_the_newest_value_of_each_property_is_kept_while_offline():
    world = World()
    lamp = world.put(prop("level"), prop("mode", "STRING"), prop("quiet", reportToCloud=False))
    for value in range(100):
        world.twin.reported(lamp.properties[0], value)
        world.twin.reported(lamp.properties[2], value)
        world.clock.advance(10)
    world.twin.reported(lamp.properties[1], "auto")
    assert world.hub.count == 102  # 101 values, and the device itself
    assert lamp.properties[0].time_ms == world.epoch_ms() - 10
    assert sorted(world.reports()) == [("level", 99), ("mode", "auto")]
    assert world.reports() == [] and lamp.properties[2].value == 99


def test_a_value_that_changes_under_way_goes_next_and_a_lost_link_forgets_nothing():
    world = World()
    lamp = world.put(prop("level"))
    level = lamp.properties[0]
    world.twin.reported(level, 1)
    assert world.twin.next_report() is level
    world.twin.sent(level)
    assert world.twin.next_report() is None
    world.twin.reported(level, 2)
    assert world.twin.next_report() is None  # one at a time
    world.twin.acked(level)
    assert world.twin.next_report() is level
    level.ref = lamp.ref = 5
    world.twin.sent(level)
    world.twin.link_lost()
    assert level.ref == lamp.ref == 0 and level.flags & (DIRTY | INFLIGHT) == DIRTY
    assert world.reports() == [("level", 2)]


def test_reports_take_turns():
    world = World()
    lamp = world.put(prop("a"), prop("b"), prop("c"))
    order = []
    for _ in range(6):
        for each in lamp.properties:
            world.twin.reported(each, 1)
        item = world.twin.next_report()
        world.twin.sent(item)
        world.twin.acked(item)
        order.append(item.name)
    assert order == ["a", "b", "c"] * 2


def test_what_the_cloud_refuses_is_not_sent_again():
    world = World()
    lamp = world.put(prop("level"))
    world.twin.reported(lamp.properties[0], 1)
    item = world.twin.next_report()
    world.twin.sent(item)
    world.twin.refused(item, 5, "no such property")
    assert world.reports() == []
    world.twin.reported(lamp.properties[0], 2)
    assert world.reports() == [("level", 2)]
    world.twin.in_step()
    assert world.reports() == []


def test_what_the_cloud_refused_is_sent_again_when_both_are_in_step():
    world = World()
    lamp = world.put(prop("level"))
    world.twin.reported(lamp.properties[0], 1)
    world.twin.state(lamp, "online")
    for _ in range(2):
        item = world.twin.next_report()
        world.twin.sent(item)
        world.twin.refused(item, 6, "not a device of this node")
    assert world.reports() == []
    world.twin.in_step()
    assert sorted(world.reports()) == [("level", 1), ("state", "online")]
    world.twin.in_step()
    assert world.reports() == []


def test_what_the_cloud_refused_is_sent_again_with_another_spec():
    world = World()
    lamp = world.put(prop("level"))
    world.twin.reported(lamp.properties[0], 1)
    item = world.twin.next_report()
    world.twin.sent(item)
    world.twin.refused(item, 7, "no property level")
    world.put(prop("level", desired="2"))
    assert world.reports() == [("level", 1)]


def test_a_device_that_cannot_be_read_is_reported_anew_with_another_spec():
    # The object may be another one of the same name, whose status is empty.
    world = World()
    lamp = world.put(prop("level"))
    world.twin.reported(lamp.properties[0], 1)
    world.twin.state(lamp, "offline", "no answer")
    world.reports()
    world.put(prop("level", desired="2"))
    assert sorted(world.reports()) == [("level", 1), ("state", "offline")]


def test_a_message_that_memory_was_short_for_is_tried_again_but_not_for_ever():
    world = World()
    tried = []
    failures = [2]

    def attach(device):
        tried.append(device.id)
        if len(tried) <= failures[0]:
            raise MemoryError

    world.twin.attach = attach
    for failures[0] in (2, 9):
        tried.clear()
        world.inbox.put(PUT, LAMP, content(prop("level")))
        for _ in range(6):
            for _ in range(3):
                world.loop.step(0)
            world.clock.advance(61000)
        assert tried == ["default/lamp"] * 3
    assert len(world.errors) == 2 + 3


def test_what_is_wrong_with_a_spec_is_said_until_there_is_another():
    world = World()
    lamp = world.put(prop("level"))
    world.twin.state(lamp, "online")
    world.put(prop("level", collectCycle=5))
    reason = lamp.reason
    assert world.twin.devices == {lamp.id: lamp} and "collectCycle 5" in reason
    world.reports()
    # The mapper still serves it, as it was before.
    world.twin.state(lamp, "offline", "no answer")
    assert (lamp.state, lamp.reason) == ("offline", reason)
    world.twin.state(lamp, "online", "")
    assert (lamp.state, lamp.reason) == ("online", reason)
    world.put(prop("level", collectCycle=6))
    assert "collectCycle 6" in lamp.reason
    new = world.put(prop("level"))
    assert (new.state, new.reason) == ("online", "")
    assert ("state", "online") in world.reports()


def test_looking_for_a_report_allocates_nothing():
    world = World()
    lamp = world.put(prop("a"), prop("b"))
    assert heap_locked(world.twin.next_report) is None
    world.twin.reported(lamp.properties[1], 1)
    item = heap_locked(world.twin.next_report)
    heap_locked(world.twin.sent, item)
    heap_locked(world.twin.acked, item)
    assert heap_locked(world.twin.next_report) is None


def test_applied_tells_the_cloud_once_there_is_a_value():
    world = World()
    level = world.put(prop("level", desired="3")).properties[0]
    world.twin.applied(level)
    assert level.observed == "3" and not level.flags & APPLY
    assert world.reports() == []
    world.twin.reported(level, 3)
    assert world.reports() == [("level", 3)]
    world.twin.applied(level)
    assert world.reports() == []


def test_states_are_reported_when_they_change():
    world = World()
    lamp = world.put(prop("level"))
    assert world.twin.state(lamp, "offline", "no answer")
    assert not world.twin.state(lamp, "offline", "no answer")
    assert world.reports() == [("state", "offline")] and lamp.reason == "no answer"
    assert world.twin.state(lamp, "offline", "refused")
    assert world.reports() == [("state", "offline")]


def test_a_command_is_given_once_however_often_the_power_goes():
    world = World()
    press = world.put(prop("press", desired="1", momentary=True, metadata={"timestamp": "1"})).properties[0]
    assert press.flags & APPLY
    assert world.twin.once(press) is True
    assert world.twin.once(press) is False
    again = world.restarted()
    press = again.put(prop("press", desired="1", momentary=True, metadata={"timestamp": "1"})).properties[0]
    assert again.twin.once(press) is False
    press = again.put(prop("press", desired="1", momentary=True, metadata={"timestamp": "2"})).properties[0]
    assert again.twin.once(press) is True  # another command
    press = again.put(prop("press", desired="2", momentary=True, metadata={"timestamp": "2"})).properties[0]
    assert again.twin.once(press) is True


def test_a_command_that_cannot_be_put_on_record_is_not_given():
    world = World()
    press = world.put(prop("press", desired="1", momentary=True)).properties[0]
    world.flash.dead = True
    assert world.twin.once(press) is None
    assert "command not written" in world.lines[-1]
    world = World()
    press = world.put(prop("press", desired="1", momentary=True)).properties[0]
    assert world.twin.once(press) is True


def test_the_records_of_a_device_go_with_it():
    world = World()
    press = world.put(prop("press", desired="1", momentary=True)).properties[0]
    world.twin.once(press)
    other = world.put(prop("press", desired="1", momentary=True), resource="default/device/lamp2")
    world.twin.once(other.properties[0])
    world.delete()
    assert list(world.store.keys(".twin/")) == [".twin/default/lamp2/press"]
    again = world.restarted()
    again.ready()  # lamp2 was deleted while the power was off
    assert list(again.store.keys(".twin/")) == []


def test_a_device_that_cannot_be_loaded_is_named_and_the_others_go_on():
    world = World()
    assert world.inbox.put(PUT, "default/device/bad", content(prop("level", "INTEGER")))
    world.step()
    lamp = world.put(prop("level"))
    bad = world.twin.devices["default/bad"]
    assert world.driver.devices == [lamp] and bad.state == "offline" and "INTEGER" in bad.reason
    assert world.reports() == [("state", "offline")]
    assert world.inbox.put(PUT, "default/device/bad", content(prop("level")))
    world.step()
    assert len(world.driver.devices) == 2
    assert world.inbox.put(PUT, "default/device/bad", b"\xff")
    assert world.inbox.put(PUT, "nonsense", b"\xff")
    world.step()
    assert len(world.driver.devices) == 2  # the last good spec stays, and the cloud hears of the bad one
    assert world.twin.devices["default/bad"].reason
    assert len([line for line in world.lines if "device refused" in line]) == 3


def test_no_more_devices_than_the_limit():
    world = World()
    last = world.put(resource="default/device/d1")
    for i in range(2, DEVICES_MAX + 1):
        world.twin.devices["default/d%d" % i] = last  # 64 of their own do not fit this heap
    world.put(resource="default/device/more")
    assert len(world.twin.devices) == DEVICES_MAX and "more than 64 devices" in world.lines[-1]
    assert world.put(prop("level"), resource="default/device/d1").properties  # a change of one there is


def test_a_device_without_a_driver_is_offline_with_the_reason():
    world = World(mapper=False)
    lamp = world.put(prop("level"))
    assert (lamp.state, lamp.reason) == ("offline", "no driver for protocol none")
    world.delete()
    assert world.twin.devices == {}


def test_find():
    lamp = World().put(prop("a"), prop("b"))
    assert find(lamp, "b") is lamp.properties[1] and find(lamp, "c") is None
