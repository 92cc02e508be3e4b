"""The internal broker over streams in memory, and packets written out by hand; what its tests share."""

from motelet.broker import Broker
from motelet.log import Log
from motelet.loop import Loop
from tests_util import Clock, MemoryPoller, MemoryStream

_BUFFER = bytearray(2048)


def string(text):
    data = text.encode() if isinstance(text, str) else text
    return bytes((len(data) >> 8, len(data) & 255)) + data


def packet(kind, body):
    size = bytes((len(body),)) if len(body) < 128 else bytes((len(body) & 127 | 128, len(body) >> 7))
    return bytes((kind,)) + size + body


def connect(name, flags=2, keepalive=60, rest=b""):
    return packet(
        0x10, string("MQTT") + bytes((4, flags, keepalive >> 8, keepalive & 255)) + string(name) + rest
    )


def publish(topic, msg=b"", kind=0x30, pid=None):
    return packet(kind, string(topic) + (b"" if pid is None else bytes((pid >> 8, pid & 255))) + msg)


def subscribe(*patterns, qos=0):
    return packet(0x82, b"\x00\x01" + b"".join([string(pattern) + bytes((qos,)) for pattern in patterns]))


CONNACK = b"\x20\x02\x00\x00"
SUBACK = b"\x90\x03\x00\x01\x00"


class World:
    """A broker; it is its own listener and port."""

    def __init__(self, **config):
        self.clock = Clock()
        self.errors = []
        self.lines = []
        self.coming = []
        self.taken = []
        self.takes = True
        self.asked = None
        self.stream, self._knock = MemoryStream.pair(16)
        self.loop = Loop(self.clock, MemoryPoller(self.clock), lambda task, error: self.errors.append(error))
        self.broker = Broker(self, self.loop, Log(self.lines.append, "debug"), config, self.take)
        self.task = self.loop.spawn("broker", self.broker.run)
        self.step()

    def listen(self, host, port):
        self.asked = (host, port)
        return self

    def accept(self):
        self.stream.readinto(bytearray(1))
        return self.coming.pop(0) if self.coming else None

    def take(self, topic, msg):
        if self.takes:
            self.taken.append((topic, msg))
        return self.takes

    def step(self, count=6):
        for _ in range(count):
            self.loop.step(0)
        assert not self.errors, self.errors

    def open(self, first=b"", capacity=2048):
        mine, theirs = MemoryStream.pair(capacity)
        self.coming.append(mine)
        self._knock.write(b"x", 0, 1)
        client = Client(self, theirs)
        if first:
            client.say(first)
        return client

    def client(self, name, *patterns, **options):
        """-> a connected client that has subscribed to `patterns`."""
        client = self.open(connect(name))
        assert client.hear() == CONNACK
        for pattern in patterns:
            client.say(subscribe(pattern, **options))
            client.hear()
        return client


class Client:
    def __init__(self, world, stream):
        self.world = world
        self.stream = stream

    def say(self, data):
        assert self.stream.write(data, 0, len(data)) == len(data)
        self.world.step()

    def hear(self):
        """-> what came since, None when the connection is closed and there is no more."""
        self.world.step()
        count = self.stream.readinto(_BUFFER)
        return None if count == 0 else bytes(_BUFFER[: count or 0])


class Piece:
    """A stream that has `data` and no more; `count` of it were read."""

    def __init__(self, data=b""):
        self.data = data

    def readinto(self, buf):
        self.count = min(len(buf), len(self.data))
        buf[: self.count] = self.data[: self.count]
        return self.count
