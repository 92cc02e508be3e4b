"""MicroPython's half of the unix port: its sockets and its poll are what the interface asks for."""

import gc
import io
import select
import time

from micropython import const

from motelet.ports.sockets import asyncio_host, stream, tls_context, tls_server, tls_unchecked

__all__ = [
    "Poller",
    "aes",
    "asyncio_host",
    "clock",
    "open_serial",
    "status",
    "stream",
    "tls_context",
    "tls_server",
    "tls_unchecked",
]

clock = time
Poller = select.poll

_GET_FILENO = const(10)  # MP_STREAM_GET_FILENO, the request by which poll asks a stream for its descriptor
_CLOSE = const(4)  # MP_STREAM_CLOSE
_HUNG_UP = const(0x18)  # POLLERR | POLLHUP
_EINVAL = const(22)
_CBC = const(2)


def aes(key, iv):
    from cryptolib import aes

    return aes(key, _CBC, iv)


def status():
    free = gc.mem_free()
    return {"heap": free + gc.mem_alloc(), "heap_free": free}


def open_serial(path):
    return Serial(open(path, "r+b"))


class Serial(io.IOBase):
    """A terminal that never blocks, although MicroPython cannot open one so.

    `vmin` 0 makes a read return what is there at once, which leaves "nothing there" and "hung up" the
    same 0; poll tells them apart.
    """

    vmin = 0

    def __init__(self, file):
        self.fd = file.fileno()
        self._file = file
        self._poll = select.poll()
        self._poll.register(file, select.POLLIN)

    def ioctl(self, request, argument):
        if request == _GET_FILENO:
            return self.fd
        if request == _CLOSE:
            return 0
        return -_EINVAL

    def readinto(self, buf, n=-1):
        count = self._file.readinto(buf, n) if n >= 0 else self._file.readinto(buf)
        if count == 0:
            for _, events in self._poll.ipoll(0):
                if events & _HUNG_UP:
                    return 0
            return None
        return count

    def write(self, buf, off, n):
        return self._file.write(buf, off, n)

    def close(self):
        self._file.close()
