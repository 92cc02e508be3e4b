"""Waiting for connections, on all ports: what the internal MQTT broker needs of a port."""

import errno
import socket
import sys

_BACKLOG = 128  # all clients come at once when a gateway starts


class Listener:
    """Listens on `host` (the address of one interface) and `port`. OSError when it cannot.

    `stream` is to be watched for READ; `accept` then gives a new stream, or None when there is none. With a
    `context` of `Port.tls_server` it is one of TLS, whose handshake its reads and writes make.
    `port` is the number in use, for port 0 too (CPython only: MicroPython does not tell it).
    """

    def __init__(self, host, port, context=None):
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
        self._context = context
        if sys.implementation.name == "micropython":
            from motelet.ports.sockets import stream
        else:
            from motelet.ports.unix.cpython import stream

            self.port = self._sock.getsockname()[1]
        self.stream = stream(self._sock, None, None)
        self._wrap = stream

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
        return self._wrap(sock, self._context, None)

    def close(self):
        self.stream.close()
