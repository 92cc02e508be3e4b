"""EdgeHub's buffer for what goes up: small, and larger with the first message that needs it."""

from link_world import World, prop

from motelet import protocol

_TOPIC_SIZE_MAX = 512  # motelet.mqtt
_UPLOAD_SIZE_MAX = 1024  # motelet.uploads


class Uploads:
    """One message for the cloud, until it is sent."""

    def __init__(self, *parts):
        self.parts = parts

    def next(self):
        return 1 if self.parts else 0

    def read(self, number):
        return self.parts

    def sent(self, number):
        self.parts = None

    def link_lost(self):
        pass


def test_the_largest_upload_gets_a_larger_buffer():
    world = World()
    cloud = world.connect()
    small = len(world.hub._ws.tx)
    assert small < 512
    parts = ["t" * _TOPIC_SIZE_MAX, 1 << 62, b"p" * _UPLOAD_SIZE_MAX]
    world.hub.uploads = Uploads(*parts)
    world.hub.task.wake()
    assert cloud.heard() == [[protocol.EVENT, 1] + parts]
    assert len(world.hub._ws.tx) > small and world.hub.connected
    world.reports.ready.append(prop())
    world.hub.task.wake()
    assert [message[0] for message in cloud.heard()] == [protocol.NAME, protocol.REPORT]


def test_the_largest_report_gets_a_larger_buffer():
    world = World()
    cloud = world.connect()
    item = prop(value="v" * protocol.VALUE_SIZE_MAX)
    item.observed = "o" * protocol.VALUE_SIZE_MAX
    world.reports.ready.append(item)
    world.hub.task.wake()
    report = cloud.heard()[1]
    assert report[3] == item.value and report[5] == item.observed


def test_a_request_has_the_room_it_needs_and_a_bound():
    world = World()
    world.hub.config = dict(world.hub.config, path="/" + "p" * 1000)
    cloud = world.connect()
    assert cloud.request[0] == "GET /%s HTTP/1.1" % ("p" * 1000) and world.hub.connected
    world = World()
    world.hub.config = dict(world.hub.config, path="/" + "p" * 1600)
    world.run(1000)
    assert "no room for" in world.lines[-1] and not world.hub.connected, world.lines
