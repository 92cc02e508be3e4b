"""The MQTT codec and client: against bytes written out by hand, on a virtual clock."""

from broker_world import Piece

from motelet.log import Log
from motelet.loop import Loop
from motelet.mqtt import INFLIGHT_MAX, PACKET_SIZE_MAX, TOPIC_SIZE_MAX, MQTTClient, Packets
from motelet.mqttlink import SUBSCRIPTIONS_MAX
from tests_util import Clock, MemoryPoller, MemoryStream, heap_locked, raises

_CONNACK = b"\x20\x02\x00\x00"
_PINGRESP = b"\xd0\x00"
_FOREVER = 100


class World:
    """A client, and the broker's ends of the connections it opened; the test plays the broker."""

    def __init__(self, **options):
        self.clock = Clock()
        self.errors = []
        self.lines = []
        self.links = []
        self.buf = bytearray(1024)
        self.got = []
        self.takes = True
        self.refuse = None
        poller = MemoryPoller(self.clock)
        self.loop = Loop(self.clock, poller, lambda task, error: self.errors.append(error))
        log = Log(self.lines.append, "debug")
        self.client = MQTTClient("hub", self.dial, self.loop, self.random, log, **options)
        self.client.set_callback(self.callback)
        self.task = self.loop.spawn("mqtt", self.client.run)
        self.client.connect()

    def random(self, n):
        return b"\x80" * n

    def dial(self):
        if self.refuse:
            raise self.refuse
        mine, theirs = MemoryStream.pair(1024)
        self.links.append(theirs)
        return mine

    def callback(self, topic, msg):
        if not self.takes:
            return False
        self.got.append((topic, msg))
        return True

    def step(self, count=4):
        for _ in range(count):
            self.loop.step(0)

    def say(self, data):
        """The broker sends."""
        assert self.links[-1].write(data, 0, len(data)) == len(data)
        self.step()

    def hear(self):
        """-> all that the broker has received and not looked at."""
        self.step()
        count = self.links[-1].readinto(self.buf)
        return bytes(self.buf[: count or 0])

    def join(self):
        hello = self.hear()
        self.say(_CONNACK)
        return hello


def _packets(data, size=64):
    packets = Packets(size)
    packets.fill(Piece(data))
    return packets


def test_connect_says_who_it_is():
    world = World(user="u", password="pw", keepalive=30)
    world.client.set_last_will("w", b"gone", True, 1)
    assert world.join() == (
        b"\x10\x1f\x00\x04MQTT\x04\xee\x00\x1e\x00\x03hub\x00\x01w\x00\x04gone\x00\x01u\x00\x02pw"
    )
    assert world.client.connected


def test_a_connection_that_is_refused_is_tried_again_later_each_time():
    world = World()
    waits = []
    for _ in range(9):
        world.hear()
        dialled = len(world.links)
        began = world.clock.now_ms
        world.say(b"\x20\x02\x00\x05")
        assert not world.client.connected
        while len(world.links) == dialled:
            world.loop.step(1000000)
        waits.append(world.clock.now_ms - began)
    assert waits[0] == 750 and waits[1] == 1500 and waits[-1] == 45000
    assert "code=" in world.lines[0] or "code 5" in world.lines[0]


def test_an_address_that_does_not_resolve_is_tried_again():
    world = World()
    world.refuse = OSError(-2)
    for _ in range(_FOREVER):
        world.loop.step(1000)
    assert not world.errors and not world.links
    world.refuse = None
    for _ in range(_FOREVER):
        if not world.links:
            world.loop.step(1000)
    assert len(world.links) == 1


def test_publish_qos_0_is_one_packet():
    world = World()
    world.join()
    assert world.client.publish("a/b", "text") and world.client.publish(b"c", b"\x00", True)
    assert world.hear() == b"\x30\x09\x00\x03a/btext" + b"\x31\x04\x00\x01c\x00"


def test_publish_qos_0_without_a_connection_is_refused():
    world = World()
    assert not world.client.publish("a", "b")


