"""sntp: the time from a server, over real datagrams on loopback, before the first link."""

import errno
import os
import socket

from motelet import sntp
from motelet.loop import Loop
from motelet.ports.unix import Port
from tests_util import raises

HOST = "127.0.0.1"
THEN = 1900000000500  # what the server tells
BUILT = 1750000000000
WAIT_MS = 10000  # a bound for a test that would hang


def answer(request, epoch_ms=THEN, stratum=2, leap=0, mode=4):
    """A server's answer to `request` (RFC 4330 section 4)."""
    reply = bytearray(48)
    reply[0] = leap << 6 | 4 << 3 | mode
    reply[1] = stratum
    reply[24:32] = request[40:48]
    seconds = epoch_ms // 1000 + 2208988800
    reply[40:44] = (seconds & 0xFFFFFFFF).to_bytes(4, "big")
    reply[44:48] = (((epoch_ms % 1000) << 32) // 1000).to_bytes(4, "big")
    return reply


class Server:
    """Answers each datagram with what `replies` make of it, one after another; then it is silent."""

    def __init__(self, *replies):
        self.replies = list(replies)
        self.requests = []
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        while True:
            self.port = 20000 + int.from_bytes(os.urandom(2), "big") % 12000
            try:
                self.sock.bind(socket.getaddrinfo(HOST, self.port)[0][-1])
                break
            except OSError as exc:
                if exc.errno != errno.EADDRINUSE:
                    raise
        self.name = "%s:%d" % (HOST, self.port)

    def serve(self):
        try:
            request, sender = self.sock.recvfrom(64)
        except OSError as exc:
            if exc.errno != errno.EAGAIN:
                raise
            return
        self.requests.append(request)
        if self.replies:
            for reply in self.replies.pop(0)(request):
                self.sock.sendto(reply, sender)


class Board(Port):
    """The hub, the log and the platform that `sntp` sees; its clock stands."""

    def __init__(self, *servers):
        super().__init__()
        self.port = self.log = self
        self.loop = Loop(self.clock, self.poller(), None)
        self.config = {"sntp": list(servers)}
        self.now = BUILT
        self.lines = []

    def epoch_ms(self):
        return self.now

    def set_time(self, epoch_ms):
        self.now = epoch_ms

    def info(self, module, text, *pairs):
        self.lines.append((text,) + pairs)

    warning = info

    def run(self, *servers):
        """Ask, while `servers` serve."""
        done = []

        def task(task):
            yield from sntp.ask(self, task)
            done.append(True)

        self.loop.spawn("sntp", task)
        began = self.clock.ticks_ms()
        while not done:
            for server in servers:
                server.serve()
            self.loop.step(1)
            assert self.clock.ticks_diff(self.clock.ticks_ms(), began) < WAIT_MS
        for server in servers:
            server.sock.close()


def test_the_clock_is_set_by_a_server():
    server = Server(lambda request: [answer(request)])
    board = Board(server.name)
    board.run(server)
    assert THEN <= board.now < THEN + WAIT_MS
    assert "sntp" not in board.config
    request = server.requests[0]
    assert len(request) == 48 and request[0] == 0x23 and request[1:40] == bytes(39)
    assert [line[:3] for line in board.lines] == [("clock set", "source", "sntp")]


def test_a_datagram_may_be_lost():
    server = Server(lambda request: [], lambda request: [answer(request)])
    board = Board(server.name)
    board.run(server)
    assert THEN <= board.now and len(server.requests) == 2
    assert server.requests[0][40:] != server.requests[1][40:]


def test_an_answer_to_another_request_is_none():
    forged = bytes(8)
    server = Server(lambda request: [answer(bytes(40) + forged, THEN + 9 * 10**9), answer(request)])
    board = Board(server.name)
    board.run(server)
    assert THEN <= board.now < THEN + WAIT_MS


def test_servers_are_asked_in_turn():
    kiss = Server(lambda request: [answer(request, stratum=0)])
    early = Server(lambda request: [answer(request, BUILT - 1)])
    good = Server(lambda request: [answer(request)])
    board = Board(kiss.name, early.name, "no such name.invalid", "host:port", good.name)
    sntp_max = sntp.SERVERS_MAX
    assert sntp_max == 4
    board.run(kiss, early, good)
    assert board.now == BUILT  # the fifth is one too many
    assert len(board.lines) == 4 and not good.requests
    assert "sntp" not in board.config  # two answered: the link is tried anyway


def test_a_board_without_network_asks_again():
    board = Board("no such name.invalid")
    board.run()
    assert board.config["sntp"] and board.now == BUILT


def test_no_servers_is_no_question():
    board = Board()
    board.run()
    assert "sntp" not in board.config and not board.lines


def test_what_an_answer_must_have():
    request = bytes(range(48))
    assert sntp.read(answer(request)) == THEN
    late = 2100000000000  # NTP's second era
    assert sntp.read(answer(request, late)) == late
    raises(ValueError, sntp.read, answer(request, mode=3))
    raises(ValueError, sntp.read, answer(request, leap=3))
    raises(ValueError, sntp.read, answer(request, stratum=0))
    raises(ValueError, sntp.read, answer(request, stratum=16))
    silent = answer(request)
    silent[40:44] = bytes(4)
    raises(ValueError, sntp.read, silent)
