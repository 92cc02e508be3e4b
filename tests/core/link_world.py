"""A hub, the far end of its link by script, and what is between: for the tests of EdgeHub."""

import gc
from binascii import b2a_base64
from hashlib import sha1

from motelet import protocol
from motelet.bus import Bus
from motelet.cbor import Reader, Writer
from motelet.device import Device, Property, Spec
from motelet.edgehub import EdgeHub
from motelet.kvrecord import StoreFull
from motelet.log import Log
from motelet.loop import Loop
from motelet.metamanager import MetaManager
from tests_util import IS_MICROPYTHON, Clock, MemoryPoller, MemoryStream

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONFIG = {"host": "bridge", "port": 1, "path": "/motelet/v1/n1", "info": {"platform": "test"}}


class DictStore:
    """kvlog's Store in a dict; `full` makes every put fail as a full flash does."""

    def __init__(self):
        self.data = {}
        self.full = False

    def keys(self, prefix=""):
        return iter([key for key in self.data if key.startswith(prefix)])

    def get(self, key):
        return self.data.get(key)

    def put(self, key, value):
        if self.full:
            raise StoreFull()
        self.data[key] = bytes(value)

    def __contains__(self, key):
        return key in self.data

    def length(self, key):
        return len(self.data[key]) if key in self.data else None

    def delete(self, key):
        return self.data.pop(key, None) is not None

    def heads(self, size):
        for key in self.keys():
            yield key, self.data[key][:size], min(size, len(self.data[key]))

    def writer(self, key, total):
        return DictWriter(self, key, total)


class DictWriter:
    def __init__(self, store, key, total):
        self.store = store
        self.key = key
        self.value = bytearray(total)
        self.at = 0

    def write(self, chunk):
        self.value[self.at : self.at + len(chunk)] = chunk
        self.at += len(chunk)

    def commit(self, digest=None):
        assert self.at == len(self.value)
        self.store.data[self.key] = self.value

    def abort(self):
        self.value = None


class Reports:
    """The twin's half that EdgeHub uses: items to report, and what became of them."""

    def __init__(self):
        self.ready = []
        self.log = []

    def next_report(self):
        return self.ready[0] if self.ready else None

    def sent(self, item):
        self.ready.remove(item)
        self.log.append(("sent", item))

    def acked(self, item):
        self.log.append(("acked", item))

    def refused(self, item, code, reason):
        self.log.append(("refused", item, code, reason))

    def in_step(self):
        self.log.append(("in step",))

    def link_lost(self):
        self.log.append(("lost",))


class World:
    """A hub, its virtual clock, and the far ends of the connections it opened. Also the hub's port."""

    def __init__(self, store=None):
        if IS_MICROPYTHON:
            gc.collect()  # the world before this one, or a board's heap is soon in pieces
        self.clock = Clock()
        self.poller = MemoryPoller(self.clock)
        self.errors = []
        self.lines = []
        self.loop = Loop(self.clock, self.poller, lambda task, error: self.errors.append(error))
        self.bus = Bus()
        self.twin_mail = self.bus.mailbox("devicetwin", 4)
        self.store = store or DictStore()
        self.reports = Reports()
        self.links = []
        self.refuse = None
        log = Log(self.lines.append, "debug")
        self.meta = MetaManager(self.store, self.bus)
        self.hub = EdgeHub(self, self.loop, log, self.meta, self.reports, _CONFIG, None)
        self.task = self.loop.spawn("edgehub", self.hub.run)
        self.times = []
        self.state = {}
        self.built_ms = 0  # a platform that keeps the time

    def epoch_ms(self):
        return self.clock.now_ms

    def random(self, n):
        return b"r" * n

    def status(self):
        return dict(self.state)

    def set_time(self, epoch_ms):
        self.times.append(epoch_ms)

    def tcp(self, host, port, context, server_name):
        if self.refuse:
            raise self.refuse
        mine, theirs = MemoryStream(2560), MemoryStream(1536)
        mine.peer, theirs.peer = theirs, mine
        self.links.append(theirs)
        return mine

    def run(self, ms=0):
        end = self.clock.now_ms + ms
        for _ in range(2000):
            if not self.loop.step(0):
                due = self.loop.due()
                if self.clock.now_ms >= end or due < 0:
                    self.clock.advance(max(0, end - self.clock.now_ms))
                    return
                self.clock.advance(min(due, end - self.clock.now_ms))
        raise AssertionError("the loop does not come to rest")

    def connect(self, welcome=True):
        self.run(2000)
        cloud = Cloud(self, self.links[-1])
        cloud.upgrade()
        self.run()
        if welcome:
            cloud.say([protocol.WELCOME, 1, 1800000000000, 8])
            cloud.hello = cloud.heard()[0]
            self.run()
        return cloud


class Cloud:
    """The bridge's end of one connection, by script."""

    def __init__(self, world, stream):
        self.world = world
        self.stream = stream
        self.bytes = b""
        self.pings = 0
        self.writer = Writer(bytearray(2400))

    def read(self):
        buf = bytearray(512)
        count = self.stream.readinto(buf)
        while count:
            self.bytes += bytes(buf[:count])
            count = self.stream.readinto(buf)

    def upgrade(self):
        self.read()
        head, self.bytes = self.bytes.split(b"\r\n\r\n", 1)
        self.request = head.decode().split("\r\n")
        key = [line for line in self.request if line.lower().startswith("sec-websocket-key")][0].split(": ")[
            1
        ]
        accept = b2a_base64(sha1(key.encode() + _GUID).digest()).strip()
        self.stream.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\nSec-WebSocket-Protocol: motelet.v1+cbor\r\n\r\n"
        )

    def frame(self, opcode, payload):
        size = len(payload)
        head = (
            bytes([0x80 | opcode, size]) if size < 126 else bytes([0x80 | opcode, 126, size >> 8, size & 255])
        )
        assert self.stream.write(head) == len(head) and (not size or self.stream.write(payload) == size)

    def say(self, message):
        self.writer.n = 0
        self.writer.value(message)
        self.frame(2, self.writer.buf[: self.writer.n])

    def heard(self):
        """-> the messages since the last call; pings are counted and answered."""
        size = -1
        while size < len(self.bytes):  # the stream may hold less than there is to say
            size = len(self.bytes)
            self.world.run()
            self.read()
        messages = []
        reader = Reader()
        while self.bytes:
            opcode, size = self.bytes[0] & 15, self.bytes[1] & 127
            assert self.bytes[0] & 0x80 and self.bytes[1] & 0x80
            at = 2
            if size == 126:
                size = self.bytes[2] << 8 | self.bytes[3]
                at = 4
            payload = bytearray(self.bytes[at + 4 : at + 4 + size])
            for i in range(size):
                payload[i] ^= self.bytes[at + (i & 3)]
            self.bytes = self.bytes[at + 4 + size :]
            if opcode == 9:
                self.pings += 1
                self.frame(10, payload)
            elif opcode == 2:
                reader.open(payload, 0, size)
                messages.append(reader.value())
        return messages


def encoded(value):
    buf = bytearray(256)
    writer = Writer(buf)
    writer.value(value)
    return bytes(buf[: writer.n])


def prop(name="setpoint", value=21.5):
    item = Property(Device("default/device/d1"), Spec(name, "FLOAT", 0, None, None, 1000, 1000), 0)
    item.value = value
    item.time_ms = 1800000000123
    return item
