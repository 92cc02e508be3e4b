"""What websocket.Client refuses: wrong answers to its request, frames that break RFC 6455, too large ones."""

from motelet import wshandshake
from motelet.websocket import (
    ANSWER_SIZE_MAX,
    MESSAGE,
    NEED_MORE,
    OPEN,
    PING,
    SIZE_MAX,
    Client,
    WebSocketError,
)
from tests_util import raises

_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
_ACCEPT = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
_UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
_PROTOCOL = b"Sec-WebSocket-Protocol: motelet.v1+cbor\r\n"
_STATUS = b"HTTP/1.1 101 Switching Protocols\r\n"
_ANSWER = _STATUS + _UPGRADE + _ACCEPT + _PROTOCOL


def asked(answer, rx_size=1024):
    client = Client(rx_size, 125)
    wshandshake.request(client, "bridge", "/motelet/v1", _KEY, "motelet.v1+cbor")
    give(client, answer)
    return client


def opened(data=b"", rx_size=1024):
    client = asked(_ANSWER + b"\r\n", rx_size)
    assert client.next() == OPEN
    give(client, data)
    return client


def give(client, data):
    room = client.room()
    assert len(room) >= len(data)
    room[: len(data)] = data
    client.fill += len(data)


def refused(client, code):
    """Asking what came raises the error with `code`; returns its reason."""
    error = raises(WebSocketError, client.next)
    assert isinstance(error, ValueError) and error.args[0] == code, error
    return error.args[1]


def test_buffers_have_a_size_that_works():
    for rx_size, tx_size in (
        (ANSWER_SIZE_MAX - 1, 125),
        (SIZE_MAX + 1, 125),
        (1024, 124),
        (1024, SIZE_MAX + 1),
    ):
        raises(ValueError, Client, rx_size, tx_size)
    assert len(Client(ANSWER_SIZE_MAX, 126).tx) == 8 + 128


def test_a_request_cannot_be_split_by_its_parts():
    client = Client(1024, 125)
    good = ("bridge", "/motelet/v1", _KEY, "motelet.v1+cbor")
    for i in range(4):
        for space in (" ", "\r\nX: y", "\n", "\t"):
            parts = list(good)
            parts[i] += space + "z"
            raises(ValueError, wshandshake.request, client, *parts)


