"""The internal broker: who hears what, when, and with which answer."""

from broker_world import CONNACK, SUBACK, World, connect, packet, publish, string, subscribe

from motelet import broker
from motelet.broker import matches, valid
from tests_util import heap_locked


def test_filters_match_as_the_standard_says():
    for pattern, topic, yes in (
        ("a/b", "a/b", 1),
        ("a/b", "a/b/c", 0),
        ("a/b/c", "a/b", 0),
        ("+/b", "a/b", 1),
        ("a/+", "a/", 1),
        ("+", "a/b", 0),
        ("#", "a/b", 1),
        ("a/#", "a", 1),
        ("a/#", "a/b/c", 1),
        ("a/#", "b", 0),
        ("#", "$SYS/x", 0),
        ("+/x", "$SYS/x", 0),
        ("$SYS/#", "$SYS/x", 1),
        ("+/user/#", "n/user/x/y", 1),
        ("+/user/#", "user/x", 0),
        ("/+", "/a", 1),
        ("+/+", "/a", 1),
    ):
        assert matches(pattern.split("/"), topic) == bool(yes), (pattern, topic)
    for pattern in ("#", "+", "a/+/b", "a/#", "/", "$hw/#"):
        assert valid(pattern)
    for pattern in ("", "a#", "#/a", "a/b+", "a/+b", "a\0", "x" * 513):
        assert not valid(pattern), pattern


def test_it_listens_where_it_is_told():
    assert World().asked == ("127.0.0.1", 1884)
    assert World(host="10.0.0.1", port=99).asked == ("10.0.0.1", 99)


def test_a_message_reaches_whom_it_concerns_and_the_gateway():
    world = World()
    world.broker.subscribe("$hw/events/#")
    hears = world.client("hears", "a/+", "a/#")
    deaf = world.client("deaf", "b/#")
    says = world.client("says")
    says.say(publish("a/b", b"1") + publish("$hw/events/x", b"2"))
    assert hears.hear() == publish("a/b", b"1") and deaf.hear() == b"" and says.hear() == b""
    assert world.taken == [("$hw/events/x", b"2")]
    world.broker.publish("a/c", "3")
    assert hears.hear() == publish("a/c", b"3")
    hears.say(packet(0xA2, b"\x00\x09" + string("a/+") + string("a/#")))
    assert hears.hear() == b"\xb0\x02\x00\x09"
    world.broker.publish("a/c", "4")
    assert hears.hear() == b""


def test_qos_1_is_acknowledged_both_ways_and_a_few_at_a_time():
    world = World()
    hears = world.client("hears", "a", qos=1)
    says = world.client("says")
    for i in range(6):
        says.say(publish("a", b"%d" % i, 0x32, 7 + i))
    assert says.hear() == b"".join([b"\x40\x02\x00" + bytes((7 + i,)) for i in range(6)])
    assert hears.hear() == b"".join([publish("a", b"%d" % i, 0x32, 1 + i) for i in range(4)])
    hears.say(b"\x40\x02\x00\x02")
    assert hears.hear() == publish("a", b"4", 0x32, 5)
    says.say(publish("a", b"zero"))
    assert hears.hear() == publish("a", b"zero")  # the lower of the two


def test_a_session_waits_for_its_client_within_bounds():
    world = World()
    away = world.open(connect("away", flags=0))
    away.say(subscribe("a", qos=1))
    away.hear()
    away.stream.close()
    world.step()
    for i in range(broker.QUEUE_MAX + 3):
        world.broker.publish("a", "%d" % i, False, 1)
    assert world.broker.dropped == 3
    again = world.open(connect("away", flags=0))
    assert again.hear() == b"\x20\x02\x01\x00" + b"".join(
        [publish("a", b"%d" % i, 0x32, 1 + i) for i in range(4)]
    )
    again.stream.close()
    world.step()
    third = world.open(connect("away", flags=0))
    assert third.hear()[4:].startswith(publish("a", b"0", 0x3A, 1))  # the same again, and marked so
    third.stream.close()
    world.step()
    for i in range(broker.SESSIONS_MAX + 1):
        other = world.open(connect("other%d" % i, flags=0))
        other.stream.close()
        world.step()
    assert world.open(connect("away", flags=0)).hear() == CONNACK  # the oldest had to go


def test_retained_messages_greet_new_subscribers_within_bounds():
    world = World()
    says = world.client("says")
    says.say(publish("r/1", b"old", 0x31) + publish("r/1", b"new", 0x31) + publish("r/2", b"x", 0x31))
    says.say(publish("r/2", b"", 0x31))
    hears = world.open(connect("hears"))
    hears.say(subscribe("r/#"))
    assert hears.hear() == CONNACK + SUBACK + publish("r/1", b"new", 0x31)
    for i in range(broker.RETAINED_MAX):
        world.broker.publish("full/%d" % i, "x", True)
    assert world.broker.dropped == 1


def test_a_will_is_published_unless_the_client_said_goodbye():
    world = World()
    hears = world.client("hears", "w")
    world.broker.subscribe("w")
    for goodbye, heard in ((b"\xe0\x00", b""), (b"", publish("w", b"gone"))):
        dying = world.open(connect("dying", flags=0x06, rest=string("w") + string("gone")))
        if goodbye:
            dying.say(goodbye)
        dying.stream.close()
        assert hears.hear() == heard
    assert world.taken == [("w", b"gone")]


