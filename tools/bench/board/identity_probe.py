"""Runs on MicroPython: joins a real bridge with each of the tokens, then makes handshakes with what it got.

Prints {"figure": "enrol" | "heap" | "handshake", "value": ..}: milliseconds from the start of enrolment to
a stored certificate, the most bytes in use between two steps of the loop on top of what was in use
before, and milliseconds from connecting to an encrypted connection.
"""

import gc
import json
import sys
import time

from motelet import borrow
from motelet.kvlog import Store as _Gateways  # noqa: F401  a gateway has it anyway
from motelet.log import Log
from motelet.loop import WRITE, Loop
from motelet.ports.unix import Port


class Store:
    """The least of a store, so that flash is on nobody's bill."""

    def __init__(self):
        self.get = {}.get
        self.data = {}

    def __contains__(self, key):
        return key in self.data

    def put(self, key, value):
        self.batch([(key, value)])

    def batch(self, items):
        for key, value in items:
            if value is None:
                self.data.pop(key, None)
            else:
                self.data[key] = value
        self.get = self.data.get


class Hub:
    """What EdgeHub is to the modules of identity."""

    def __init__(self, port, config, token):
        self.port = port
        self.clock = port.clock
        self.loop = Loop(port.clock, port.poller(), _failed)
        self.log = Log(port.log_sink, "warning")
        self.meta = self
        self.store = Store()
        self.config = dict(config["bridge"])
        self.config["node"] = config["node"]
        self.config["token"] = token
        self.context = None
        self.pair = 0
        self.done = False
        self.task = self.loop.spawn("enrol", self.enrol)

    def enrol(self, task):
        yield from borrow("enrol").enrol(self)
        self.done = True


def _failed(task, error):
    raise SystemExit(error)


def _enrol(port, config, token, heap):
    hub = Hub(port, config, token)
    gc.collect()
    before = most = gc.mem_alloc()
    started = time.ticks_us()
    while not hub.done:
        hub.loop.step(-1)
        if heap:
            gc.collect()
            most = max(most, gc.mem_alloc())
    taken = time.ticks_diff(time.ticks_us(), started) / 1000
    print('{"figure": "%s", "value": %.3f}' % (("heap", most - before) if heap else ("enrol", taken)))
    return hub


def _handshake(port, hub):
    host, number = hub.config["host"], hub.config["port"]
    started = time.ticks_us()
    stream = port.tcp(host, number, hub.context, "localhost")
    poller = port.poller()
    poller.register(stream, WRITE)
    # The write that is taken is the first after the handshake.
    while stream.write(b"G", 0, 1) is None:
        for _ in poller.ipoll(1000):
            pass
    taken = time.ticks_diff(time.ticks_us(), started) / 1000
    poller.unregister(stream)
    stream.close()
    print('{"figure": "handshake", "value": %.3f}' % taken)


def main(path):
    with open(path) as file:
        config = json.load(file)
    port = Port()
    tokens = config["tokens"]
    for i, token in enumerate(tokens):
        hub = _enrol(port, config, token, i < len(tokens) // 2)
        gc.collect()
    for _ in range(config["handshakes"]):
        _handshake(port, hub)
        gc.collect()


main(sys.argv[1])
