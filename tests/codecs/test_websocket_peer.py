"""websocket.Client over real sockets, with the server that CloudHub is made of at the other end.

What a good server never does, the handler writes past the library, straight to its socket.
"""

import os
import queue
import socket
import threading
from base64 import b64encode
from contextlib import contextmanager, suppress

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.sync.server import serve

from motelet import wshandshake
from motelet.websocket import (
    ANSWER_SIZE_MAX,
    CLOSE,
    MESSAGE,
    NEED_MORE,
    OPEN,
    PAYLOAD,
    PING,
    PONG,
    SIZE_MAX,
    Client,
    WebSocketError,
)

SUBPROTOCOL = "motelet.v1+cbor"
DEADLINE_S = 60  # for a test that would hang


@contextmanager
def server(handler, **options):
    """A websockets server on a port of its own; yields the port."""
    options = {"subprotocols": [SUBPROTOCOL], "close_timeout": DEADLINE_S} | options
    with serve(handler, "127.0.0.1", 0, **options) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield running.socket.getsockname()[1]
        finally:
            running.shutdown()
            thread.join()


class Link:
    """A Client with a blocking socket, read in pieces of at most `chunk` bytes."""

    def __init__(self, port, rx_size=4096, tx_size=4096, chunk=65536):
        self.client = Client(rx_size, tx_size)
        self.chunk = chunk
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        key = b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            wshandshake.request(self.client, f"127.0.0.1:{port}", "/motelet/v1", key, SUBPROTOCOL)
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def next(self):
        """The next event and its payload; (None, b"") at the end of the stream."""
        client = self.client
        while (event := client.next()) == NEED_MORE:
            room = client.room()
            count = self.socket.recv_into(room, min(len(room), self.chunk))
            if not count:
                return None, b""
            client.fill += count
        return event, bytes(client.rx[client.start : client.end])

    def opened(self):
        assert self.next()[0] == OPEN
        return self

    def send(self, opcode, payload):
        self.client.tx[PAYLOAD : PAYLOAD + len(payload)] = payload
        self.client.frame(opcode, len(payload), os.urandom(4))
        self.flush()

    def flush(self):
        client = self.client
        self.socket.sendall(memoryview(client.tx)[client.off : client.off + client.len])


def echo(connection):
    for message in connection:
        connection.send(message)


def raw(data):
    """A handler that writes `data` past the library and then waits for what the client says to it."""

    def handler(connection):
        connection.socket.sendall(data)
        for _ in connection:
            raise AssertionError("a message after that")

    return handler


SIZES = [0, 1, 2, 3, 4, 5, 124, 125, 126, 127, 128, 255, 256, 4095, 4096, 65533, 65534, SIZE_MAX]


@pytest.mark.parametrize("chunk", [1000, 65536])
def test_messages_of_every_size_come_back_as_they_were(chunk):
    with server(echo) as port, Link(port, SIZE_MAX, SIZE_MAX, chunk).opened() as link:
        for size in SIZES:
            payload = os.urandom(size)
            link.send(MESSAGE, payload)
            assert link.next() == (MESSAGE, payload)


@pytest.mark.parametrize("chunk", [1, 3, 65536])
def test_fragments_with_pings_between_them_make_one_message(chunk):
    seen = queue.SimpleQueue()

    def handler(connection):
        def pieces():
            for i in range(5):
                pongs.append(connection.ping(f"between {i}"))
                yield bytes([i]) * (i * 100)

        pongs = []
        connection.send(pieces())
        connection.send(b"whole")
        seen.put([pong.wait(DEADLINE_S) for pong in pongs])

    with server(handler) as port, Link(port, 1024, chunk=chunk).opened() as link:
        found = []
        while (event := link.next())[0] != CLOSE:
            found.append(event)
            if event[0] == PING:
                link.client.pong(os.urandom(4))
                link.flush()
        pings = [body for kind, body in found if kind == PING]
        assert pings == [b"between %d" % i for i in range(5)]
        messages = [body for kind, body in found if kind == MESSAGE]
        assert messages == [b"".join(bytes([i]) * (i * 100) for i in range(5)), b"whole"]
        assert found[-1] == (MESSAGE, b"whole") and len(found) == 7
        assert seen.get(timeout=DEADLINE_S) == [True] * 5


def test_a_ping_from_the_board_is_answered():
    with server(echo) as port, Link(port).opened() as link:
        for payload in (b"", b"beat", b"x" * 125):
            link.send(PING, payload)
            assert link.next() == (PONG, payload)


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (4001, "no version in common"), (1011, "größer " * 13)]
)
def test_the_server_closes(code, reason):
    with server(lambda connection: connection.close(code, reason)) as port, Link(port).opened() as link:
        assert link.next()[0] == CLOSE
        assert (link.client.code, link.client.reason) == (code, reason)
        wshandshake.close(link.client, 1000, "", os.urandom(4))
        link.flush()
        assert link.next() == (None, b"")


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (4321, "bye"), (1002, "frame header 82 80")])
def test_the_board_closes(code, reason):
    seen = queue.SimpleQueue()

    def handler(connection):
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv()
        seen.put((closed.value.rcvd.code, closed.value.rcvd.reason))

    with server(handler) as port, Link(port).opened() as link:
        wshandshake.close(link.client, code, reason, os.urandom(4))
        link.flush()
        assert link.next()[0] == CLOSE
        assert link.client.code == code
        assert link.next() == (None, b"")
    assert seen.get(timeout=DEADLINE_S) == (code, reason)


