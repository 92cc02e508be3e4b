"""Updates of the usual shape: dealt with at once, as `update` would, and without garbage."""

import gc
import json

from twin_world import DEV, RESOURCE, actual, expected, make, prop, update

from motelet.devicetwin.steady import Steady
from motelet.kvlog import StoreFull
from motelet.messages import ARRIVED, PUBLISH
from tests_util import IS_MICROPYTHON, heap_locked

TOPIC = DEV + "twin/update"
GOOD = '{"event_id":"e","timestamp":1,"twin":{"x":{"actual":{"value":"2"},"metadata":{"type":"string"}}}}'
TOO_LONG = b'{"twin":{"x":{"actual":{"value":"' + b"x" * 513 + b'"}}}}'
# Both made once, as in twin_world: with its flash of objects, the heap has such pieces only at first.
_BUFFER = bytearray(len(TOO_LONG) + 6)
GARBAGE_MAX = (
    192  # bytes of an update but for what the store needs: the value, and views on what it is made of
)


class Listener:
    """In the place of EventBus and its broker: what is published is kept if it listens."""

    def __init__(self):
        self.broker = self
        self.apps = None
        self.qos = 0
        self.said = []
        self.listens = True

    def publish(self, topic, msg, retain, qos, name):
        assert name == topic.encode() if self.listens else len(name) == len(topic)
        if self.listens:
            self.said.append((topic, json.loads(bytes(msg))))


def steady(world):
    listener = Listener()
    return Steady(world.comm, listener), listener


def tell(taker, listener, payload, topic=TOPIC):
    """-> what was published in answer; None: the message is left to `update`."""
    if isinstance(payload, dict):
        payload = json.dumps(payload)
    if isinstance(payload, str):
        payload = payload.encode()
    # As it lies in the buffer of the broker, with other bytes around it.
    end = 3 + len(payload)
    _BUFFER[:3] = b'"}}'
    _BUFFER[3:end] = payload
    _BUFFER[end : end + 3] = b'"}}'
    listener.said = []
    if not taker.update(topic, _BUFFER, 3, end):
        assert listener.said == []
        return None
    return listener.said


def message(value, event_id="e", **more):
    return dict({"event_id": event_id, "timestamp": 1, "twin": {"x": actual(value)}}, **more)


def test_it_says_and_keeps_what_update_does():
    world = make(prop("x", "STRING"))
    update(world, x=actual("1"))
    taker, listener = steady(world)
    world.clock.advance(1000)
    world.reports()
    assert update(world, "e", x=actual("2")) == told_later(world, "1", "2", 1000)
    world.clock.advance(1000)
    assert tell(taker, listener, message("3")) == told_later(world, "2", "3", 1000)
    assert world.comm.records["default/dev1"]["x"][4:8] == ["3", world.epoch_ms(), 0, 3]
    kept = world.store.get(".twin/default/dev1/=x")
    assert json.loads(kept) == world.comm.records["default/dev1"]["x"]
    assert world.reports() == [("x", "3")] and world.said() == []
    world = world.restarted()
    world.put(prop("x", "STRING"), resource=RESOURCE)
    assert world.reports()[-1] == ("x", "3")


def told_later(world, last, current, ms):
    """What is published when `current` takes the place of `last`, told `ms` before."""
    now = world.epoch_ms()
    new = {"actual": {"value": current, "metadata": {"timestamp": now}}}
    old = {"actual": {"value": last, "metadata": {"timestamp": now - ms}}}
    for entry in (new, old):
        entry["optional"] = True
        entry["metadata"] = {"type": "string"}
    head = {"event_id": "e", "timestamp": now}
    return [
        (TOPIC + "/result", dict(head, twin={"x": new})),
        (TOPIC + "/document", dict(head, twin={"x": {"last": old, "current": new}})),
    ]


def test_a_delta_follows_where_something_else_is_expected():
    world = make()
    update(world, x=dict(actual("1"), expected={"value": "9"}))
    taker, listener = steady(world)
    assert len(tell(taker, listener, message("2"))) == 2
    ((topic, payload),) = world.said()
    assert topic == TOPIC + "/delta" and payload["delta"] == {"x": "9"}
    assert tell(taker, listener, message("9"))[1][1]["twin"]["x"]["current"]["expected"]["value"] == "9"
    assert world.said() == []


