"""Waiting for connections, on all ports: what the internal MQTT broker needs of a port."""

import errno
import socket
import sys

_BACKLOG = 8


class Listener:
    """Listens on `host` (the address of one interface) and `port`. OSError when it cannot.

    `stream` is to be watched for READ; `accept` then gives a new stream, or None when there is none.
    `port` is the number in use, for port 0 too (CPython only: MicroPython does not tell it).
    """

    def __init__(self, host, port):
        self._sock = socket.socket()
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._sock.bind(socket.getaddrinfo(host, port)[0][-1])
            self._sock.listen(_BACKLOG)
            self._sock.setblocking(False)
        except OSError:
            self._sock.close()
            raise
        self.port = port
        if sys.implementation.name == "micropython":
            self.stream = self._sock
            self._wrap = _raw
        else:
            from motelet.ports.unix.cpython import Stream

            self.port = self._sock.getsockname()[1]
            self.stream = Stream(self._sock)
            self._wrap = Stream

    def accept(self):
        """-> a stream, None when nobody waits (any more). OSError when the platform is out of sockets."""
        try:
            sock = self._sock.accept()[0]
        except OSError as exc:
            if exc.errno in (errno.EAGAIN, errno.ECONNABORTED):
                return None
            raise
        sock.setblocking(False)
        sock.setsockopt(6, 1, 1)  # TCP_NODELAY, which MicroPython has no names for
        return self._wrap(sock)

    def close(self):
        self.stream.close()


def _raw(sock):
    return sock
