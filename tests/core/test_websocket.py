"""websocket.Client: frames both ways, fragments, control frames, at every way the bytes can be cut up.

The answer to the request and what breaks the protocol are in test_websocket_refusals.py.
"""

from binascii import unhexlify

from motelet import wshandshake
from motelet.cbor import ARRAY, Writer
from motelet.websocket import CLOSE, MESSAGE, NEED_MORE, OPEN, PAYLOAD, PING, PONG, Client
from tests_util import heap_locked

# RFC 6455, 1.3: a key and what the server makes of it.
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
_ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: motelet.v1+cbor\r\n\r\n"
)
_MASK = b"\x37\xfa\x21\x3d"  # RFC 6455, 5.7


def opened(rx_size=1024, tx_size=200):
    client = Client(rx_size, tx_size)
    wshandshake.request(client, "bridge", "/motelet/v1", _KEY, "motelet.v1+cbor")
    give(client, _ANSWER)
    assert client.next() == OPEN
    return client


def give(client, data):
    room = client.room()
    assert len(room) >= len(data), "no room for what may come"
    room[: len(data)] = data
    client.fill += len(data)


def frame(first, payload):
    size = len(payload)
    if size < 126:
        return bytes([first, size]) + payload
    return bytes([first, 126, size >> 8, size & 255]) + payload


def events(client):
    """Everything there is, as (event, payload)."""
    found = []
    event = client.next()
    while event != NEED_MORE:
        payload = None if event == OPEN else bytes(client.rx[client.start : client.end])
        found.append((event, payload))
        event = client.next()
    return found


def sent(client):
    return bytes(client.tx[client.off : client.off + client.len])


def fill(client, payload):
    client.tx[PAYLOAD : PAYLOAD + len(payload)] = payload
    return len(payload)


def unmasked(data):
    """Opcode and payload of a frame that the client made."""
    assert data[0] & 0xF0 == 0x80 and data[1] & 0x80
    size = data[1] & 127
    at = 2
    if size == 126:
        size = data[2] << 8 | data[3]
        at = 4
    mask = data[at : at + 4]
    body = data[at + 4 :]
    assert len(body) == size
    return data[0] & 15, bytes([body[i] ^ mask[i & 3] for i in range(size)])


def test_the_request_is_that_of_the_rfc():
    client = Client(1024, 125)
    lines = wshandshake.request(
        client, "edge.example:8443", "/motelet/v1/n1?x=1", _KEY, "motelet.v1+cbor"
    ).split(b"\r\n")
    assert lines[0] == b"GET /motelet/v1/n1?x=1 HTTP/1.1"
    assert lines[-2:] == [b"", b""]
    assert sorted(lines[1:-2]) == [
        b"Connection: Upgrade",
        b"Host: edge.example:8443",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        b"Sec-WebSocket-Protocol: motelet.v1+cbor",
        b"Sec-WebSocket-Version: 13",
        b"Upgrade: websocket",
    ]


def test_a_frame_may_come_with_the_answer():
    client = Client(1024, 125)
    wshandshake.request(client, "bridge", "/motelet/v1", _KEY, "motelet.v1+cbor")
    assert client.next() == NEED_MORE
    give(client, _ANSWER + frame(0x82, b"first") + b"\x82")
    assert events(client) == [(OPEN, None), (MESSAGE, b"first")]


def test_names_of_fields_are_taken_in_any_case_and_values_with_any_space():
    client = Client(1024, 125)
    wshandshake.request(client, "bridge", "/motelet/v1", _KEY, "motelet.v1+cbor")
    give(
        client,
        b"HTTP/1.1 101\r\nUPGRADE:WebSocket\r\nconnection: keep-alive, upgrade \r\nServer: a: b\r\n"
        b"sec-websocket-ACCEPT:\ts3pPLMBiTxaQ9kYGzzhZRbK+xOo= \r\n"
        b"sec-websocket-protocol: motelet.v1+cbor\r\n\r\n",
    )
    assert events(client) == [(OPEN, None)]


