"""EdgeHub against a scripted CloudHub: how a link begins and ends.

The real bridge is the peer in tests/integration; here the script can do what a good bridge never does.
"""

from link_world import Cloud, World

from motelet import protocol
from tests_util import heap_locked


def test_a_silent_link_is_pinged_and_a_dead_one_left():
    world = World()
    cloud = world.connect()
    world.run(16000)
    cloud.heard()
    assert cloud.pings == 1 and world.hub.connected
    world.run(44000)  # three pings that nobody answers
    world.run(2000)
    assert not world.hub.connected and ("lost",) in world.reports.log


def test_reconnects_back_off_with_a_bound_and_start_anew_after_a_stable_link():
    world = World()
    world.refuse = OSError(111)
    world.run(300000)
    waits = [line for line in world.lines if "link down" in line]
    assert 8 <= len(waits) <= 16, len(waits)
    world.refuse = None
    world.run(60000)
    cloud = Cloud(world, world.links[-1])
    cloud.upgrade()
    cloud.say([protocol.WELCOME, 1, 0, 8])
    world.run(31000)
    cloud.heard()
    before = len(world.links)
    cloud.stream.close()
    world.run(1100)
    assert len(world.links) == before + 1


def test_no_common_version_is_named():
    world = World()
    cloud = world.connect(welcome=False)
    cloud.say([protocol.WELCOME, 0, 0, 8])
    world.run()
    assert not world.hub.connected and any("version" in line for line in world.lines)


def test_a_bridge_that_never_answers_is_left():
    world = World()
    world.run(2000)
    assert len(world.links) == 1
    world.run(40000)
    assert len(world.links) >= 2 and any("not open after" in line for line in world.lines)


def garbage_ends(payload):
    # A world of its own, gone on return: a board's heap has no room for two.
    world = World()
    world.connect().frame(2, payload)
    world.run()
    assert not world.hub.connected and not world.errors, payload
    world.connect()
    assert world.hub.connected


def test_garbage_ends_the_link_and_not_the_gateway():
    for payload in (b"", b"\xff", b"\x80", b"\x9f", b"\x82\x07", b"\x82\x63abc\x01", b"\xa0"):
        garbage_ends(payload)


def test_a_keepalive_round_allocates_nothing():
    world = World()
    cloud = world.connect()
    hub = world.hub
    cloud.heard()
    for _ in range(3):
        world.clock.advance(16000)
        hub.heard = world.clock.ticks_ms()
        heap_locked(hub._serve)
        assert cloud.heard() == [] and hub.connected
        heap_locked(hub._serve)
    assert cloud.pings == 3