def test_a_second_client_of_the_same_name_takes_over():
    world = World()
    first = world.client("same")
    second = world.client("same")
    assert first.hear() is None and second.hear() == b""
    second.say(b"\xc0\x00")
    assert second.hear() == b"\xd0\x00"


def test_silent_clients_are_given_up():
    world = World()
    mute = world.open()
    world.step()
    alive = world.open(connect("alive", keepalive=10))
    world.clock.advance(10000)
    world.step()
    assert mute.hear() is None
    alive.say(b"\xc0\x00")
    world.clock.advance(14999)
    assert alive.hear() == CONNACK + b"\xd0\x00"
    world.clock.advance(1)
    assert alive.hear() is None


def test_users_and_what_they_may_do():
    users = {
        "u": {"password": "p", "publish": ["up/#"], "subscribe": ["down/+", "all/#"]},
        "root": {"password": "r"},
    }
    world = World(users=users)
    for rest, flags in (
        (b"", 2),
        (string("u"), 0x82),
        (string("u") + string("x"), 0xC2),
        (string("y") + string("p"), 0xC2),
    ):
        assert world.open(connect("c", flags, rest=rest)).hear() == b"\x20\x02\x00\x04"
    user = world.open(connect("c", 0xC2, rest=string("u") + string("p")))
    assert user.hear() == CONNACK
    user.say(
        packet(
            0x82,
            b"\x00\x01"
            + b"".join(
                [
                    string(each) + b"\x01"
                    for each in ("down/x", "down/+", "down/#", "#", "+/x", "all/#", "all/x/y", "up/x")
                ]
            ),
        )
    )
    assert user.hear() == packet(0x90, b"\x00\x01\x01\x01\x80\x80\x80\x01\x01\x80")
    world.broker.subscribe("up/#")
    world.broker.subscribe("secret")
    user.say(publish("secret", b"1", 0x32, 1) + publish("up/x", b"2", 0x32, 2))
    assert user.hear() == b"\x40\x02\x00\x01\x40\x02\x00\x02" and world.taken == [("up/x", b"2")]
    root = world.open(connect("r", 0xC2, rest=string("root") + string("r")))
    root.say(subscribe("#") + publish("anything", b"x"))
    assert root.hear() == CONNACK + SUBACK + publish("anything", b"x")
    assert not [line for line in world.lines if "password" in line]


def test_the_keepalive_of_a_client_allocates_nothing():
    world = World()
    client = world.client("c")
    turn = world.task._generator  # not the loop: the poller of the tests allocates
    connection = world.broker._connections[0]
    for _ in range(3):
        client.stream.write(b"\xc0\x00", 0, 2)
        connection.wake(1)
        heap_locked(next, turn)
        assert client.hear() == b"\xd0\x00"


class Taker:
    """Takes updates at once, and answers each with a view on what it was told."""

    def __init__(self, world, times=1):
        self.world = world
        self.times = times
        self.taken = []

    def __call__(self, topic, buf, at, stop):
        payload = bytes(buf[at:stop])
        if payload == b"no":
            return False
        self.taken.append((topic, payload))
        for _ in range(self.times):
            self.world.broker.publish("said", memoryview(payload), False, 1, b"said")
        return True


UPDATE = "$hw/events/device/a/b/twin/update"


def test_an_update_of_a_twin_is_dealt_with_where_it_lies():
    world = World()
    world.broker.subscribe("$hw/#")
    taker = world.broker.steady = Taker(world)
    hears = world.client("hears", "said", qos=1)
    says = world.client("says", "said")
    says.say(publish(UPDATE, b"1", 0x32, 5) + publish(UPDATE, b"no") + publish(UPDATE, b"2"))
    says.say(publish(UPDATE, b"kept", 0x31) + publish(UPDATE + "s", b"3") + publish(UPDATE[:-1], b"4"))
    assert taker.taken == [(UPDATE, b"1"), (UPDATE, b"2")]
    assert world.taken == [(UPDATE, b"no"), (UPDATE, b"kept"), (UPDATE + "s", b"3"), (UPDATE[:-1], b"4")]
    assert says.hear() == publish("said", b"1") + b"\x40\x02\x00\x05" + publish("said", b"2")
    assert hears.hear() == publish("said", b"1", 0x32, 1) + publish("said", b"2", 0x32, 2)
    # A client that wants to hear of it has to hear of it first.
    also = world.client("also", "$hw/events/device/+/+/twin/+", "said")
    also.hear()
    says.say(publish(UPDATE, b"5"))
    assert also.hear() == publish(UPDATE, b"5") and world.taken[-1] == (UPDATE, b"5")


def test_who_reads_no_answers_is_not_acknowledged_and_sent_away():
    world = World(size=256)
    world.broker.steady = Taker(world, 40)
    says = world.open(connect("says"), 600)
    says.hear()
    says.say(subscribe("said"))
    says.hear()
    says.say(publish(UPDATE, b"x" * 56, 0x32, 5))
    heard = b""
    more = says.hear()
    while more:
        heard += more
        more = says.hear()
    assert more is None and heard.count(b"x" * 56) > 5 and b"\x40\x02\x00\x05" not in heard
    assert "takes no answers" in world.lines[-1]