def test_the_frames_of_the_rfc_are_received():
    client = opened()
    # 5.7, with the opcode of a binary message: whole, in two fragments, a ping, 256 bytes.
    give(client, unhexlify("820548656c6c6f" + "020348656c" + "80026c6f" + "890548656c6c6f") + b"\x8a\x00")
    assert events(client) == [(MESSAGE, b"Hello"), (MESSAGE, b"Hello"), (PING, b"Hello"), (PONG, b"")]
    give(client, unhexlify("827e0100") + b"x" * 256)
    assert events(client) == [(MESSAGE, b"x" * 256)]


def test_the_masked_frames_of_the_rfc_are_sent():
    client = opened()
    client.frame(PONG, fill(client, b"Hello"), _MASK)
    assert sent(client) == unhexlify("8a8537fa213d7f9f4d5158")
    client.frame(MESSAGE, fill(client, b"Hello"), bytearray(_MASK))
    assert sent(client) == unhexlify("828537fa213d7f9f4d5158")


def test_frames_of_every_size_can_be_sent():
    client = opened(tx_size=300)
    for size in list(range(10)) + [124, 125, 126, 127, 255, 256, 299, 300]:
        payload = bytes([i * 7 & 255 for i in range(size)])
        for opcode in (MESSAGE, PING):
            client.frame(opcode, fill(client, payload), b"\x01\x80\x00\xff")
            assert unmasked(sent(client)) == (opcode, payload)
            assert client.len == size + (6 if size < 126 else 8)


def test_the_largest_message_can_be_sent():
    client = Client(1024, 40000)
    client.frame(MESSAGE, 40000, b"\x05\x06\x07\x08")
    assert client.off == 0 and client.len == 40008
    assert client.tx[:8] == b"\x82\xfe\x9c\x40\x05\x06\x07\x08" and client.tx[40004:] == b"\x05\x06\x07\x08"


def test_a_ping_is_answered_with_its_payload():
    client = opened(tx_size=125)
    for payload in (b"", b"a", b"abcde" * 25):
        give(client, frame(0x89, payload))
        assert client.next() == PING
        client.pong(_MASK)
        assert unmasked(sent(client)) == (PONG, payload)
        assert client.next() == NEED_MORE


def test_a_closing_frame_has_a_code_and_as_much_of_the_reason_as_fits():
    client = opened(tx_size=125)
    wshandshake.close(client, 1000, "", _MASK)
    assert unmasked(sent(client)) == (CLOSE, b"\x03\xe8")
    wshandshake.close(client, 1002, "why", _MASK)
    assert unmasked(sent(client)) == (CLOSE, b"\x03\xeawhy")
    wshandshake.close(client, 4001, "a" + "\u00e9" * 100, _MASK)
    assert unmasked(sent(client)) == (CLOSE, b"\x0f\xa1a" + "\u00e9".encode() * 61)
    wshandshake.close(client, 4001, "x" * 123, _MASK)
    assert unmasked(sent(client)) == (CLOSE, b"\x0f\xa1" + b"x" * 123)
    assert len(client.tx) == PAYLOAD + 128


def test_a_closing_frame_is_understood():
    for payload, code, reason in (
        (b"", 1005, ""),
        (b"\x03\xe8", 1000, ""),
        (b"\x0f\xa1no version", 4001, "no version"),
        (b"\x03\xf3" + "tsch\u00fc\u00df".encode(), 1011, "tsch\u00fc\u00df"),
    ):
        client = opened()
        give(client, frame(0x88, payload))
        assert client.next() == CLOSE
        assert (client.code, client.reason) == (code, reason)
        assert client.next() == NEED_MORE


def test_every_close_code_that_may_be_sent_is_taken():
    for code in (1000, 1003, 1007, 1014, 3000, 4999):
        client = opened()
        give(client, frame(0x88, bytes([code >> 8, code & 255])))
        assert client.next() == CLOSE and client.code == code


_STREAM = (
    frame(0x82, b"one")
    + frame(0x02, b"fr")
    + frame(0x89, b"ping")
    + frame(0x00, b"")
    + frame(0x00, b"agm")
    + frame(0x8A, b"")
    + frame(0x80, b"ents")
    + frame(0x82, b"")
    + frame(0x02, b"")
    + frame(0x80, b"")
    + frame(0x82, b"x" * 130)
    + frame(0x02, b"y" * 126)
    + frame(0x80, b"z" * 200)
    + frame(0x88, b"\x03\xe8bye")
)
_EVENTS = [
    (MESSAGE, b"one"),
    (PING, b"ping"),
    (PONG, b""),
    (MESSAGE, b"fragments"),
    (MESSAGE, b""),
    (MESSAGE, b""),
    (MESSAGE, b"x" * 130),
    (MESSAGE, b"y" * 126 + b"z" * 200),
    (CLOSE, b"\x03\xe8bye"),
]