def test_a_wrong_answer_is_refused():
    for answer, word in (
        (b"HTTP/1.1 403 Forbidden\r\n" + _UPGRADE + _ACCEPT + _PROTOCOL, "403"),
        (b"HTTP/1.1 200 OK\r\n" + _UPGRADE + _ACCEPT + _PROTOCOL, "200"),
        (b"HTTP/1.0 101 Switching Protocols\r\n" + _UPGRADE + _ACCEPT + _PROTOCOL, "answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
        (b"", "answer"),
        (b"\xff\xfe 101 \xff\r\n", "answer"),
        (_STATUS + _UPGRADE + _PROTOCOL, "does not fit"),
        (
            _STATUS + _UPGRADE + _PROTOCOL + b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n",
            "fit",
        ),
        (_STATUS + _UPGRADE + _PROTOCOL + _ACCEPT + _ACCEPT.replace(b"s3p", b"S3P"), "does not fit"),
        (_STATUS + _ACCEPT + _PROTOCOL + b"Connection: Upgrade\r\n", "does not fit"),
        (_STATUS + _ACCEPT + _PROTOCOL + b"Connection: Upgrade\r\nUpgrade: h2c\r\n", "does not fit"),
        (_STATUS + _ACCEPT + _PROTOCOL + b"Connection: close\r\nUpgrade: websocket\r\n", "does not fit"),
        (_STATUS + _ACCEPT + _PROTOCOL + b"Upgrade: websocket\r\n", "does not fit"),
        (_STATUS + _UPGRADE + _ACCEPT, "subprotocol"),
        (_STATUS + _UPGRADE + _ACCEPT + b"Sec-WebSocket-Protocol: mqtt\r\n", "subprotocol"),
        (
            _STATUS + _UPGRADE + _ACCEPT + _PROTOCOL + b"Sec-WebSocket-Extensions: permessage-deflate\r\n",
            "fit",
        ),
    ):
        assert word in refused(asked(answer + b"\r\n" if answer else b"\r\n\r\n"), 1002), answer


def test_a_long_status_line_is_not_quoted_in_full():
    assert len(refused(asked(b"HTTP/1.1 500 " + b"x" * 900 + b"\r\n\r\n"), 1002)) < 100


def test_an_answer_without_an_end_is_refused_at_its_limit():
    client = asked(_ANSWER, 2000)
    assert client.next() == NEED_MORE
    line = b"X: " + b"y" * 95 + b"\r\n"
    size = len(_ANSWER)
    while size + len(line) < ANSWER_SIZE_MAX + 4:
        give(client, line)
        size += len(line)
        assert client.next() == NEED_MORE
    give(client, line)
    assert "long" in refused(client, 1009)


def test_an_answer_is_taken_up_to_its_limit_and_not_a_byte_more():
    room = ANSWER_SIZE_MAX - len(_ANSWER) - 3
    for more in (0, 1):
        answer = _ANSWER + b"X: " + b"y" * (room + more) + b"\r\n\r\n"
        # With a frame behind it, so that the end lies within what came.
        client = asked(answer + b"\x8a\x00", 1200)
        if more:
            refused(client, 1009)
        else:
            assert client.next() == OPEN
        client = asked(answer[:-1])
        if more:
            refused(client, 1009)
        else:
            assert client.next() == NEED_MORE
            give(client, b"\n")
            assert client.next() == OPEN


def test_an_answer_one_byte_at_a_time_is_refused_before_the_room_ends():
    client = asked(b"")
    for _ in range(ANSWER_SIZE_MAX + 3):
        give(client, b"x")
        assert client.next() == NEED_MORE
    give(client, b"x")
    refused(client, 1009)


def test_frames_that_break_the_protocol_are_refused():
    for data, code, word in (
        (b"\xc2\x00", 1002, "header"),  # bits of extensions
        (b"\xa2\x00", 1002, "header"),
        (b"\x92\x00", 1002, "header"),
        (b"\x82\x80\0\0\0\0", 1002, "header"),
        (b"\x89\x81\0\0\0\0a", 1002, "header"),
        (b"\x83\x00", 1002, "header"),
        (b"\x87\x00", 1002, "header"),
        (b"\x8b\x00", 1002, "header"),
        (b"\x8f\x00", 1002, "header"),
        (b"\x09\x00", 1002, "header"),  # fragmented
        (b"\x08\x00", 1002, "header"),
        (b"\x89\x7e\x00\x7e", 1002, "header"),  # longer than 125
        (b"\x8a\x7f", 1002, "header"),
        (b"\x80\x00", 1002, "header"),  # the rest of nothing
        (b"\x00\x00", 1002, "header"),
        (b"\x02\x00\x82\x00", 1002, "header"),  # a message within another
        (b"\x02\x00\x02\x00", 1002, "header"),
        (b"\x81\x05Hello", 1003, "text"),
        (b"\x01\x05Hello", 1003, "text"),
        (b"\x82\x7e\x00\x7d", 1002, "length"),  # 16 bits for 125
        (b"\x82\x7e\x00\x00", 1002, "length"),
        (b"\x88\x01\x03", 1002, "close code"),
        (b"\x88\x01\x03\xe8", 1002, "close code"),  # half a code, and what would be its other half behind it
    ):
        assert word in refused(opened(data), code), data
        client = opened(data[:1])
        assert client.next() == NEED_MORE
        give(client, data[1:])
        assert word in refused(client, code), data


def test_close_codes_that_may_not_be_sent_are_refused():
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535):
        assert str(code) in refused(opened(b"\x88\x02" + bytes([code >> 8, code & 255])), 1002)


def test_a_close_reason_that_is_not_utf8_is_refused():
    for reason in (b"\xff", b"ab\xc3", b"\x80"):
        data = bytes([0x88, 2 + len(reason)]) + b"\x03\xe8" + reason
        assert "UTF-8" in refused(opened(data), 1007)


def test_a_message_larger_than_the_buffer_is_refused_at_its_head():
    for data in (
        b"\x82\x7e\x04\x01",  # 1025
        b"\x82\x7e\xff\xff",
        b"\x82\x7f",  # the 64 bits are not waited for
        b"\x82\x7f\0\0\0\0\0\x01\0\0",
        b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x82\x7f\0\0\0\0\0\0\0\x01",
        b"\x02\x01x\x80\x7e\x04\x00",
        b"\x02\x7d" + b"x" * 125 + b"\x00\x7e\x02\x00" + b"y" * 512 + b"\x80\x7e\x01\x84",  # 125 + 512 + 388
        b"\x02\x00\x00\x7e\x04\x01",
    ):
        assert "too big" in refused(opened(data), 1009), data
    assert opened(b"\x82\x7e\x04\x00").next() == NEED_MORE
    client = opened(
        b"\x02\x7d" + b"x" * 125 + b"\x00\x7e\x02\x00" + b"y" * 512 + b"\x80\x7e\x01\x83" + b"z" * 300
    )
    assert client.next() == NEED_MORE
    give(client, b"z" * 87 + b"\x89\x01p")
    assert client.next() == MESSAGE and client.end - client.start == 1024
    assert client.next() == PING
    # The limit is for each message on its own.
    give(client, b"\x82\x7e\x04\x00")
    assert client.next() == NEED_MORE
