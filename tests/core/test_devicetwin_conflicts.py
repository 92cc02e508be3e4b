"""The table of conflicts in devicetwin/update.py: a test for each row, and what is close to them."""

from twin_world import DEV, RESOURCE, STRING, World, actual, expected, make, prop, refused, update

from motelet.device import APPLY


def got(world, name):
    """-> the twin of a property as `twin/get` shows it."""
    world.said()
    return world.ask(DEV + "twin/get", {})[0][1]["twin"].get(name)


def sync(world, **twins):
    return world.ask(DEV + "twin/cloud_updated", {"event_id": "c", "twin": twins})


def versions(cloud, edge):
    return {"cloud": cloud, "edge": edge}


def test_row_1_of_two_updates_the_later_arrival_holds():
    world = make()
    update(world, x={"actual": {"value": "1", "metadata": {"timestamp": 999999999999999}}})
    world.clock.advance(1)
    update(world, x={"actual": {"value": "2", "metadata": {"timestamp": 1}}})
    assert got(world, "x")["actual"] == {"value": "2", "metadata": {"timestamp": world.epoch_ms()}}


def test_row_2_one_bad_property_spoils_the_update():
    world = make(prop("a"))
    refused(update(world, a=actual("1", "int"), b=actual("x", "int")), 400, "the value is not int or integer")
    assert got(world, "a") is None and world.reports() == []


def test_row_3_what_an_application_expects_holds_until_the_desired_value_changes():
    world = World(mqtt=True)
    level = world.put(prop("level", desired="4"), resource=RESOURCE).properties[0]
    update(world, level=expected("6", "int"))
    assert world.driver.asked == [("level", "6")] and level.desired == "6"
    # The same desired value again, in a spec that changed elsewhere.
    level = world.put(prop("level", desired="4"), prop("more"), resource=RESOURCE).properties[0]
    assert level.desired == "6" and level.flags & APPLY and world.said() == []
    level = world.put(prop("level", desired="5"), resource=RESOURCE).properties[0]
    assert level.desired == "5" and got(world, "level")["expected"]["value"] == "5"


def test_row_4_the_same_over_a_restart():
    world = World(mqtt=True)
    world.put(prop("level", desired="4"), resource=RESOURCE)
    update(world, level=expected("6", "int"))
    for desired, holds in (("4", "6"), ("5", "5"), ("5", "5")):
        world = world.restarted()
        level = world.put(prop("level", desired=desired), resource=RESOURCE).properties[0]
        assert level.desired == holds and level.flags & APPLY


def test_row_5_the_later_of_application_and_mapper_holds():
    world = World(mqtt=True)
    level = world.put(prop("level"), resource=RESOURCE).properties[0]
    update(world, level=actual("6", "int"))
    world.clock.advance(10)
    world.twin.reported(level, 7)
    said = world.said()
    assert said[0][1]["twin"]["level"]["last"]["actual"]["value"] == "6"
    assert got(world, "level")["actual"] == {"value": "7", "metadata": {"timestamp": world.epoch_ms()}}
    update(world, level=actual("8", "int"))
    assert world.reports() == [("level", "8")]


def test_row_6_a_cloud_update_behind_the_edge_is_refused_and_the_edges_value_goes_up():
    world = make(prop("level"))
    update(world, level=actual("1", "int"))
    update(world, level=actual("2", "int"))
    world.reports()
    assert sync(world, level={"actual": {"value": "9"}, "actual_version": versions(3, 1)}) == []
    assert sync(world, level={"actual": {"value": "9"}}) == []
    assert got(world, "level")["actual"]["value"] == "2"
    assert world.reports() == [("level", "2")]


def test_row_7_a_cloud_update_not_behind_the_edge_is_taken_with_its_versions():
    world = make()
    update(world, x=actual("1"))
    said = sync(world, x={"actual": {"value": "9"}, "actual_version": versions(4, 1)})
    assert [topic for topic, _ in said] == [DEV + "twin/update/document"]  # no result, as in the original
    assert got(world, "x")["actual"]["value"] == "9"
    sync(world, x={"actual": {"value": "8"}, "actual_version": versions(3, 7)})
    assert got(world, "x")["actual"]["value"] == "9"
    sync(world, y={"expected": {"value": "9"}, "expected_version": versions(1, 0), "metadata": STRING})
    assert got(world, "y")["expected"]["value"] == "9"


