"""SNTP (RFC 4330, RFC 5905): the time for a board whose clock was never set. Borrowed.

A certificate cannot be judged without the time, so servers are asked before the first link. Their answers
are not authenticated: they are taken only when the clock would else be wrong for sure, never to go back
behind what is known to be over, and the bridge has the last word. Without an answer the link is tried anyway.
"""

from motelet import borrow
from motelet.loop import READ, WRITE

SERVERS_MAX = 4
_PORT = 123
_SIZE = 48  # bytes of a message without extensions (RFC 4330 section 4)
_CLIENT = 0x23  # version 4, mode 3
_ANSWER_MS = 1000
_TRIES = 2  # per server: a datagram may be lost
_UNIX = 2208988800  # seconds from 1900 to 1970
_ERA = 1 << 32  # NTP's seconds start anew in 2036


def ask(hub, task):
    """A generator within `task`: set the clock by the first of config["sntp"] that answers.

    Servers are "host" or "host:port". Takes SERVERS_MAX * _TRIES * _ANSWER_MS at most, and what the names
    take to resolve. A board that has no network yet asks again before its next link.
    """
    servers = hub.config["sntp"][:SERVERS_MAX]
    asked = not servers
    for server in servers:
        host, _, port = str(server).partition(":")
        try:
            stream = hub.port.udp(host, int(port or _PORT))
        except (OSError, ValueError) as error:
            hub.log.warning("gateway", "no time", "server", server, "error", error)
            continue
        asked = True
        try:
            epoch_ms = yield from _exchange(hub, task, stream)
            if epoch_ms < hub.port.epoch_ms():
                raise ValueError("the time that server tells is over")
            borrow("wallclock").step(hub.port, hub.log, epoch_ms, "sntp")
            break
        except (OSError, ValueError) as error:
            hub.log.warning("gateway", "no time", "server", server, "error", error)
        finally:
            hub.loop.unwatch(stream)
            stream.close()
    if asked:
        del hub.config["sntp"]


def _exchange(hub, task, stream):
    # -> ms since 1970. OSError, ValueError.
    clock = hub.clock
    buf = bytearray(_SIZE)
    for _ in range(_TRIES):
        nonce = hub.port.random(8)
        request = bytearray(_SIZE)
        request[0] = _CLIENT
        request[40:] = nonce  # in the place of our time, which is no one's business (RFC 4330 section 5)
        sent = clock.ticks_ms()
        hub.loop.watch(stream, WRITE, task)
        while (
            stream.write(request, 0, _SIZE) is None and clock.ticks_diff(clock.ticks_ms(), sent) < _ANSWER_MS
        ):
            task.sleep(_ANSWER_MS)
            yield
        hub.loop.watch(stream, READ, task)
        while True:
            left = _ANSWER_MS - clock.ticks_diff(clock.ticks_ms(), sent)
            if left <= 0:
                break
            count = stream.readinto(buf)
            # What is not the answer to this request is nobody's (a late one, a guess).
            if count is not None and count >= _SIZE and buf[24:32] == nonce:
                return read(buf) + clock.ticks_diff(clock.ticks_ms(), sent) // 2
            task.sleep(left)
            yield
    raise OSError("no answer")


def read(buf):
    """-> ms since 1970 of a server's answer. ValueError when it has no time to tell (RFC 4330 section 5)."""
    leap, mode, stratum = buf[0] >> 6, buf[0] & 7, buf[1]
    if mode != 4 or leap == 3 or not 1 <= stratum <= 15:
        raise ValueError("server without the time: mode %d, leap %d, stratum %d" % (mode, leap, stratum))
    seconds = int.from_bytes(buf[40:44], "big")
    fraction = int.from_bytes(buf[44:48], "big")
    if not seconds:
        raise ValueError("server without the time: no timestamp")
    if seconds < _UNIX:
        seconds += _ERA
    return (seconds - _UNIX) * 1000 + (fraction * 1000 >> 32)
