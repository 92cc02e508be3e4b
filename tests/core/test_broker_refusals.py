"""Clients of the internal broker that do what they may not, and one beside them that is not disturbed."""

from broker_world import CONNACK, World, connect, packet, publish, string, subscribe

from motelet import broker
from tests_util import raises


def test_what_the_standard_forbids_ends_the_connection_and_disturbs_nobody():
    world = World()
    good = world.client("good", "ok", qos=1)
    hello = connect("bad")
    for data in (
        b"\x00\x00",  # type 0
        publish("a"),  # before CONNECT
        hello + hello,
        packet(0x10, string("MQIsdp") + b"\x03\x02\x00\x3c" + string("old")),
        packet(0x10, string("MQTT") + b"\x04\x03\x00\x3c" + string("reserved")),
        packet(
            0x10, string("MQTT") + b"\x04\x1e\x00\x3c" + string("will") + string("w") + string("x")
        ),  # QoS 3
        packet(0x10, string("MQTT") + b"\x04\x42\x00\x3c" + string("c") + string("password alone")),
        packet(0x10, string("MQTT") + b"\x04"),
        connect(b"\xff"),
        hello + b"\x30\xff\xff\xff\xff\x01",
        hello + b"\x30\xff\xff\x7f",
        hello + packet(0x30, b"\x00\x09a"),
        hello + publish("a/#"),
        hello + publish(""),
        hello + publish(b"\xff\xfe"),
        hello + publish("a", b"", 0x34, 1),  # QoS 2
        hello + publish("a", b"", 0x36, 1),  # QoS 3
        hello + packet(0x82, b"\x00\x01"),
        hello + subscribe("a/#/b"),
        hello + packet(0x82, b"\x00\x01" + string("a") + b"\x03"),
        hello + packet(0x82, b"\x00\x01" + string("a")),
        hello + packet(0xA2, b"\x00\x01\x00\x05a"),
        hello + b"\xd0\x00",  # a PINGRESP is the broker's
        hello + b"\x62\x02\x00\x01",  # PUBREL
    ):
        bad = world.open(data)
        heard = bad.hear()
        if heard:
            assert heard == CONNACK, data
            heard = bad.hear()
        assert heard is None, data
        world.broker.publish("ok", "x", False, 1)
        assert good.hear()[:6] == b"\x32\x07\x00\x02ok"
        good.say(
            b"\x40\x02"
            + bytes((good.world.broker._sessions[0].pid >> 8, good.world.broker._sessions[0].pid & 255))
        )


def test_connect_is_refused_with_its_code():
    world = World()
    for data, code in (
        (packet(0x10, string("MQTT") + b"\x05\x02\x00\x3c" + string("five")), 1),
        (connect("", flags=0), 2),
        (connect("x" * (broker.CLIENT_ID_SIZE_MAX + 1)), 2),
    ):
        client = world.open(data)
        assert client.hear() == b"\x20\x02\x00" + bytes((code,)) and client.hear() is None
    assert world.open(connect("")).hear() == CONNACK  # a name is found for it
    assert world.open(connect("")).hear() == CONNACK


def test_no_more_clients_than_there_are_buffers_for():
    world = World(clients=2)
    one = world.client("one")
    world.client("two")
    assert world.open().hear() is None
    one.say(b"\xe0\x00")
    assert world.open(connect("three")).hear() == CONNACK


def test_a_flood_of_subscriptions_is_refused_beyond_the_bound():
    world = World()
    client = world.client("flood")
    client.say(subscribe(*["t/%d" % i for i in range(broker.SUBSCRIPTIONS_MAX)]))
    assert client.hear()[4:] == b"\x00" * broker.SUBSCRIPTIONS_MAX
    client.say(subscribe("one/more", "t/1"))
    assert client.hear()[4:] == b"\x80\x00"  # the second replaces one there is


def test_a_client_that_does_not_read_loses_messages_and_holds_up_nobody():
    world = World()
    slow = world.open(connect("slow"), capacity=64)
    slow.say(subscribe("a"))
    quick = world.client("quick", "a")
    for i in range(40):
        world.broker.publish("a", "message %02d" % i)
        assert quick.hear() == publish("a", b"message %02d" % i)
    assert world.broker.dropped > 0
    heard = b""
    for _ in range(40):
        heard += slow.hear()
    assert (
        heard.startswith(CONNACK)
        and publish("a", b"message 00") in heard
        and publish("a", b"message 39") not in heard
    )
    slow.say(b"\xc0\x00")
    assert slow.hear() == b"\xd0\x00"


def test_a_client_that_takes_no_answers_is_held_up_not_thrown_out():
    world = World(size=64)
    client = world.open(connect("stubborn"), capacity=512)
    for i in range(60):
        data = publish("a", b"", 0x32, i + 1)
        assert client.stream.write(data, 0, len(data))
    heard = b""
    for _ in range(60):
        part = client.hear()
        heard += part
    assert heard == CONNACK + b"".join([b"\x40\x02\x00" + bytes((i + 1,)) for i in range(60)])


def test_a_gateway_without_room_holds_up_the_client_that_asks_it():
    world = World()
    world.broker.subscribe("up")
    asks = world.client("asks", "other")
    world.takes = False
    asks.say(publish("up", b"1", 0x32, 1) + publish("up", b"2"))
    assert asks.hear() == b"" and world.taken == []
    world.client("free").say(publish("other", b"x"))
    assert asks.hear() == publish("other", b"x")
    world.takes = True
    world.broker.wake()
    assert asks.hear() == b"\x40\x02\x00\x01" and world.taken == [("up", b"1"), ("up", b"2")]


def test_a_packet_in_pieces_and_a_stream_that_breaks():
    world = World()
    client = world.open()
    data = connect("slow") + subscribe("a")
    for i in range(len(data)):
        assert client.stream.write(data, i, 1) == 1
        world.step(2)
    assert client.hear() == CONNACK + b"\x90\x03\x00\x01\x00"
    client.stream.peer.error = OSError(104)
    world.broker.publish("a", "x")
    world.step()
    assert world.broker._connections == []


def test_a_configuration_that_cannot_be_served_is_refused():
    for config in (
        {"users": {"u": {}}},
        {"clients": 0},
        {"clients": broker.CLIENTS_LIMIT + 1},
        {"clients": "8"},
    ):
        raises(ValueError, make, config)


def make(config):
    World(**config)
