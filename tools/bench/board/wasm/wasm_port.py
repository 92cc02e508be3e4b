"""The port of MicroPython for WebAssembly, over the functions that wasm_host.mjs lends it.

It stands where ports/esp32 stands on a board, so it is kept as small, and like there nothing that is
called in the steady state allocates.
"""

import gc
import sys
import time

from js import motelet_close, motelet_open, motelet_random, motelet_read, motelet_ready, motelet_write
from uctypes import addressof


class Stream:
    def __init__(self, port):
        self.id = motelet_open(port)

    def readinto(self, buf, n=-1):
        return _result(motelet_read(self.id, addressof(buf), len(buf) if n < 0 else n))

    def write(self, buf, off=0, n=-1):
        return _result(motelet_write(self.id, addressof(buf) + off, len(buf) - off if n < 0 else n))

    def close(self):
        motelet_close(self.id)


def _result(count):
    if count == -2:
        raise OSError(104)
    return None if count == -1 else count


class Poller:
    """Tells one ready stream at a time, in turn; it never waits, which is the host's part."""

    def __init__(self):
        self._entries = []  # [stream, events, what ipoll gives]
        self._turn = 0

    def register(self, stream, events):
        self._entries.append([stream, events, ([stream, 0],)])

    def _entry(self, stream):
        for entry in self._entries:
            if entry[0] is stream:
                return entry
        raise OSError(2)

    def modify(self, stream, events):
        entry = self._entry(stream)  # not in one line: a call within a target makes a bound method
        entry[1] = events

    def unregister(self, stream):
        self._entries.remove(self._entry(stream))

    def ipoll(self, timeout_ms=-1):
        entries = self._entries
        for _ in range(len(entries)):
            self._turn = (self._turn + 1) % len(entries)
            entry = entries[self._turn]
            ready = motelet_ready(entry[0].id) & entry[1]
            if ready:
                answer = entry[2][0]
                answer[1] = ready
                return entry[2]
        return ()


class _Listener:
    """A listener that nobody connects to: what is watched is a connection to `port` that stays silent."""

    def __init__(self, port):
        self.stream = Stream(port)

    def accept(self):
        return None

    def close(self):
        self.stream.close()


class _Host:
    """The host runs asyncio by itself, between the steps of the probe."""

    due = False


class Port:
    name = "wasm"
    built_ms = 0  # the host keeps the time
    clock = time

    def poller(self):
        return Poller()

    def epoch_ms(self):
        return time.time_ns() // 1000000

    def status(self):
        free = gc.mem_free()
        return {"heap": free + gc.mem_alloc(), "heap_free": free}

    def set_time(self, epoch_ms):
        pass  # the host's clock is right

    def random(self, n):
        buf = bytearray(n)
        motelet_random(addressof(buf), n)
        return buf

    def tcp(self, host, port, context=None, server_name=None):
        return Stream(port)

    def listen(self, host, port):
        return _Listener(port)

    def flash(self, path, size, block_size=4096, prog_size=32):
        from fileflash import FileFlash  # the unix port's, put there by the bench

        return FileFlash(path, size, block_size, prog_size)

    def pods(self, settings):
        return {"process": False, "mpy": sys.implementation._mpy}

    def asyncio_host(self, loop):
        return _Host()

    def overseer(self, settings):
        return None  # nothing outlives the host

    def log_sink(self, line):
        print(line)
