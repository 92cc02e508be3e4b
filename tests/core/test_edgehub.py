"""EdgeHub against a scripted CloudHub: what goes down and up in step.

The real bridge is the peer in tests/integration; here the script can do what a good bridge never does.
"""

from hashlib import sha256

from busy_store import Busy
from link_world import World, encoded, prop

from motelet import borrow, protocol
from motelet.device import Device
from motelet.edgehub import MESSAGE_MAX, WINDOW


def test_hello_says_what_is_held_and_what_fits():
    world = World()
    cloud = world.connect()
    assert cloud.request[0] == "GET /motelet/v1/n1 HTTP/1.1"
    kind, low, high, digest, info = cloud.hello
    assert (kind, low, high, digest) == (protocol.HELLO, 1, 1, bytes(8))
    assert info["max_message"] == MESSAGE_MAX and info["window"] == WINDOW and info["platform"] == "test"
    assert world.hub.connected


def test_put_is_on_flash_before_it_is_acknowledged():
    world = World()
    cloud = world.connect()
    cloud.say([protocol.PUT, 1, "default/device/d1", "v1", b"\xa0"])
    assert cloud.heard() == [[protocol.ACK, 1]]
    assert world.store.data["default/device/d1"] == encoded("v1") + encoded(b"\xa0")
    assert (
        world.twin_mail.take() and world.twin_mail.a == "default/device/d1" and world.twin_mail.b == b"\xa0"
    )


def test_acknowledgements_of_a_burst_are_one():
    world = World()
    cloud = world.connect()
    for seq in range(1, 5):
        cloud.say([protocol.PUT, seq, "default/configmap/c%d" % seq, "v", b"\xa0"])
    assert cloud.heard()[-1] == [protocol.ACK, 4]
    assert len(world.store.data) == 4


def test_delete_forgets_and_is_no_error_twice():
    world = World()
    cloud = world.connect()
    cloud.say([protocol.PUT, 1, "default/configmap/c", "v", b"\xa0"])
    cloud.say([protocol.DELETE, 2, "default/configmap/c"])
    cloud.say([protocol.DELETE, 3, "default/configmap/c"])
    assert cloud.heard()[-1] == [protocol.ACK, 3]
    assert not world.store.data


def test_a_refused_object_is_named_and_the_rest_goes_on():
    world = World()
    cloud = world.connect()
    cloud.say([protocol.PUT, 1, ".twin/default/d1/p", "v", b"\xa0"])
    cloud.say([protocol.PUT, 2, "default/configmap/c", "v", b"\xa0"])
    heard = cloud.heard()
    assert heard[0][:3] == [protocol.NACK, 1, protocol.INVALID] and ".twin" in heard[0][3]
    assert heard[-1] == [protocol.ACK, 2] and list(world.store.data) == ["default/configmap/c"]


def test_full_flash_is_said_and_nothing_is_acknowledged_as_stored():
    world = World()
    cloud = world.connect()
    world.store.full = True
    cloud.say([protocol.PUT, 1, "default/configmap/c", "v", b"\xa0"])
    heard = cloud.heard()
    assert heard[0][:3] == [protocol.NACK, 1, protocol.STORAGE_FULL] and not world.store.data
    world.store.full = False
    Busy(world.store, 1)
    cloud.say([protocol.PUT, 2, "default/configmap/c", "v1", b"x"])
    assert cloud.heard()[0] == [protocol.NACK, 2, protocol.STORAGE_FULL, "store is making room, try again"]


def test_a_malformed_or_local_resource_is_refused():
    world = World()
    cloud = world.connect()
    cloud.say([protocol.PUT, 1, 7, "v", b"\xa0"])
    cloud.say([protocol.PUT, 2, ".boot", "v", b"\xa0"])
    cloud.say([protocol.PUT, 3, "n/configmap/" + "x" * 400, "v", b"\xa0"])
    cloud.say([protocol.PUT, 4, "n/configmap/c", "v" * 65, b"\xa0"])
    codes = [message[2] for message in cloud.heard() if message[0] == protocol.NACK]
    assert codes == [protocol.MALFORMED, protocol.INVALID, protocol.INVALID, protocol.INVALID]
    assert not world.store.data and world.hub.connected


def test_an_unknown_kind_is_refused_by_number():
    world = World()
    cloud = world.connect()
    cloud.say([40, 1, "what is this"])
    assert cloud.heard()[0][:3] == [protocol.NACK, 1, protocol.UNKNOWN] and world.hub.connected


def test_a_task_that_failed_ends_its_link_before_it_begins_another():
    world = World()
    cloud = world.connect()
    item = prop()
    world.reports.ready.append(item)
    world.task.wake()
    cloud.heard()
    failing = world.hub.meta.room
    world.hub.meta.room = None  # what is no error of a link
    cloud.say([protocol.ACK, 1])
    world.run()
    assert len(world.errors) == 1
    world.hub.meta.room = failing
    stream = world.hub._stream
    world.run(1000)
    assert stream.closed and ("lost",) in world.reports.log and not world.hub.connected
    world.connect()
    assert world.hub.connected