def test_every_order_of_keys_and_white_space_is_the_usual_shape():
    world = make()
    update(world, x=actual("1"))
    taker, listener = steady(world)
    for payload in (
        '{"twin":{"x":{"actual":{"value":"a"}}}}',
        ' {\n"twin" : {\t"x" : {"metadata" : { "type" : "string" } , "actual":{"value":"b" }}\r}} \n',
        '{"timestamp":0,"twin":{"x":{"actual":{"metadata":{"timestamp":123},"value":"c"}}},"event_id":""}',
        '{"twin":{"x":{"actual":{"value":""}}}}',
        '{"twin":{"x":{"actual":{"value":"' + "v" * 250 + '"}}}}',
        '{"twin":{"x":{"actual":{"value":"' + "w" * 250 + '"}}}}',
    ):
        said = tell(taker, listener, payload)
        assert said, payload
        assert (
            said[0][1]["twin"]["x"]["actual"]["value"] == json.loads(payload)["twin"]["x"]["actual"]["value"]
        )
        assert said[0][1]["event_id"] == ""


def other_shapes():
    """Messages that `update` may take or refuse."""
    good = GOOD
    for end in range(0, len(good), 3):
        yield good[:end]
    for other in ("01,", "-1,", "1.5,", "null,", "1" * 19 + ",", '"1",'):
        yield good.replace("1,", other)
    for other in ("null", "7", '"\\n"', '"\u00e4"', '"\n"', '"\x7f"', '"e","event_id":"f"', '"e",'):
        yield good.replace('"e"', other)
    yield good + "x"
    yield good + "{}"
    yield "[" + good + "]"
    for twin in (
        {},
        {"x": None},
        {"x": {}},
        {"x": {"actual": None}},
        {"x": {"actual": {}}},
        {"x": {"actual": {"value": 1}}},
        {"x": expected("1")},
        {"x": actual("1", optional=False)},
        {"x": actual("1", actual_version={"cloud": 1, "edge": 1})},
        {"x": dict(actual("1"), metadata={"type": 1})},
        {"x": actual("1"), "n": actual("1")},
        {"new": actual("1")},
        {"gone": actual("1")},
        {"n": actual("x")},
    ):
        yield json.dumps({"event_id": "e", "twin": twin})
    yield TOO_LONG
    yield '{"twin":{"x":{"actual":{"value":"1"},"actual":{"value":"2"}}}}'
    yield '{"twin":{"x":{"actual":{"value":"1","value":"2"}}}}'
    yield '{"twin":{"x":{"actual":{"value":"1"}}},"twin":{"x":{"actual":{"value":"2"}}}}'


def test_any_other_shape_is_left_alone():
    world = make()
    update(world, x=actual("1"), n=actual("1", "int"), gone=actual("1"))
    update(world, gone=None)
    taker, listener = steady(world)
    world.store.put = nothing  # it would refuse what is too long for its small blocks
    before = json.dumps(world.comm.records)
    for other in other_shapes():
        assert tell(taker, listener, other) is None, other
    good = GOOD
    for topic in (
        TOPIC.replace("dev1", "dev2"),
        TOPIC.replace("dev1", "dev"),
        TOPIC + "/x",
        DEV + "twin/get",
    ):
        assert tell(taker, listener, good, topic) is None, topic
    assert json.dumps(world.comm.records) == before
    assert tell(taker, listener, good) and tell(taker, listener, {"twin": {"n": actual("-7")}})


def test_what_came_before_comes_first():
    world = make()
    update(world, x=actual("1"))
    taker, listener = steady(world)
    assert world.inbox.put(ARRIVED, DEV + "twin/get", b"{}")
    assert tell(taker, listener, message("2")) is None
    world.step()
    assert tell(taker, listener, message("2")) is None  # the answer is not published yet
    world.said()
    world.comm._again = ["default/dev1"]
    assert tell(taker, listener, message("2")) is None
    world.comm._again = []
    assert world.out.put(PUBLISH, "t", b"x")
    assert tell(taker, listener, message("2")) is None
    world.out.take()
    listener.apps = listener
    assert tell(taker, listener, message("2")) is None  # pods may want to hear of it
    listener.apps = None
    world.comm.connected(False)
    assert tell(taker, listener, message("2")) is None
    world.comm.online = True
    assert tell(taker, listener, message("2"))