def test_publish_qos_1_waits_for_its_puback_and_is_sent_again_after_a_loss():
    world = World()
    world.join()
    assert world.client.publish("a", "1", False, 1) and world.client.publish("a", "2", False, 1)
    assert world.hear() == b"\x32\x06\x00\x01a\x00\x011" + b"\x32\x06\x00\x01a\x00\x022"
    world.say(b"\x40\x02\x00\x01")
    world.links[-1].close()
    while len(world.links) < 2:
        world.loop.step(10000)
    world.join()
    assert world.hear() == b"\x3a\x06\x00\x01a\x00\x022"
    world.say(b"\x40\x02\x00\x02")
    assert world.hear() == b""


def test_the_queue_at_qos_1_is_bounded_and_says_when_it_has_room():
    world = World()
    for i in range(INFLIGHT_MAX):
        assert world.client.publish("a", str(i), False, 1)
    assert not world.client.publish("a", "more", False, 1)
    world.join()
    woken = []
    world.client.waiter = Waiter(woken)
    world.say(b"\x40\x02\x00\x03")
    assert woken and world.client.publish("a", "more", False, 1)


class Waiter:
    def __init__(self, woken):
        self.woken = woken

    def wake(self, events=0):
        self.woken.append(True)


def test_packet_identifiers_wrap_and_pass_over_those_in_flight():
    world = World()
    world.client._pid = 65533
    world.join()
    for pid in (65534, 65535, 1, 2):
        world.client.publish("a", "", False, 1)
        assert world.hear() == b"\x32\x05\x00\x01a" + bytes((pid >> 8, pid & 255))
    world.say(b"\x40\x02\x00\x01")
    world.client._pid = 65533
    world.client.publish("a", "", False, 1)
    assert world.hear() == b"\x32\x05\x00\x01a\x00\x01"


def test_subscriptions_are_made_again_after_a_reconnect():
    world = World()
    world.client.subscribe("x/#", 1)
    world.join()
    world.client.subscribe("y")
    assert world.hear() == b"\x82\x08\x00\x01\x00\x03x/#\x01" + b"\x82\x06\x00\x02\x00\x01y\x00"
    world.say(b"\x90\x03\x00\x01\x01" + b"\x90\x03\x00\x02\x00")
    assert world.client.unsubscribe("y")
    assert world.hear() == b"\xa2\x05\x00\x03\x00\x01y"
    world.say(b"\xb0\x02\x00\x03")
    world.links[-1].close()
    while len(world.links) < 2:
        world.loop.step(10000)
    world.join()
    assert world.hear() == b"\x82\x08\x00\x04\x00\x03x/#\x01"


def test_more_subscriptions_than_the_buffer_holds_go_out_one_after_the_other():
    world = World(size=64)
    for i in range(SUBSCRIPTIONS_MAX):
        world.client.subscribe("topic/number/%02d" % i)
    raises(ValueError, world.client.subscribe, "one/more")
    world.join()
    heard = b""
    for _ in range(3):  # each time as much as this hear takes, and nobody wakes the client for it
        heard += world.hear()
    for i in range(SUBSCRIPTIONS_MAX):
        assert b"topic/number/%02d\0" % i in heard


def test_a_refused_subscription_is_logged():
    world = World()
    world.join()
    world.say(b"\x90\x03\x00\x01\x80")
    assert [line for line in world.lines if "subscription refused" in line]


def test_messages_arrive_and_qos_1_is_acknowledged_after_it_was_taken():
    world = World()
    world.join()
    world.say(b"\x30\x05\x00\x01axy" + b"\x32\x05\x00\x01a\x12\x34")
    assert world.got == [("a", b"xy"), ("a", b"")]
    assert world.hear() == b"\x40\x02\x12\x34"


def test_a_message_that_cannot_be_taken_now_waits_and_holds_up_nobody():
    world = World()
    world.join()
    world.takes = False
    world.say(b"\x32\x06\x00\x01a\x00\x07x" + b"\x30\x03\x00\x01b")
    assert world.hear() == b"" and not world.got
    assert world.client.publish("up", "1") and world.hear() == b"\x30\x05\x00\x02up1"
    world.clock.advance(200000)
    world.step()
    world.takes = True
    world.client.wake()
    assert world.hear().endswith(b"\x40\x02\x00\x07") and world.got == [("a", b"x"), ("b", b"")]
    assert world.client.connected and len(world.links) == 1


