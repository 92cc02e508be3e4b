"""MicroPython's half of the unix port: its sockets and its poll are what the interface asks for."""

import gc
import io
import select
import time

import tls
from micropython import const

clock = time
Poller = select.poll

_GET_FILENO = const(10)  # MP_STREAM_GET_FILENO, the request by which poll asks a stream for its descriptor
_CLOSE = const(4)  # MP_STREAM_CLOSE
_HUNG_UP = const(0x18)  # POLLERR | POLLHUP
_EINVAL = const(22)


def status():
    free = gc.mem_free()
    return {"heap": free + gc.mem_alloc(), "heap_free": free}


def tls_context(authorities, cert_der, key_der):
    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    # With CERT_REQUIRED the name is checked too. TLS 1.2 is the only version there is.
    context.verify_mode = tls.CERT_REQUIRED
    for ca in authorities:
        context.load_verify_locations(ca)
    if cert_der is not None:
        context.load_cert_chain(bytes(cert_der), bytes(key_der))
    return context


def tls_unchecked():
    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.verify_mode = tls.CERT_NONE
    return context


def stream(sock, context, server_name):
    if context is None:
        return sock
    # The handshake is made by the first writes and reads, once the connection is there.
    return context.wrap_socket(sock, server_hostname=server_name, do_handshake_on_connect=False)


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


def asyncio_host(loop):
    from motelet.aiohost import Host

    return Host(loop)
