"""What the internal broker keeps on the heap: its code, and with eight clients that have subscribed.

Streams are in memory here, and not counted: on a board they are the platform's.
"""

import gc
import sys
import time

from garbage import collected

_CLIENTS = 8
_HELLO = b"\x10\x0e\0\4MQTT\4\2\0\x3c\0\2c%d" + b"\x82\x0c\0\1\0\7to/all%d\0"


class Stream:
    def __init__(self, data):
        self.data = data

    def readinto(self, buf):
        count = min(len(buf), len(self.data))
        buf[:count] = self.data[:count]
        self.data = self.data[count:]
        return count or None

    def write(self, buf, off, n):
        return n


class Port:
    """Also the listener, the poller and the log."""

    def __init__(self):
        self.coming = []
        self.stream = self

    def listen(self, host, port):
        return self

    def accept(self):
        return self.coming.pop() if self.coming else None

    def register(self, stream, events):
        pass

    def ipoll(self, wait):
        return ()

    def warning(self, *what):
        print(what)

    info = error = debug = warning
    modify = register


def _failed(task, error):
    raise error


def _script():
    from motelet.loop import Loop

    port = Port()
    streams = [Stream(_HELLO % (number, number)) for number in range(_CLIENTS)]
    loop = Loop(time, port, _failed)
    from motelet.mqtt import Packets

    Packets(16)  # every gateway that speaks MQTT has its module; without a use the import would go
    yield from collected()
    before = gc.mem_alloc()
    from motelet.broker import Broker

    broker = Broker(port, loop, port, {}, None)
    loop.spawn("broker", broker.run)
    yield from _rest(loop)
    print('{"clients": 0, "bytes": %d}' % (gc.mem_alloc() - before))
    port.coming = streams
    broker.wake(1)
    yield from _rest(loop)
    if len([each for each in broker._sessions if each.subscriptions]) != _CLIENTS:
        raise SystemExit(1)
    print('{"clients": %d, "bytes": %d}' % (_CLIENTS, gc.mem_alloc() - before))


def _rest(loop):
    for _ in range(3 * _CLIENTS):
        loop.step(0)
        yield
    yield from collected()


script = _script()
if sys.platform == "webassembly":

    def step():
        """For the host: -> milliseconds it may wait, negative at the end."""
        try:
            next(script)
        except StopIteration:
            return -1
        return 0
else:
    for _ in script:
        pass
