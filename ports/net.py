"""Addresses and connections, the part that all ports have in common.

`getaddrinfo` is one of the two calls that block (the TLS handshake is the other): its answers are
kept, and an old answer is better than none.
"""

import errno
import socket

from micropython import const

ADDRESSES_MAX = const(8)
ADDRESS_LIFE_MS = const(60000)

DATAGRAMS = socket.SOCK_DGRAM

_TCP = const(6)  # IPPROTO_TCP and TCP_NODELAY, which MicroPython's socket module does not name
_NODELAY = const(1)


class Addresses:
    """What names resolve to, for ADDRESS_LIFE_MS and for ADDRESSES_MAX names at once.

    `resolve` is `socket.getaddrinfo` or a function like it.
    """

    def __init__(self, clock, resolve=socket.getaddrinfo):
        self._clock = clock
        self._resolve = resolve
        self._entries = {}  # (host, port): [good until, turn, answers of getaddrinfo]

    def next(self, host, port):
        """The next address of `host` as (family, sockaddr): each in turn, so that a dead one is not the end.

        OSError when the name does not resolve and never did.
        """
        now = self._clock.ticks_ms()
        entry = self._entries.get((host, port))
        if entry is None or self._clock.ticks_diff(entry[0], now) <= 0:
            entry = self._renew(host, port, entry)
        answer = entry[2][entry[1] % len(entry[2])]
        entry[1] += 1
        return answer[0], answer[4]

    def _renew(self, host, port, entry):
        try:
            answers = self._resolve(host, port, 0, socket.SOCK_STREAM)
            if entry is None:
                if len(self._entries) >= ADDRESSES_MAX:
                    self._entries.clear()
                entry = self._entries[(host, port)] = [0, 0, answers]
            entry[2] = answers
        except OSError:
            # The resolver is down more often than a server moves.
            if entry is None:
                raise
        entry[0] = self._clock.ticks_add(self._clock.ticks_ms(), ADDRESS_LIFE_MS)
        return entry


def connect(address, kind=socket.SOCK_STREAM):
    """Start to connect to `address`, a pair (family, sockaddr), and return the non-blocking socket.

    Of `kind` DATAGRAMS each write is a datagram, and only those of `address` are read.

    OSError when the attempt fails at once.
    """
    sock = socket.socket(address[0], kind)
    try:
        sock.setblocking(False)
        if kind != DATAGRAMS:
            sock.setsockopt(_TCP, _NODELAY, 1)
        sock.connect(address[1])
    except OSError as exc:
        if exc.errno != errno.EINPROGRESS:
            sock.close()
            raise
    return sock
