"""One failure, once, at every call that a gateway makes of its flash and its streams: it recovers by itself.

EdgeHub, MetaManager and a real store against a bridge that does what a bridge does: it asks what the board
holds, sends the difference, and counts what the board acknowledged.
"""

import gc

from link_world import Cloud, World
from nor import Nor

from motelet import protocol
from motelet.cbor import Reader
from motelet.kvlog import Store
from tests_util import IS_MICROPYTHON, MemoryStream

_STRIDE = 29 if IS_MICROPYTHON else 1  # of the calls that fail; a world takes its time
_LINKS_MAX = 6

FIRST = {"default/device/a": b"1", "default/configmap/b": b"2", "default/device/gone": b"3"}
LATER = {"default/device/a": b"4" * 700, "default/configmap/b": b"2", "default/pod/c": b"5"}


class Seam:
    """Raises an `error` at call number `left` from now on, once."""

    left = -1
    error = None

    def call(self):
        self.left -= 1
        if self.left == -1:
            raise self.error(5)  # a new one each time: MicroPython adds to the trace of an old one


class Flash(Nor):
    seam = Seam()

    def read(self, offset, buf):
        self.seam.call()
        super().read(offset, buf)

    def prog(self, offset, buf):
        self.seam.call()
        super().prog(offset, buf)

    def erase(self, block):
        self.seam.call()
        super().erase(block)

    def sync(self):
        self.seam.call()


class Stream(MemoryStream):
    seam = Seam()

    def readinto(self, buf, n=-1):
        self.seam.call()
        return super().readinto(buf, n)

    def write(self, buf, off=0, n=-1):
        self.seam.call()
        return super().write(buf, off, n)


class Gateway(World):
    """A world whose gateway's streams and flash have the seam; `open` holds the streams it has not closed."""

    def __init__(self):
        self.seam = Seam()
        flash = Flash(8)
        flash.seam = self.seam
        store = Store(flash)
        store.mount()
        super().__init__(store)
        self.open = []
        self.loop.spawn("metamanager", self.meta.run)

    def tcp(self, host, port, context, server_name):
        self.seam.call()
        for each in self.links + self.open:
            each._ring = bytearray(1)  # a board's heap does not hold the links before as well
            each.unread = 0
        self.errors.clear()
        mine, theirs = Stream(2560), MemoryStream(1536)
        mine.peer, theirs.peer = theirs, mine
        mine.seam = self.seam
        self.links.append(theirs)
        self.open.append(mine)
        return mine


class Bridge:
    """Has a gateway hold `objects`, however many links that takes; `acked` is what it said it holds."""

    def __init__(self, world):
        self.world = world
        self.acked = {}

    def bring(self, objects, version):
        links = 0
        while not self._link(objects, version):
            links += 1
            assert links < _LINKS_MAX, self.world.errors

    def _link(self, objects, version):
        """One link, until all is acknowledged (True) or it is lost."""
        world = self.world
        seen = len(world.links)
        for _ in range(100):
            world.run(1000)
            if len(world.links) > seen or (seen and not world.links[-1].peer.closed):
                break
        assert not world.links[-1].closed, (world.errors, world.lines)
        cloud = Cloud(world, world.links[-1])
        cloud.read()
        if b"\r\n\r\n" not in cloud.bytes:
            world.run(40000)  # it was lost, or the gateway gives it up
            return False
        try:
            cloud.upgrade()
            cloud.say([protocol.WELCOME, 1, 1800000000000, 8])
            cloud.say([protocol.LIST])
            messages = cloud.heard()
        except OSError:
            return False
        held = {}
        for message in messages:
            if message[0] == protocol.HAVE:
                held.update(message[2])
        if not messages or messages[-1][0] != protocol.HAVE or messages[-1][1]:
            return self._lost(cloud)
        for resource in self.acked:
            assert held.get(resource) == self.acked[resource], (resource, held)
        return self._send(cloud, held, objects, version)

    def _send(self, cloud, held, objects, version):
        wanted = [(each, objects[each]) for each in objects if held.get(each) != version]
        wanted += [(each, None) for each in held if each not in objects]
        sent = 0
        for resource, content in wanted:
            sent += 1
            try:
                if content is None:
                    cloud.say([protocol.DELETE, sent, resource])
                else:
                    cloud.say([protocol.PUT, sent, resource, version, content])
                heard = cloud.heard()
            except OSError:
                return False
            refused = [message for message in heard if message[0] == protocol.NACK]
            assert not refused or refused[0][2] == protocol.STORAGE_FULL  # which a bridge offers again
            if refused or [protocol.ACK, sent] not in heard:
                return self._lost(cloud)
            if content is None:
                self.acked.pop(resource, None)
            else:
                self.acked[resource] = version
            while self.world.twin_mail.take():
                pass
        return True

    def _lost(self, cloud):
        # What it did not acknowledge it may hold or not; a link that is still there is of no more use.
        cloud.stream.close()
        self.world.run(40000)
        return False


def content(store, resource):
    value = store.get(resource)
    reader = Reader()
    reader.open(value, 0, len(value))
    reader.skip()
    return reader.bytes()


def survives(at, error):
    """Whether the scenario makes so many calls; what is right at the end is checked."""
    world = Gateway()
    bridge = Bridge(world)
    bridge.bring(FIRST, "v1")
    world.seam.left = at
    world.seam.error = error
    bridge.acked = {}  # those of the second version are new
    bridge.bring(LATER, "v2")
    world.run(200)
    reached = world.seam.left < 0
    world.seam.left = -1
    streams, flash = world.open, world.store.flash
    world = bridge = None
    if IS_MICROPYTHON:
        gc.collect()  # a board's heap does not hold two
    store = Store(flash)
    store.mount()
    assert sorted(store.keys()) == sorted(LATER), (at, error)
    for resource in LATER:
        assert content(store, resource) == LATER[resource], (at, error, resource)
    left = [each for each in streams if not each.closed]
    assert len(left) <= 1, "streams that nobody closed: %d, %d %r" % (len(left), at, error)
    return reached


def test_an_error_at_any_call():
    at = 0
    while survives(at, OSError):
        at += _STRIDE
    assert at > 100


def test_no_memory_at_any_call():
    at = 1
    while survives(at, MemoryError):
        at += _STRIDE
    assert at > 100