def test_row_8_a_cloud_update_half_behind_changes_neither_value():
    world = make()
    update(world, x={"expected": {"value": "1"}, "actual": {"value": "1"}})
    update(world, x=actual("2"))
    twin = {"expected": {"value": "9"}, "expected_version": versions(1, 1)}
    twin.update({"actual": {"value": "9"}, "actual_version": versions(1, 1)})
    sync(world, x=twin)
    assert (got(world, "x")["expected"]["value"], got(world, "x")["actual"]["value"]) == ("1", "2")


def test_row_9_null_deletes_and_a_later_value_goes_on_counting():
    world = make()
    update(world, x=actual("1"))
    said = update(world, x=None)
    assert said[0][1]["twin"] == {"x": None}
    assert (
        said[1][1]["twin"]["x"]["current"] is None
        and said[1][1]["twin"]["x"]["last"]["actual"]["value"] == "1"
    )
    assert got(world, "x") is None
    assert update(world, x=None)[0][1]["twin"] == {}
    said = update(world, x=actual("7", "int"))
    assert said[1][1]["twin"]["x"]["last"] is None and got(world, "x")["metadata"] == {"type": "int"}
    sync(world, x={"actual": {"value": "9"}, "actual_version": versions(1, 2)})
    assert got(world, "x")["actual"]["value"] == "7"  # three local changes, two known to the update


def test_a_cloud_update_deletes_with_versions_only():
    world = make()
    update(world, x=actual("1"))
    assert sync(world, x=None) == [] and got(world, "x")["actual"]["value"] == "1"
    deleted = {"metadata": {"type": "deleted"}, "actual_version": versions(0, 0)}
    assert sync(world, x=deleted) == []
    deleted["actual_version"] = versions(1, 1)
    assert sync(world, x=deleted)[0][1]["twin"]["x"]["current"] is None and got(world, "x") is None


def test_what_is_deleted_or_emptied_asks_nothing_of_the_driver():
    world = World(mqtt=True)
    world.put(prop("level", desired="4"), resource=RESOURCE)
    update(world, level=None)
    level = world.put(prop("level", desired="4"), prop("more"), resource=RESOURCE).properties[0]
    assert level.desired == "4" and level.flags & APPLY  # the Device still asks for it
    update(world, level=actual("3", "int"))
    assert got(world, "level")["expected"]["value"] == "4"
    update(world, level=expected("", "string"))
    level = world.put(prop("level", desired="4"), resource=RESOURCE).properties[0]
    assert level.desired == "4"
    update(world, other=expected("1"))
    update(world, other=expected(""))
    other = world.put(prop("level", desired="4"), prop("other", "STRING"), resource=RESOURCE).properties[1]
    assert other.desired is None and not other.flags & APPLY
    assert world.driver.asked == []


def test_row_10_null_leaves_a_property_that_is_not_optional():
    world = make()
    update(world, x=actual("1", optional=False))
    assert got(world, "x")["optional"] is False
    assert update(world, x=None)[0][1]["twin"] == {} and got(world, "x")["actual"]["value"] == "1"
    update(world, x=actual("2", optional=True))
    assert got(world, "x")["optional"] is False  # there is no way back
    update(world, y=actual("1"))
    said = update(world, y={"optional": False})
    assert said[1][1]["twin"]["y"]["current"]["optional"] is False


def test_row_11_an_expected_value_that_the_driver_would_refuse_is_refused_at_once():
    world = World(mqtt=True)
    level = world.put(
        prop("level", desired="4", maximum="10"), prop("fixed", accessMode="ReadOnly"), resource=RESOURCE
    )
    level = level.properties[0]
    said = update(world, level=expected("11"))
    assert said[0][1]["code"] == 400 and "above maximum 10" in said[0][1]["reason"] and level.desired == "4"
    assert "ReadOnly" in update(world, fixed=expected("1"))[0][1]["reason"]
    assert world.driver.asked == [] and got(world, "level")["expected"] == {"value": "4"}


def test_row_12_a_record_outlives_the_property_in_the_spec():
    world = make(prop("level"))
    update(world, level=actual("1", "int"))
    world.reports()
    world.put(resource=RESOURCE)
    assert got(world, "level")["actual"]["value"] == "1"
    update(world, level=actual("2", "int"))
    assert world.reports() == []


def test_the_cloud_sees_an_expected_value_as_observed():
    world = make(prop("level", desired="4"))
    level = world.twin.devices["default/dev1"].properties[0]
    update(world, level={"expected": {"value": "4"}, "actual": {"value": "3"}, "metadata": {"type": "int"}})
    assert level.observed == "4"
    world.put(prop("level", desired="5"), resource=RESOURCE)
    level = world.twin.devices["default/dev1"].properties[0]
    assert level.observed == "4"
    update(world, level=actual("5", "int"))
    assert level.observed == "5"  # a mapper that only reports what the device now has
