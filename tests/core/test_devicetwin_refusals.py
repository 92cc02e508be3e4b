"""Twin updates that cannot be taken, each refused as KubeEdge does where it does."""

from twin_world import DEV, actual, make, refused, update

from motelet.devicetwin.payload import UNMARSHAL


def test_a_value_of_the_wrong_type_is_refused_with_kubeedges_reasons():
    world = make()
    for kind, bad, good, reason in (
        ("int", "abc", "-5", "the value is not int or integer"),
        ("integer", "1.5", "+7", "the value is not int or integer"),
        ("INT", " 1", "9223372036854775807", "the value is not int or integer"),
        ("int", "9223372036854775808", "-9223372036854775808", "the value is not int or integer"),
        ("int", "", "0", "the value is not int or integer"),
        ("float", "warm", "1e3", "the value is not float"),
        ("double", "1_0", "-0.5", "the value is not float"),  # EdgeCore knows no double
        ("boolean", "True", "true", "the bool value must be true or false"),
        ("colour", "red", None, "the value type is not allowed"),
        ("bytes", None, "any", None),  # EdgeCore knows no bytes
        ("STRING", None, "any", None),
    ):
        if bad is not None:
            assert (
                refused(update(world, "inttype", x=actual(bad, kind)), 400, reason)["event_id"] == "inttype"
            )
        if good is not None:
            assert update(world, x=actual(good, kind))[0][1]["twin"]["x"]["actual"]["value"] == good
            update(world, x=None)
    assert not world.errors


def test_values_are_any_text_up_to_the_limit():
    # EdgeCore refuses spaces, percent signs, plus signs and whatever is not ASCII.
    for value in ("two words", "50 %", "+1", '{"a": "b"}', "\u00e4\u20ac\U0001f600", 'a\nb\t"\\', ""):
        world = make()
        assert update(world, x=actual(value))[0][1]["twin"]["x"]["actual"]["value"] == value


def test_names_are_checked_as_kubeedge_does():
    world = make()
    assert "code" not in update(world, **{"a-Z_0.,:/@#": actual("1"), "x" * 128: actual("1")})[0][1]
    for name in ("", "a b", "a%", "\u00e4", "x" * 129):
        said = update(world, **{name: actual("1")})
        assert said[0][1]["code"] == 400 and said[0][1]["reason"].startswith(
            "The key of twin must only include"
        )


def test_fields_of_the_wrong_type_are_refused():
    world = make()
    for twin in (
        7,
        "x",
        [],
        {"actual": 7},
        {"actual": {"value": 7}},
        {"actual": {}},
        {"expected": {"value": None}},
        {"optional": "yes"},
        {"metadata": 7},
        {"metadata": {"type": 7}},
        {"expected_version": 7},
        {"actual_version": {"cloud": "1"}},
    ):
        refused(update(world, x=twin), 400, UNMARSHAL)
    for twins in (7, [], "x"):
        refused(world.ask(DEV + "twin/update", {"twin": twins}), 400, UNMARSHAL)
    refused(
        world.ask(DEV + "twin/update", {"event_id": "e"}), 400, "Update twin error, key:twin does not exist"
    )
    refused(update(world, x=None), 400, "the request body is wrong")
    assert world.ask(DEV + "twin/update", {"twin": {}})[0][1]["twin"] == {}


def test_the_size_of_a_value_is_bounded():
    world = make()
    assert (
        update(world, x=actual("x" * 512))[0][1]["code"] == 500
    )  # allowed, though too large for this small flash
    for value in ("x" * 513, "\u20ac" * 171):
        refused(update(world, x=actual(value)), 400, "The length of value should be at most 512 bytes")
