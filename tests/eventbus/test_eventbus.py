"""EventBus with an external broker, which the test plays, on a virtual clock.

On CPython only: with a store and DeviceTwin behind it there is no room left for tests in the heap of
the tests of core. On MicroPython EventBus runs in test_mosquitto.py.
"""

from twin_world import DEV, RESOURCE, World

from motelet.eventbus import EventBus
from motelet.eventrules import RULES_MAX, SUBSCRIPTIONS
from motelet.messages import PUBLISH, SUBSCRIBE, UNSUBSCRIBE
from tests_util import MemoryStream, raises

_BUFFER = bytearray(1024)


class Gateway(World):
    def __init__(self, flash=None, **config):
        World.__init__(self, flash, mapper=False)
        self.links = []
        self.eventbus = EventBus(self, self.loop, self.bus, self.log, self.twin, "edge-1", config)
        self.comm = self.eventbus.local
        self.out = self.bus["eventbus"]
        self.put(resource=RESOURCE)

    def tcp(self, host, port):
        self.asked = (host, port)
        mine, theirs = MemoryStream.pair(1024)
        self.links.append(theirs)
        return mine

    def hear(self):
        self.step()
        count = self.links[-1].readinto(_BUFFER)
        return bytes(_BUFFER[: count or 0])

    def say(self, data):
        assert self.links[-1].write(data, 0, len(data)) == len(data)
        self.step()

    def arrive(self, topic, payload, pid=1):
        body = bytes((0, len(topic))) + topic.encode() + bytes((0, pid)) + payload
        size = bytes((len(body),)) if len(body) < 128 else bytes((len(body) & 127 | 128, len(body) >> 7))
        self.say(b"\x32" + size + body)

    def join(self):
        """-> what a broker hears before its CONNACK, and after it."""
        hello = self.hear()
        self.say(b"\x20\x02\x00\x00")
        return hello, self.hear()


def test_it_subscribes_to_what_kubeedge_does():
    gateway = Gateway(host="10.0.0.9", port=1999, username="u", password="p")
    hello, rest = gateway.join()
    assert (
        gateway.asked == ("10.0.0.9", 1999)
        and b"hub-client-edge-1" in hello
        and hello.endswith(b"\x00\x01u\x00\x01p")
    )
    for topic in SUBSCRIPTIONS:
        assert b"\x00" + bytes((len(topic),)) + topic.encode() + b"\x01" in rest
    assert len(SUBSCRIPTIONS) == 6


def test_a_request_is_acknowledged_and_answered():
    gateway = Gateway()
    gateway.join()
    gateway.arrive(DEV + "twin/update", b'{"event_id":"e","twin":{"x":{"actual":{"value":"1"}}}}', 9)
    said = gateway.hear()
    assert said.startswith(b"\x40\x02\x00\x09\x32")
    result = said.find(b"twin/update/result")
    assert 0 < result < said.find(b"twin/update/document")


def test_uploads_are_kept_before_they_are_acknowledged():
    gateway = Gateway()
    gateway.join()
    for number, topic in ((1, "$hw/events/upload/x/y"), (2, "SYS/dis/upload_records"), (3, "node/user/z")):
        gateway.arrive(topic, b"\x00\xff", number)
        assert gateway.hear() == b"\x40\x02\x00" + bytes((number,))
        assert gateway.eventbus.uploads.read(number)[::2] == (topic, b"\x00\xff")


def test_a_burst_of_requests_waits_with_the_broker():
    gateway = Gateway()
    gateway.join()
    for i in range(12):
        gateway.arrive(DEV + "twin/get", b'{"event_id":"%d"}' % i, i + 1)
    heard = b""
    for _ in range(40):
        heard += gateway.hear()
        at = heard.rfind(b"\x32")
        for pid in range(1, 30):  # what is answered at QoS 1 is acknowledged, all of it at once
            if gateway.links[-1].peer.unread < 900:
                gateway.say(b"\x40\x02\x00" + bytes((pid,)))
        assert at < len(heard)
    for i in range(12):
        assert b'"event_id":"%d"' % i in heard
        assert b"\x40\x02\x00" + bytes((i + 1,)) in heard
    assert gateway.comm.dropped == 0


def test_without_a_broker_news_are_dropped_and_counted_and_reports_are_not():
    gateway = Gateway()
    assert gateway.out.put(PUBLISH, "t", "x")
    gateway.step()
    assert gateway.eventbus.dropped == 1 and not gateway.comm.online
    gateway.join()
    assert gateway.comm.online
    gateway.links[-1].close()
    gateway.step()
    assert not gateway.comm.online


def test_a_message_too_large_for_a_packet_is_dropped_and_counted():
    gateway = Gateway()
    gateway.join()
    gateway.out.put(PUBLISH, "t", "x" * 16400)
    gateway.out.put(PUBLISH, "t", "y")
    assert gateway.hear().endswith(b"y") and gateway.eventbus.dropped == 1


def test_topics_of_rules_are_subscribed_and_outlive_the_power():
    gateway = Gateway()
    gateway.join()
    gateway.out.put(SUBSCRIBE, "default/rule")
    gateway.out.put(SUBSCRIBE, "default/rule")
    assert gateway.hear().find(b"default/rule\x01") > 0
    gateway.arrive("default/rule", b"up")
    assert gateway.eventbus.uploads.read(1)[2] == b"up"
    gateway.hear()
    again = Gateway(gateway.flash)
    assert b"default/rule\x01" in again.join()[1]
    again.out.put(UNSUBSCRIBE, "default/rule")
    assert b"default/rule" in again.hear()
    assert again.store.get(".hub/topics") == b"[]"


def test_the_number_of_rules_is_bounded():
    gateway = Gateway()
    gateway.flash.dead = True  # nor is a rule refused because it cannot be kept
    for i in range(RULES_MAX + 1):
        assert gateway.out.put(SUBSCRIBE, "r" + str(i))
        gateway.step()
    assert "too many rules" in gateway.lines[-1] and "rule not kept" in gateway.lines[-2]
    rest = gateway.join()[1]
    assert b"r%d\x01" % (RULES_MAX - 1) in rest and b"r%d\x01" % RULES_MAX not in rest


def test_a_configuration_that_cannot_be_used_is_refused():
    raises(ValueError, with_mode, 3)
    raises(ValueError, with_mode, "2")


def with_mode(mode):
    Gateway(mqttMode=mode)