def test_a_peer_that_stalls_inside_a_packet_never_stalls_the_loop():
    world = World()
    world.join()
    turns = []

    def other(task):
        while True:
            turns.append(world.clock.now_ms)
            task.sleep(100)
            yield

    world.loop.spawn("other", other)
    message = b"\x30\x0c\x00\x01alarge text"[:14]
    for i in range(len(message)):
        assert world.links[-1].write(message, i, 1) == 1
        for _ in range(3):
            world.loop.step(100)
    assert world.got == [("a", b"large tex")]
    for i in range(1, len(turns)):
        assert turns[i] - turns[i - 1] == 100


def test_keepalive_pings_and_a_missing_answer_ends_the_connection():
    world = World(keepalive=60)
    world.join()
    for _ in range(3):
        began = world.clock.now_ms
        while not world.links[-1].unread:
            world.loop.step(100000)
        assert world.clock.now_ms - began == 45000
        assert world.hear() == b"\xc0\x00"
        world.say(_PINGRESP)
    world.client.ping()
    assert world.hear() == b"\xc0\x00"
    world.clock.advance(9999)
    world.step()
    assert world.client.connected
    world.clock.advance(1)
    world.step()
    assert not world.client.connected and world.links[-1].readiness()
    assert "no answer" in world.lines[-1]


def test_a_broker_that_only_listens_is_pinged_too():
    world = World(keepalive=60)
    world.join()
    for _ in range(44):
        world.clock.advance(1000)
        world.client.publish("a", "b")
        assert world.hear() == b"\x30\x04\x00\x01ab"
    world.clock.advance(1000)
    world.task.wake()
    assert world.hear() == b"\xc0\x00"


def test_no_connack_in_time_ends_the_connection():
    world = World()
    world.hear()
    world.clock.advance(20000)
    world.step()
    assert world.links[-1].peer.closed


def test_disconnect_says_goodbye_and_stays_away():
    world = World()
    world.join()
    world.client.disconnect()
    assert world.hear() == b"\xe0\x00" and world.links[-1].peer.closed
    world.clock.advance(1000000)
    world.step()
    assert len(world.links) == 1
    world.client.connect()
    world.join()
    assert len(world.links) == 2 and world.client.connected


def test_packets_of_the_wrong_kind_end_the_connection():
    for data in (
        b"\x00\x00",  # type 0
        b"\x10\x00",  # CONNECT, from a broker
        b"\x30\xff\xff\xff\xff\x01",  # a length of five bytes
        b"\x30\xff\xff\x7f",  # longer than any packet may be
        b"\x30\x03\x00\x09a",  # a topic longer than its packet
        b"\x30\x02\x00\x00",  # no topic
        b"\x30\x05\x00\x03a/+",  # a wildcard to publish to
        b"\x30\x04\x00\x02\xff\xff",  # no UTF-8
        b"\x32\x03\x00\x01a",  # QoS 1 without an identifier
        b"\x40\x01\x00",  # half an identifier
        b"\x20\x02\x00\x05",  # refused
    ):
        world = World()
        if data[0] != 0x20:
            world.join()
        else:
            world.hear()
        world.say(data)
        assert world.links[-1].peer.closed and not world.client.connected, data
        assert not world.errors and "no broker" in world.lines[-1]


def test_a_length_is_not_believed_before_it_is_checked():
    packets = _packets(b"\x30\x80\x80\x01")
    raises(ValueError, packets.next)
    assert len(packets.rx) == 64
    packets = _packets(b"\x30\xfd\x7f")
    assert packets.next() == 0 and len(packets.rx) == PACKET_SIZE_MAX
    raises(ValueError, _packets(b"\x30\xfe\x7f").next)


def test_a_packet_larger_than_the_buffer_arrives_and_the_buffer_comes_back():
    world = World(size=32)
    world.join()
    body = b"\x00\x01a" + b"x" * 500
    world.say(b"\x30" + bytes((len(body) & 127 | 128, len(body) >> 7)) + body + b"\x30\x03\x00\x01b")
    world.step(40)
    assert world.got == [("a", b"x" * 500), ("b", b"")]
    world.say(b"\x30\x03\x00\x01c")
    assert world.got[2] == ("c", b"") and len(world.client._packets.rx) == 32
    assert world.client.publish("a", "y" * 500)
    assert world.hear() == b"\x30\xf7\x03\x00\x01a" + b"y" * 500
    assert len(world.client._packets._tx) == 32, "at once: the next message may be long in coming"
    assert world.client.publish("a", "z")