def test_a_gap_in_the_numbers_ends_the_link():
    world = World()
    cloud = world.connect()
    cloud.say([protocol.PUT, 2, "default/configmap/c", "v", b"\xa0"])
    world.run()
    assert not world.hub.connected and not world.store.data


def test_have_lists_every_object_over_several_pages():
    world = World()
    name = "default/configmap/" + "a-rather-long-name-" * 4 + "%d"
    for i in range(18):
        world.store.put(name % i, encoded("v%d" % i) + encoded(b"\xa0"))
    world.store.put(".boot", b"1")
    cloud = world.connect()
    assert cloud.hello[3] != bytes(8)
    cloud.say([protocol.LIST])
    held = {}
    pages = cloud.heard()
    for page in pages:
        assert page[0] == protocol.HAVE
        held.update(page[2])
    assert len(pages) > 2 and [page[1] for page in pages] == [True] * (len(pages) - 1) + [False]
    assert len(held) == 18 and held[name % 7] == "v7"


def test_the_digest_is_the_one_of_the_protocol():
    world = World()
    cloud = world.connect()
    cloud.say([protocol.PUT, 1, "default/configmap/c", "v1", b"\xa0"])
    cloud.say([protocol.PUT, 2, "default/configmap/d", "v2", b"\xa0"])
    cloud.heard()
    expected = bytearray(8)
    for key, version in (("default/configmap/c", "v1"), ("default/configmap/d", "v2")):
        for i, byte in enumerate(sha256((key + "\0" + version).encode()).digest()[:8]):
            expected[i] ^= byte
    assert borrow("metalist").digest(world.store) == expected


def test_a_report_is_named_once_and_settled_by_ack():
    world = World()
    cloud = world.connect()
    item = prop()
    world.reports.ready.append(item)
    world.task.wake()
    assert cloud.heard() == [
        [protocol.NAME, 1, "default/device/d1", "setpoint"],
        [protocol.REPORT, 1, 1, 21.5, 1800000000123],
    ]
    item.observed = "22"
    world.reports.ready.append(item)
    world.task.wake()
    assert cloud.heard() == [[protocol.REPORT, 2, 1, 21.5, 1800000000123, "22"]]
    cloud.say([protocol.ACK, 2])
    world.run()
    assert world.reports.log.count(("acked", item)) == 2


def test_a_device_state_is_reported_with_its_reason():
    world = World()
    cloud = world.connect()
    device = Device("default/device/d1")
    device.state, device.reason, device.time_ms = "offline", "timed out", 5
    world.reports.ready.append(device)
    world.task.wake()
    assert cloud.heard() == [
        [protocol.NAME, 1, "default/device/d1", None],
        [protocol.STATE, 1, 1, "offline", 5, "timed out"],
    ]


def test_a_reason_is_cut_to_what_the_link_takes():
    world = World()
    cloud = world.connect()
    device = Device("default/device/d1")
    device.state, device.time_ms = "offline", 5
    seq = 0
    for reason, said in (("a" * 300, "a" * 200), ("\u20ac" * 67, "\u20ac" * 66), ("a" * 200, "a" * 200)):
        seq += 1
        device.reason = reason
        world.reports.ready.append(device)
        world.task.wake()
        assert cloud.heard()[-1] == [protocol.STATE, seq, 1, "offline", 5, said]


def test_the_window_bounds_what_is_not_acknowledged():
    world = World()
    cloud = world.connect()
    world.reports.ready.extend([prop("p%d" % i) for i in range(WINDOW + 3)])
    world.task.wake()
    reports = [message for message in cloud.heard() if message[0] == protocol.REPORT]
    assert len(reports) == WINDOW
    cloud.say([protocol.ACK, 3])
    reports = [message for message in cloud.heard() if message[0] == protocol.REPORT]
    assert [message[1] for message in reports] == [WINDOW + 1, WINDOW + 2, WINDOW + 3]


def test_a_refused_report_is_settled_alone():
    world = World()
    cloud = world.connect()
    items = [prop("a"), prop("b")]
    world.reports.ready.extend(items)
    world.task.wake()
    cloud.heard()
    cloud.say([protocol.NACK, 1, protocol.UNKNOWN, "no such property"])
    cloud.say([protocol.ACK, 2])
    world.run()
    assert world.reports.log[-2:] == [
        ("refused", items[0], protocol.UNKNOWN, "no such property"),
        ("acked", items[1]),
    ]


def test_an_ack_of_what_was_never_sent_ends_the_link():
    world = World()
    cloud = world.connect()
    cloud.say([protocol.ACK, 1])
    world.run()
    assert not world.hub.connected


def test_a_full_twin_mailbox_is_back_pressure_not_loss():
    world = World()
    cloud = world.connect()
    for seq in range(1, 8):
        cloud.say([protocol.PUT, seq, "default/device/d%d" % seq, "v", b"\xa0"])
    assert cloud.heard()[-1] == [protocol.ACK, 4]
    taken = 0
    while world.twin_mail.take():
        taken += 1
        world.run()
    assert taken == 7 and cloud.heard()[-1] == [protocol.ACK, 7]