def test_a_stream_cut_at_any_byte_gives_the_same_events():
    whole = _ANSWER + _STREAM
    client = Client(1024, 125)
    for cut in range(1, len(whole)):
        wshandshake.request(client, "bridge", "/motelet/v1", _KEY, "motelet.v1+cbor")
        give(client, whole[:cut])
        found = events(client)
        give(client, whole[cut:])
        assert found + events(client) == [(OPEN, None)] + _EVENTS, cut


def test_a_stream_in_pieces_of_any_size_gives_the_same_events():
    whole = _ANSWER + _STREAM
    client = Client(1024, 125)
    for size in (1, 2, 3, 5, 7, 11, 64, 129, 300):
        wshandshake.request(client, "bridge", "/motelet/v1", _KEY, "motelet.v1+cbor")
        found = []
        for at in range(0, len(whole), size):
            give(client, whole[at : at + size])
            found.extend(events(client))
        assert found == [(OPEN, None)] + _EVENTS, size
        assert (client.code, client.reason) == (1000, "bye")


def test_there_is_room_for_the_largest_message_in_any_form():
    payload = bytes([i * 13 & 255 for i in range(1024)])
    whole = frame(0x82, payload)
    many = b""
    for at in range(0, 1024, 100):
        many += frame(0x02 if at == 0 else 0x80 if at == 1000 else 0, payload[at : at + 100])
        many += frame(0x89, b"p" * 125)
    late = frame(0x02, payload) + frame(0x89, b"p" * 125) + frame(0x00, b"") + frame(0x80, b"")
    client = opened()
    for data in (whole, many, late, whole + late + many):
        for size in (1, 97, 1000):
            found = []
            at = 0
            while at < len(data):
                room = client.room()
                count = min(len(room), size, len(data) - at)
                assert count, "no room to go on"
                room[:count] = data[at : at + count]
                client.fill += count
                at += count
                found.extend(events(client))
            messages = [body for event, body in found if event == MESSAGE]
            assert messages == [payload] * (1 if len(data) < 2900 else 3)
            assert all(body == b"p" * 125 for event, body in found if event == PING)


def test_a_lost_connection_leaves_nothing_behind():
    client = opened()
    give(client, frame(0x02, b"half a message") + b"\x80\x7e\x01")
    assert events(client) == []
    wshandshake.request(client, "bridge", "/motelet/v1", _KEY, "motelet.v1+cbor")
    give(client, _ANSWER + frame(0x82, b"new"))
    assert events(client) == [(OPEN, None), (MESSAGE, b"new")]


def test_an_exchange_of_messages_allocates_nothing():
    client = opened(2432, 200)
    assert client.next() == NEED_MORE
    writer = Writer(client.tx)
    mask = bytearray(_MASK)
    incoming = frame(0x82, b"\x82\x05\x19\x01\x00") + frame(0x89, b"beat") + frame(0x82, b"v" * 2000)

    def arrive():
        rx = client.room()
        n = len(incoming)
        rx[:n] = incoming
        client.fill += n

    def exchange():
        arrive()
        assert client.next() == MESSAGE and client.end - client.start == 5
        assert client.next() == PING
        client.pong(mask)
        assert client.next() == MESSAGE and client.end - client.start == 2000
        writer.n = PAYLOAD
        writer.head(ARRAY, 5)
        writer.value(13)
        writer.value(900)
        writer.value(1)
        writer.value(21.5)
        writer.value(1790000000123)
        client.frame(MESSAGE, writer.n - PAYLOAD, mask)
        assert client.next() == NEED_MORE
        assert client.room() is client.rx
        client.frame(PING, 0, mask)

    for _ in range(3):
        heap_locked(exchange)
    assert unmasked(sent(client)) == (PING, b"")