def test_what_is_too_large_to_be_sent_is_an_error_of_the_caller():
    world = World()
    world.join()
    raises(ValueError, world.client.publish, "a", bytes(PACKET_SIZE_MAX))
    raises(ValueError, world.client.publish, "a" * (TOPIC_SIZE_MAX + 1), b"")
    raises(ValueError, world.client.publish, "", b"")
    raises(ValueError, Packets(64, 100).send, 0x30, bytes(99))


def test_every_cut_of_a_stream_gives_the_same_packets():
    data = (
        b"\x30\x05\x00\x01axy"
        + b"\xd0\x00"
        + b"\x32\x86\x01\x00\x01a\x00\x01"
        + b"z" * 129
        + b"\x40\x02\x00\x01"
    )
    for chunk in (1, 2, 3, 7, 64, 200):
        packets = Packets(48)
        kinds = []
        at = 0
        while at < len(data):
            piece = Piece(data[at : at + chunk])
            packets.fill(piece)
            at += piece.count
            kind = packets.next()
            while kind:
                kinds.append((kind, packets.stop - packets.pos))
                kind = packets.next()
        assert kinds == [(0x30, 5), (0xD0, 0), (0x32, 134), (0x40, 2)], chunk


def test_keepalive_and_a_small_publish_allocate_nothing():
    world = World()
    world.join()
    world.hear()
    topic = b"sensors/room/temperature"
    message = bytearray(b"21.5")
    turn = world.task._generator  # not the loop: the poller of the tests allocates
    for _ in range(3):
        assert heap_locked(world.client.publish, topic, message)
        heap_locked(next, turn)
        world.clock.advance(45000)
        heap_locked(next, turn)
        heap_locked(next, turn)
        world.links[-1].write(_PINGRESP, 0, 2)
        heap_locked(next, turn)
        assert world.client._asked is None and len(world.hear()) == 34


def test_a_puback_for_nothing_is_passed_over():
    world = World()
    world.join()
    assert world.client.publish("a", "1", False, 1)
    world.hear()
    world.say(b"\x40\x02\x00\x63" + b"\x40\x02\x00\x01" + b"\x40\x02\x00\x01")
    assert world.client.connected and not world.client._queue


def test_a_broker_that_sends_and_reads_nothing_is_given_up():
    world = World(size=64)
    world.join()
    world.client.publish("a", "x" * 59)  # fills the buffer, which nobody empties
    world.client._stream.write = refuses_all
    world.say(b"\x32\x05\x00\x01a\x12\x34")
    assert not world.client.connected and "takes no answers" in world.lines[-1]


def refuses_all(buf, off, n):
    return None


def test_what_does_not_fit_waits_for_room_in_order():
    world = World(size=64)
    world.join()
    for number in range(INFLIGHT_MAX):
        assert world.client.publish("a", str(number) * 30, False, 1)
    heard = b""
    for _ in range(INFLIGHT_MAX):
        heard += world.hear()
    last = -1
    for number in range(INFLIGHT_MAX):
        at = heard.find(b"%d" % number * 30)
        assert last < at
        last = at


def test_a_ping_and_an_unsubscribe_without_room_are_left_out():
    world = World(size=64)
    world.join()
    world.client._stream.write = refuses_all
    assert world.client.publish("a", "x" * 59)
    world.client.ping()
    assert world.client._asked is None
    assert not world.client.unsubscribe("topic")
    world.clock.advance(45000)
    world.step()
    assert world.client._asked is None and world.client.connected


def test_a_task_that_failed_closes_the_connection_it_had():
    world = World()
    world.join()
    world.client.set_callback(None)
    world.say(b"\x30\x03\x00\x01a")
    assert world.errors
    while len(world.links) < 2:
        world.loop.step(1000)
    assert world.links[0].peer.closed
    assert world.client._task.name == "mqtt"
    client = MQTTClient("other", world.dial, world.loop, world.random, None)
    client.connect()  # before its task runs
    raises(AttributeError, getattr, client, "nothing")