def test_a_value_that_cannot_be_stored_never_was():
    world = make()
    update(world, x=actual("1"))
    taker, listener = steady(world)
    before = json.dumps(world.comm.records)
    put = world.store.put
    for failing in (fail, fail_for_memory):
        world.store.put = failing
        assert tell(taker, listener, message("2")) is None
        assert json.dumps(world.comm.records) == before
    world.store.put = put
    assert tell(taker, listener, message("2"))


def nothing(key, value):
    pass


def fail(key, value):
    raise StoreFull()


def fail_for_memory(key, value):
    raise MemoryError


def test_a_device_that_changes_or_goes_is_noticed():
    world = make(prop("x", "STRING"))
    update(world, x=actual("1"))
    taker, listener = steady(world)
    assert tell(taker, listener, message("2"))
    world.put(prop("x", "STRING"), prop("y", "STRING"), resource=RESOURCE)
    world.reports()
    assert tell(taker, listener, message("3")) and world.reports() == [("x", "3")]
    update(world, y=actual("1"))
    for value, name in (("4", "x"), ("5", "y"), ("6", "x")):
        assert tell(taker, listener, {"twin": {name: actual(value)}})
        assert world.comm.records["default/dev1"][name][4] == value
        assert json.loads(world.store.get(".twin/default/dev1/=" + name))[4] == value
    world.delete(RESOURCE)
    assert tell(taker, listener, message("7")) is None


def test_the_first_update_has_the_others_dealt_with_at_once():
    world = make()
    listener = world.comm.eventbus = Listener()
    listener.steady = None
    update(world, x=actual("1"))
    assert listener.said == []
    buf = GOOD.encode()
    assert listener.steady(TOPIC, bytearray(buf), 0, len(buf)) and len(listener.said) == 2


class Poor(Listener):
    """Has no memory for a function."""

    def __setattr__(self, name, value):
        if name == "steady" and value is not None:
            raise MemoryError
        object.__setattr__(self, name, value)


def test_without_memory_all_updates_go_the_long_way():
    world = make()
    poor = world.comm.eventbus = Poor()
    poor.steady = None
    for value in ("1", "2"):
        assert update(world, x=actual(value))[0][1]["twin"]["x"]["actual"]["value"] == value
    assert world.comm.eventbus is None and "the long way" in world.lines[-1]


def test_without_memory_it_is_left_to_update_and_nothing_is_mixed_up():
    if not IS_MICROPYTHON:
        return  # it cannot run out there
    world = make()
    update(world, x=actual("x0"))
    update(world, y=actual("y0"))
    taker, listener = steady(world)
    said = {}
    for number in range(1, 8):
        for name in ("x", "y"):
            buf = bytearray(json.dumps({"twin": {name: actual(name + str(number))}}).encode())
            if number < 7:
                taken = heap_locked(at_once, taker, buf, said)
            else:
                taken = at_once(taker, buf, said)
            assert taken == (number == 7)
    for name in ("x", "y"):
        assert json.loads(world.store.get(".twin/default/dev1/=" + name))[4] == name + "7"


def at_once(taker, buf, said):
    return taker.update(TOPIC, buf, 0, len(buf))


def test_an_update_leaves_little_garbage():
    world = make(prop("x", "STRING"))
    update(world, x=actual("1"))
    taker, listener = steady(world)
    listener.listens = False
    world.store.put = nothing  # the flash of these tests is made of objects
    buf = bytearray(json.dumps(message("100", "m100")).encode())
    at = buf.find(b"m100")
    left = []
    for number in range(1, 10):
        buf[at + 1] = 48 + number
        gc.collect()
        if IS_MICROPYTHON:
            gc.disable()
            before = gc.mem_alloc()
        assert taker.update(TOPIC, buf, 0, len(buf))
        if IS_MICROPYTHON:
            left.append(gc.mem_alloc() - before)
            gc.enable()
    # With the first it has learnt what is told.
    assert not left or sorted(left)[4] <= GARBAGE_MAX, left
