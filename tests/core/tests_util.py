"""What the tests of core share; it runs on CPython and, compiled, in a board's heap, so it stays small."""

import gc
import sys

IS_MICROPYTHON = sys.implementation.name == "micropython"
if IS_MICROPYTHON:
    from micropython import heap_lock, heap_unlock
READ = 1
WRITE = 4
_PERIOD = 1 << 30  # as on a 32-bit board: what wraps there wraps here


def raises(error, function, *args):
    """Call `function(*args)`, which must raise `error`, a class or a tuple of them; returns that."""
    try:
        function(*args)
    except error as caught:
        return caught
    raise AssertionError("%r did not raise %r" % (function, error))


def heap_locked(function, *args):
    """Call `function` with up to three arguments while MicroPython refuses every allocation.

    An allocation raises MemoryError. CPython has no such lock and just makes the call. A call that
    unpacks a tuple allocates by itself, hence the written-out cases.
    """
    count = len(args)
    a = args[0] if count > 0 else None
    b = args[1] if count > 1 else None
    c = args[2] if count > 2 else None
    assert count <= 3
    if IS_MICROPYTHON:
        heap_lock()
    try:
        if count == 0:
            return function()
        if count == 1:
            return function(a)
        if count == 2:
            return function(a, b)
        return function(a, b, c)
    finally:
        if IS_MICROPYTHON:
            heap_unlock()


def allocates_nothing(function, rounds):
    """Whether `function(rounds)` allocates nothing, which it is called for by two proofs.

    Under the heap lock an allocation raises MemoryError; with the collector off it shows in the memory used.
    CPython has neither, and just makes one call.
    """
    heap_locked(function, rounds)
    if not IS_MICROPYTHON:
        return True
    gc.collect()
    gc.disable()
    try:
        before = gc.mem_alloc()
        function(rounds)
        return gc.mem_alloc() == before
    finally:
        gc.enable()


class Clock:
    """A virtual clock with MicroPython's ticks, which wrap; only `advance` and `sleep_us` move it."""

    def __init__(self, start_ms=0, epoch_start_ms=1800000000000):
        self.now_ms = start_ms  # never wraps
        self._us = 0  # past that
        self._epoch_offset_ms = epoch_start_ms - start_ms

    def advance(self, ms):
        self.now_ms += ms

    def epoch_ms(self):
        return self.now_ms + self._epoch_offset_ms

    def ticks_ms(self):
        return self.now_ms & (_PERIOD - 1)

    def ticks_us(self):
        return (self.now_ms * 1000 + self._us) & (_PERIOD - 1)

    def sleep_us(self, us):
        self._us += us
        self.now_ms += self._us // 1000
        self._us %= 1000

    def ticks_add(self, ticks, delta):
        return (ticks + delta) & (_PERIOD - 1)

    def ticks_diff(self, later, earlier):
        return ((later - earlier + _PERIOD // 2) & (_PERIOD - 1)) - _PERIOD // 2


class MemoryStream:
    """One end of an in-memory connection with the contract of a port's stream; make both with `pair`.

    Neither reading nor writing allocates. `chunk_max` cuts every read and write (0: does not),
    `error` is raised by the next calls when set, `peer` is the other end.
    """

    def __init__(self, capacity):
        self._ring = bytearray(capacity)  # what this end has yet to read
        self._first = 0
        self.unread = 0
        self.closed = False
        self.error = None
        self.chunk_max = 0
        self.peer = None

    @staticmethod
    def pair(capacity=4096):
        one = MemoryStream(capacity)
        other = MemoryStream(capacity)
        one.peer = other
        other.peer = one
        return one, other

    def _cut(self, n):
        if self.error is not None:
            raise self.error
        if self.closed:
            raise OSError(9)
        return min(n, self.chunk_max) if self.chunk_max else n

    def readinto(self, buf, n=-1):
        n = self._cut(len(buf) if n < 0 else n)
        if not self.unread:
            return 0 if self.peer.closed else None
        n = min(n, self.unread)
        size = len(self._ring)
        for i in range(n):
            buf[i] = self._ring[(self._first + i) % size]
        self._first = (self._first + n) % size
        self.unread -= n
        return n

    def write(self, buf, off=0, n=-1):
        n = self._cut(len(buf) - off if n < 0 else n)
        peer = self.peer
        if peer.closed:
            raise OSError(32)
        size = len(peer._ring)
        n = min(n, size - peer.unread)
        if not n:
            return None
        at = peer._first + peer.unread
        for i in range(n):
            peer._ring[(at + i) % size] = buf[off + i]
        peer.unread += n
        return n

    def close(self):
        self.closed = True

    def readiness(self):
        """READ and WRITE as a poller would report them."""
        peer = self.peer
        if self.closed or self.error is not None:
            return READ | WRITE
        events = READ if self.unread or peer.closed else 0
        return events | WRITE if peer.closed or peer.unread < len(peer._ring) else events


class MemoryPoller:
    """The poller contract over MemoryStreams; when none is ready its virtual clock jumps by the timeout."""

    def __init__(self, clock):
        self._clock = clock
        self._watched = []  # [stream, events]

    def _find(self, stream):
        for entry in self._watched:
            if entry[0] is stream:
                return entry
        raise OSError(2)

    def register(self, stream, events):
        self._watched.append([stream, events])

    def modify(self, stream, events):
        self._find(stream)[1] = events

    def unregister(self, stream):
        self._watched.remove(self._find(stream))

    def ipoll(self, timeout_ms=-1):
        ready = [(s, s.readiness() & events) for s, events in self._watched if s.readiness() & events]
        if not ready and timeout_ms > 0:
            self._clock.advance(timeout_ms)
        return iter(ready)
