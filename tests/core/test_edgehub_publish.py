"""EdgeHub against a scripted CloudHub: what the cloud publishes at the edge, and what it wants to hear."""

from link_world import World

from motelet import protocol
from motelet.publications import Publications


class EventBus:
    """What EdgeHub and Publications use of it."""

    def __init__(self, store):
        self.task = self
        self.publications = Publications(store, None, self)

    def wake(self):
        pass


def test_what_is_published_by_the_cloud_is_on_flash_before_it_is_acknowledged():
    world = World()
    cloud = world.connect()
    cloud.say([protocol.PUBLISH, 1, "lamp/blink", b"no"])
    heard = cloud.heard()
    assert heard[0][:3] == [protocol.NACK, 1, protocol.INVALID] and "no EventBus" in heard[0][3]
    world.hub.eventbus = EventBus(world.store)
    cloud.say([protocol.PUBLISH, 2, "lamp/blink", b"\x00now"])
    assert cloud.heard() == [[protocol.ACK, 2]]
    assert world.store.data[".hub/p/1"] == b'["lamp/blink", 0]\n\x00now'
    cloud.say([protocol.PUBLISH, 3, "lamp/#", b""])
    assert cloud.heard()[0][:3] == [protocol.NACK, 3, protocol.INVALID]
    cloud.say([protocol.PUBLISH, 4, 5, b""])
    assert cloud.heard()[0][:3] == [protocol.NACK, 4, protocol.MALFORMED]
    world.store.full = True
    cloud.say([protocol.PUBLISH, 5, "lamp/blink", b""])
    assert cloud.heard()[0][:3] == [protocol.NACK, 5, protocol.STORAGE_FULL]
    cloud.say([protocol.PUBLISH, 7, "lamp/blink", b""])
    world.run()
    assert not world.hub.connected and len(world.store.data) == 1


def test_who_waits_for_the_topics_of_rules_is_told_and_finds_them_in_the_store():
    world = World()
    told = []
    cloud = world.connect()
    cloud.say([protocol.PUT, 1, "kubeedge/rules/subscriptions", "1", b"\x80"])  # nobody is interested
    assert cloud.heard() == [[protocol.ACK, 1]]
    world.meta.rules = lambda: told.append("kubeedge/rules/subscriptions" in world.store.data)
    cloud.say([protocol.PUT, 2, "kubeedge/rules/subscriptions", "2", b"\x80"])
    cloud.say([protocol.PUT, 3, "default/configmap/c", "2", b"\x80"])
    cloud.say([protocol.DELETE, 4, "kubeedge/rules/subscriptions"])
    assert cloud.heard()[-1] == [protocol.ACK, 4] and told == [True, False]
