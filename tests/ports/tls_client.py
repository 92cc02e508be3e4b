"""A TLS client over the unix port, for both interpreters: `tls_client.py PORT NAME FOLDER SCENARIO`.

FOLDER holds ca.der and, for a client that shows who it is, cert.der and key.der. What happened is
printed line by line; the last line is "done", or "raised" and what kind of error ended it.
"""

import gc
import sys

from motelet.loop import READ, WRITE, Loop
from motelet.ports.unix import Port

MICROPYTHON = sys.implementation.name == "micropython"
if MICROPYTHON:
    from micropython import heap_lock, heap_unlock
WAIT_MS = 10000  # for what happens at once: a bound for a test that would hang
ROUNDS = 1000
BULK = 300000
MESSAGE = b"a message of forty bytes, more or less.."


def read_file(folder, name):
    try:
        with open(folder + "/" + name, "rb") as file:
            return file.read()
    except OSError:
        return None


def say(line):
    """Print a line that the test waits for."""
    print(line)
    if not MICROPYTHON:  # which writes at once
        sys.stdout.flush()


class Client:
    """One connection and a loop that knows only it; `turns` counts how often a reader was woken."""

    def __init__(self, port, context, number, name):
        self.loop = Loop(port.clock, port.poller(), self.on_error)
        self.stream = port.tcp("127.0.0.1", number, context, name)
        self.buf = bytearray(1024)
        self.error = None
        self.turns = 0
        self.woken = False
        self.task = self.loop.spawn("client", self.run)

    def on_error(self, task, exc):
        self.error = exc

    def run(self, task):
        while True:
            self.turns += 1
            self.woken = True
            yield

    def wait(self, events):
        """Until the stream is worth a look."""
        self.loop.watch(self.stream, events, self.task)
        self.woken = False
        while not self.woken:
            if not self.loop.step(WAIT_MS):
                raise OSError("nothing came")

    def send(self, data, n):
        at = 0
        while at < n:
            count = self.stream.write(data, at, n - at)
            if count is None:
                self.wait(WRITE)
            else:
                at += count

    def receive(self, n):
        """How many bytes came, in reads of at most n: one read that had some."""
        while True:
            count = self.stream.readinto(self.buf, n)
            if count is not None:
                return count
            self.wait(READ)

    def close(self):
        self.loop.unwatch(self.stream)
        self.stream.close()


def echo(client):
    """Messages there and back; once connected they allocate nothing."""
    client.wait(WRITE)  # enters the stream in the loop's table
    exchange(client, 3)
    if MICROPYTHON:
        gc.collect()
        gc.disable()
        before = gc.mem_alloc()
        heap_lock()
        try:
            exchange(client, ROUNDS)
        finally:
            heap_unlock()
        print("allocated", gc.mem_alloc() - before)
    else:
        exchange(client, ROUNDS)
        print("allocated 0")


def exchange(client, rounds):
    for _ in range(rounds):
        client.send(MESSAGE, 40)
        got = 0
        while got < 40:
            got += client.receive(1024)


def pending(client):
    """One large record read in small pieces, each after a wait: what waits inside TLS must be seen."""
    client.send(b"burst 5000", 10)
    got = 0
    while got < 5000:
        client.wait(READ)
        count = client.stream.readinto(client.buf, 10)
        got += count or 0
    print("got", got)


def bulk(client):
    """More than the connection holds, written while it is read back."""
    block = bytes(range(256)) * 8
    sent = received = 0
    while received < BULK:
        client.wait(READ | WRITE if sent < BULK else READ)
        if sent < BULK:
            at = sent % 2048
            sent += client.stream.write(block, at, min(2048 - at, BULK - sent)) or 0
        count = client.stream.readinto(client.buf)
        for i in range(count or 0):
            assert client.buf[i] == (received + i) & 255
        received += count or 0
    print("received", received)


def full(client):
    """The peer reads nothing until told to: the connection fills, and goes on where it stopped."""
    client.send(b"hold", 4)
    block = bytes(range(256)) * 32
    sent = 0
    while True:
        count = client.stream.write(block, sent % 256, 4096)
        if count is None:
            break
        sent += count
    say("go")
    client.send(memoryview(block)[sent % 256 :], 4096)
    client.send(b"end!", 4)
    count = client.receive(1024)
    print("whole", int(bytes(client.buf[:count])) == sent + 4096)


def end(client):
    """The peer ends the connection in good order."""
    client.send(b"close", 5)
    print("read", client.receive(10), client.receive(10))


def cut(client):
    """The connection below TLS ends."""
    client.send(b"break", 5)
    print("read", client.receive(10))


def stalled(client):
    """A handshake the peer does not answer yet: waiting goes on beside it."""
    client.wait(WRITE)
    # In this order: MicroPython waits for what the last call lacked.
    assert client.stream.readinto(client.buf) is None
    assert client.stream.write(MESSAGE, 0, 40) is None
    client.loop.watch(client.stream, WRITE, client.task)
    ticks = [0]

    def ticker(task):
        while True:
            ticks[0] += 1
            task.sleep(1)
            yield

    client.loop.spawn("ticker", ticker)
    client.turns = 0
    while ticks[0] < 50:
        client.loop.step(WAIT_MS)
    print("woken", client.turns, "beside", ticks[0], "ticks")
    say("go")
    client.send(MESSAGE, 40)
    print("got", client.receive(1024))


SCENARIOS = {
    "echo": echo,
    "pending": pending,
    "bulk": bulk,
    "full": full,
    "end": end,
    "cut": cut,
    "stalled": stalled,
}


def main(number, name, folder, scenario):
    port = Port()
    client = None
    try:
        context = port.tls(
            read_file(folder, "ca.der"), read_file(folder, "cert.der"), read_file(folder, "key.der")
        )
        client = Client(port, context, int(number), name or None)
        SCENARIOS[scenario](client)
        print("done")
    except (OSError, ValueError) as exc:
        print(repr(exc))
        print("raised", "ValueError" if isinstance(exc, ValueError) else "OSError")
    finally:
        if client is not None:
            client.close()


main(*sys.argv[1:])
