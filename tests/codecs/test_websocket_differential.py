"""websocket.Client against the client of the websockets package, on the same bytes cut up at random."""

from base64 import b64encode
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.exceptions import ProtocolError
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN as STATE_OPEN
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from motelet import wshandshake
from motelet.websocket import CLOSE, MESSAGE, NEED_MORE, OPEN, PAYLOAD, PING, PONG, Client, WebSocketError

SIZE = 1024
KEY = b64encode(b"0123456789abcdef").decode()
SUBPROTOCOL = "motelet.v1+cbor"
LONG_LENGTH = object()  # for the code of an error that the other client does not have


def answered():
    """A Client with the request it sent, and the bytes a real server answers it with."""
    client = Client(SIZE, SIZE)
    server = ServerProtocol(subprotocols=[SUBPROTOCOL])
    server.receive_data(wshandshake.request(client, "bridge", "/motelet/v1", KEY, SUBPROTOCOL))
    (request,) = server.events_received()
    server.send_response(server.accept(request))
    return client, b"".join(server.data_to_send()), server


def ours(client, data, cuts):
    """The events in `data`, given in pieces, and the code of the error that ended them or None."""
    found = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    try:
        for begin, end in pairwise(edges):
            while begin < end:
                room = client.room()
                count = min(len(room), end - begin)
                assert count
                room[:count] = data[begin : begin + count]
                client.fill += count
                begin += count
                while (event := client.next()) != NEED_MORE:
                    payload = bytes(client.rx[client.start : client.end])
                    found.append((event, payload))
                    if event == CLOSE:
                        return found, None
    except WebSocketError as error:
        return found, error.args[0] if "longer than need be" not in error.args[1] else LONG_LENGTH
    return found, None


def theirs(data):
    """The same of the websockets package, fragments put together, and a limit for what that makes.

    (Its own limit counts the pings between fragments too.)
    """
    peer = ClientProtocol(parse_uri("ws://bridge/"), state=STATE_OPEN, max_size=None)
    peer.receive_data(data)
    found = []
    message = b""
    for frame in peer.events_received():
        if frame.opcode in (Opcode.BINARY, Opcode.TEXT, Opcode.CONT):
            message += frame.data
            if len(message) > SIZE:
                return found, 1009
            if frame.fin:
                found.append((MESSAGE, message))
                message = b""
        else:
            found.append((int(frame.opcode), frame.data))
            if frame.opcode is Opcode.CLOSE:
                break
    match peer.parser_exc:
        case ProtocolError():
            return found, 1002
        case UnicodeDecodeError():
            return found, 1007
    return found, None


PAYLOADS = st.one_of(
    st.binary(max_size=20), st.integers(0, SIZE + 2).map(lambda size: bytes(i & 255 for i in range(size)))
)
SHORT = st.binary(max_size=125)
REASONS = st.one_of(st.text(max_size=30).map(str.encode), st.binary(max_size=123))
CLOSES = st.one_of(REASONS.map(lambda reason: b"\x0f\xa1" + reason), st.binary(max_size=2))


@st.composite
def frames(draw):
    """A stream of frames, most of them right."""
    data = b""
    for _ in range(draw(st.integers(1, 6))):
        match draw(st.integers(0, 5)):
            case 0 | 1:
                data += Frame(Opcode.BINARY, draw(PAYLOADS)).serialize(mask=False)
            case 2 | 3:
                pieces = draw(st.lists(PAYLOADS, min_size=2, max_size=4))
                for i, piece in enumerate(pieces):
                    opcode = Opcode.CONT if i else Opcode.BINARY
                    data += Frame(opcode, piece, fin=i == len(pieces) - 1).serialize(mask=False)
                    if i < len(pieces) - 1 and draw(st.booleans()):
                        data += Frame(Opcode.PING, draw(SHORT)).serialize(mask=False)
            case 4:
                data += Frame(draw(st.sampled_from([Opcode.PING, Opcode.PONG])), draw(SHORT)).serialize(
                    mask=False
                )
            case 5:
                data += Frame(Opcode.CLOSE, draw(CLOSES)).serialize(mask=False)
    return data


CUTS = st.lists(st.integers(0, 10**6), max_size=8)


@settings(max_examples=500)
@given(frames(), CUTS)
def test_a_stream_of_frames_is_understood_alike(data, cuts):
    client, answer, _ = answered()
    found, code = ours(client, answer + data, cuts)
    assert found[0][0] == OPEN
    assert (found[1:], code) == theirs(data)


@settings(max_examples=1000)
@given(frames(), st.integers(0, 10**6), CUTS)
@example(b"\x82\x05Hello", 8, [])
def test_a_flipped_bit_is_understood_alike_or_refused(data, bit, cuts):
    data = bytearray(data)
    bit %= len(data) * 8
    data[bit // 8] ^= 1 << bit % 8
    client, answer, _ = answered()
    found, code = ours(client, answer + data, cuts)
    # The other client looks at a frame when it is whole: after an error there is enough behind it.
    expected, expected_code = theirs(bytes(data) + b"\0" * 70000 * (code is not None))
    found = found[1:]
    if code in (1003, 1009, LONG_LENGTH):
        # The first and the last are taken there. What is too big is refused here before all of it has come.
        assert found == expected[: len(found)]
        return
    if found[len(expected) :] and found[-1][0] == CLOSE:
        found.pop()  # between fragments closing is taken here and refused there
        code = 1002
    if {code, expected_code} == {1002, 1007}:
        expected_code = code  # code and reason of a closing frame are both wrong: either may be said
    assert (found, code) == (expected, expected_code)


MASKS = st.binary(min_size=4, max_size=4)
MASKED = st.tuples(st.sampled_from([MESSAGE, PING, PONG]), st.binary(max_size=SIZE), MASKS)


@given(st.lists(MASKED))
def test_a_server_understands_what_the_client_sends(messages):
    client, _, server = answered()
    sent = []
    for opcode, payload, mask in messages:
        if opcode != MESSAGE:
            payload = payload[:125]
        sent.append((opcode, payload))
        client.tx[PAYLOAD : PAYLOAD + len(payload)] = payload
        client.frame(opcode, len(payload), mask)
        server.receive_data(bytes(client.tx[client.off : client.off + client.len]))
    assert server.parser_exc is None
    assert [(frame.opcode, frame.data) for frame in server.events_received()] == sent
