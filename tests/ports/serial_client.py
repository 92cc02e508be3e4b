"""Echoes a serial line over the unix port, for both interpreters.

`serial_client.py PATH BAUDRATE PARITY STOPBITS`. Prints what it saw, and ends when the line hangs up.
"""

import sys

from motelet.loop import READ, Loop
from motelet.ports.unix import Port

MICROPYTHON = sys.implementation.name == "micropython"
if MICROPYTHON:
    from micropython import heap_lock, heap_unlock


class Line:
    def __init__(self, port, stream):
        self.loop = Loop(port.clock, port.poller(), self.on_error)
        self.stream = stream
        self.buf = bytearray(64)
        self.count = None
        self.echoed = 0
        self.hung_up = False
        self.loop.watch(stream, READ, self.loop.spawn("line", self.run))
        self.loop.step(0)  # the first turn, before anything came

    def on_error(self, task, exc):
        self.hung_up = isinstance(exc, OSError)

    def run(self, task):
        while self.count != 0:
            yield
            self.count = self.stream.readinto(self.buf)
            if self.count:
                self.echoed += self.stream.write(self.buf, 0, self.count)
        self.hung_up = True

    def echo(self, n):
        """Go on until n bytes have been sent back, as they came."""
        while self.echoed < n:
            self.loop.step(-1)


def say(line):
    print(line)
    if not MICROPYTHON:  # which writes at once
        sys.stdout.flush()


def main(path, baudrate, parity, stopbits):
    port = Port()
    line = Line(port, port.serial(path, int(baudrate), parity, int(stopbits)))
    say("nothing %s %s" % (line.stream.readinto(line.buf), line.stream.readinto(line.buf, 5)))
    line.echo(11)
    say("echoed")
    if MICROPYTHON:
        heap_lock()
    try:
        for _ in range(100):
            line.loop.step(0)
        line.echo(22)
    finally:
        if MICROPYTHON:
            heap_unlock()
    say("echoed")
    while not line.hung_up:
        line.loop.step(-1)
    say("hung up")
    line.loop.unwatch(line.stream)
    line.stream.close()
    line.stream.close()


main(*sys.argv[1:])
