"""EventBus with an external broker, which the test plays, on a virtual clock.

On CPython only: with a store and DeviceTwin behind it there is no room left for tests in the heap of
the tests of core. On MicroPython EventBus runs in test_mosquitto.py.
"""

import re

import test_devicetwin_conflicts as conflicts
from busy_store import Busy
from nor import Nor
from twin_world import DEV, RESOURCE, World

from motelet import borrow
from motelet.cbor import Writer
from motelet.devicetwin import update
from motelet.eventbus import EventBus
from motelet.eventrules import RULES, RULES_MAX, SUBSCRIPTIONS
from motelet.kvlog import StoreFull
from motelet.messages import PUBLISH
from motelet.publications import PUBLICATION_SIZE_MAX, PUBLICATIONS_MAX
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

    def tcp(self, host, port, context=None, server_name=None):
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


def test_an_upload_waits_with_the_broker_while_the_store_makes_room():
    gateway = Gateway()
    gateway.join()
    busy = Busy(gateway.store, 3)
    gateway.arrive("node/user/z", b"first", 1)
    gateway.arrive("node/user/z", b"second", 2)
    heard = gateway.hear()
    assert heard == b"" and busy.left == 2
    for _ in range(4):
        gateway.clock.advance(50)
        heard += gateway.hear()
    assert heard == b"\x40\x02\x00\x01\x40\x02\x00\x02" and not gateway.eventbus.uploads.dropped
    assert [gateway.eventbus.uploads.read(number)[2] for number in (1, 2)] == [b"first", b"second"]


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


def rules(gateway, *topics, content=None):
    """The node holds these topics of Router rules from now on."""
    if content is None:
        content = encoded(list(topics))
    gateway.store.put(RULES, encoded("v") + encoded(content))
    gateway.eventbus.ruled()


def encoded(value):
    writer = Writer(bytearray(4096))
    writer.value(value)
    return bytes(writer.buf[: writer.n])


def test_topics_of_rules_are_subscribed_and_outlive_the_power():
    gateway = Gateway()
    gateway.join()
    rules(gateway, "default/rule")
    assert gateway.hear().find(b"default/rule\x01") > 0
    rules(gateway, "default/rule", "other/+/rule")
    heard = gateway.hear()
    assert b"other/+/rule\x01" in heard and b"default/rule" not in heard
    gateway.arrive("default/rule", b"up")
    assert gateway.eventbus.uploads.read(1)[2] == b"up"
    gateway.hear()
    again = Gateway(gateway.flash)
    assert b"default/rule\x01" in again.join()[1] and again.eventbus.rules == ["default/rule", "other/+/rule"]
    rules(again, "other/+/rule")
    heard = again.hear()
    assert heard[:1] == b"\xa2" and b"default/rule" in heard and b"other" not in heard
    again.store.delete(RULES)
    again.eventbus.ruled()
    assert b"\xa2" in again.hear() and again.eventbus.rules == []


def test_an_unsubscribe_without_room_is_made_later():
    gateway = Gateway()
    gateway.join()
    rules(gateway, "default/rule")
    gateway.hear()
    client = gateway.eventbus.client
    fill = client._packets
    while fill.send(0xC0, b""):
        continue
    rules(gateway)
    gateway.loop.step(0)
    assert gateway.eventbus.rules == ["default/rule"]
    client.wake()
    assert b"default/rule" in gateway.hear() + gateway.hear() and gateway.eventbus.rules == []


def test_what_are_no_rules_is_refused_and_those_before_stay():
    gateway = Gateway(Nor(20, block_size=2048))
    gateway.join()
    rules(gateway, "good")
    gateway.hear()
    for content in (
        encoded([f"r{i}" for i in range(RULES_MAX + 1)]),
        encoded("good"),
        encoded([1]),
        encoded([""]),
        encoded(["x" * 513]),
        encoded(["\u00e4" * 257]),
        b"\xff",
        b"",
        b"\x81\x62\xff\xff",
    ):
        rules(gateway, content=content)
        gateway.step()
        assert "rules refused" in gateway.lines[-1] and gateway.eventbus.rules == ["good"], content
        gateway.lines.append("")


def test_what_the_cloud_publishes_is_in_flash_until_the_broker_has_it():
    gateway = Gateway()
    publish(gateway, "lamp/blink", b"\x00now")
    publish(gateway, "lamp/blink", b"then")
    gateway.join()
    assert gateway.hear() == b"" and len(gateway.eventbus.publications._queue.numbers) == 2
    gateway.links[-1].close()
    again = Gateway(gateway.flash)  # the power went before the PUBACK
    rest = again.join()[1]
    at = rest.find(b"lamp/blink")
    pid = rest[at + 10 : at + 12]
    assert rest[at + 12 :].startswith(b"\x00now") and rest.count(b"lamp/blink") == 1
    again.say(b"\x40\x02" + pid)
    second = again.hear()
    assert b"then" in second and list(again.store.keys(".hub/p/")) == [".hub/p/2"]
    again.say(b"\x40\x02" + second[-6:-4])
    assert list(again.store.keys(".hub/p/")) == []
    publish(again, "x", b"")
    assert again.hear()[:1] == b"\x32"


def publish(gateway, topic, payload):
    borrow("eventrules").publication(gateway.eventbus, topic, payload)


def test_publications_are_bounded_and_checked():
    gateway = Gateway(Nor(20, block_size=2048))
    for topic in ("", "a/+", "#", "a\0", "\u00e4" * 257):
        raises(ValueError, publish, gateway, topic, b"")
    raises(ValueError, publish, gateway, "t", bytes(PUBLICATION_SIZE_MAX + 1))
    raises(ValueError, borrow("eventrules").publication, None, "t", b"")
    for _ in range(PUBLICATIONS_MAX):
        publish(gateway, "t", bytes(8))
    raises(StoreFull, publish, gateway, "t", b"")
    gateway.flash.dead = True
    gateway.join()
    said = gateway.hear()
    assert gateway.eventbus.publications._queue.numbers[0] == 1 and not said


def test_a_configuration_that_cannot_be_used_is_refused():
    raises(ValueError, with_mode, 3)
    raises(ValueError, with_mode, "2")


def with_mode(mode):
    Gateway(mqttMode=mode)


def test_each_row_of_the_table_of_conflicts_has_its_test():
    rows = re.findall(r"^\| (\d+) ", update.__doc__, re.MULTILINE)
    tests = [re.match(r"test_row_(\d+)_", name) for name in dir(conflicts)]
    assert rows and rows == sorted((found[1] for found in tests if found), key=int)