def test_a_message_too_big_for_the_server_closes_the_link():
    with server(echo, max_size=1000) as port, Link(port).opened() as link:
        link.send(MESSAGE, b"x" * 1001)
        assert link.next()[0] == CLOSE
        assert link.client.code == 1009


@pytest.mark.parametrize("message", [b"x" * 1025, b"x" * 70000, [b"x" * 512, b"x" * 512, b"x"]])
def test_a_message_too_big_for_the_board_is_refused_and_the_server_told(message):
    seen = queue.SimpleQueue()

    def handler(connection):
        with suppress(ConnectionClosed):
            connection.send(message)  # of which the last part may come after the board has closed
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv()
        seen.put(closed.value.rcvd.code)

    with server(handler) as port, Link(port, 1024).opened() as link:
        with pytest.raises(WebSocketError) as error:
            link.next()
        assert error.value.args[0] == 1009
        wshandshake.close(link.client, error.value.args[0], error.value.args[1], os.urandom(4))
        link.flush()
        while link.socket.recv(65536):  # what the server had under way, and its own closing frame
            continue
    assert seen.get(timeout=DEADLINE_S) == 1009


def test_text_is_refused():
    with server(lambda connection: connection.send("text")) as port, Link(port).opened() as link:
        with pytest.raises(WebSocketError) as error:
            link.next()
        assert error.value.args[0] == 1003


def frame(opcode, data, fin=True, mask=False):
    return Frame(opcode, data, fin).serialize(mask=mask)


@pytest.mark.parametrize("chunk", [1, 65536])
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x82\x81\1\2\3\4m", 1002),  # masked
        (b"\x89\x80\1\2\3\4", 1002),  # the same, with nothing in it
        (b"\xc2\x00", 1002),
        (b"\xa2\x00", 1002),
        (b"\x92\x00", 1002),
        (b"\x83\x00", 1002),
        (b"\x8b\x00", 1002),
        (b"\x09\x00", 1002),
        (frame(Opcode.CONT, b"of nothing"), 1002),
        (frame(Opcode.BINARY, b"a", fin=False) + frame(Opcode.BINARY, b"b"), 1002),
        (frame(Opcode.CLOSE, b"\x03"), 1002),
        (frame(Opcode.CLOSE, b"\x03\xee"), 1002),
        (frame(Opcode.CLOSE, b"\x03\xe8 \xff"), 1007),
        (b"\x82\x7f" + b"\xff" * 8, 1009),
        (b"\x82\x7f\0\0\0\x01\0\0\0\0", 1009),
        (b"\x82\x7e\xff\xff", 1009),
    ],
)
def test_a_server_that_breaks_the_protocol_is_refused(data, code, chunk):
    with server(raw(data)) as port, Link(port, chunk=chunk).opened() as link:
        with pytest.raises(WebSocketError) as error:
            link.next()
        assert error.value.args[0] == code
        # The server understands the frame that tells it so.
        wshandshake.close(link.client, code, error.value.args[1], os.urandom(4))
        link.flush()
        while link.socket.recv(65536):
            continue


def changed(**fields):
    """A hook of the server that sets fields of its answer, or takes them out (None)."""

    def hook(_connection, _request, response):
        for name, value in fields.items():
            response.headers.pop(name.replace("_", "-"), None)
            if value is not None:
                response.headers[name.replace("_", "-")] = value

    return hook


@pytest.mark.parametrize("chunk", [1, 65536])
@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"Sec_WebSocket_Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}, 1002),
        ({"Sec_WebSocket_Accept": None}, 1002),
        ({"Sec_WebSocket_Protocol": None}, 1002),
        ({"Sec_WebSocket_Protocol": "motelet.v2+cbor"}, 1002),
        ({"Sec_WebSocket_Extensions": "permessage-deflate"}, 1002),
        ({"Upgrade": "h2c"}, 1002),
        ({"Connection": "close"}, 1002),
        ({"X_Flood": "y" * ANSWER_SIZE_MAX}, 1009),
        ({f"X_{i}": "y" for i in range(1000)}, 1009),
    ],
)
def test_a_wrong_answer_is_refused(fields, code, chunk):
    with server(echo, process_response=changed(**fields)) as port, Link(port, chunk=chunk) as link:
        with pytest.raises(WebSocketError) as error:
            link.next()
        assert error.value.args[0] == code


def test_a_server_that_refuses_is_quoted():
    def forbid(connection, _request):
        return connection.respond(403, "certificate revoked\n")

    with server(echo, process_request=forbid) as port, Link(port) as link:
        with pytest.raises(WebSocketError, match=r"HTTP/1\.1 403 Forbidden"):
            link.next()


def test_a_stream_that_ends_says_so():
    def cut(connection):
        connection.socket.sendall(b"\x82\x05ab")
        connection.socket.shutdown(socket.SHUT_RDWR)

    with server(cut) as port, Link(port).opened() as link:
        assert link.next() == (None, b"")
