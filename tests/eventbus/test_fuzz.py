"""Properties of the MQTT codec and of twin updates, whatever is sent."""

import json

from broker_world import Piece
from hypothesis import given, settings
from hypothesis import strategies as st
from twin_world import DEV, RESOURCE, World, prop

from motelet.mqtt import Packets

topics = st.text(
    st.characters(blacklist_characters="+#\0", blacklist_categories=["Cs"]), min_size=1, max_size=40
)
chunks = st.lists(st.integers(1, 50), min_size=1, max_size=20)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=12,
)
value = st.none() | anything | st.fixed_dictionaries({"value": st.text(max_size=20) | anything})
version = (
    st.none() | anything | st.fixed_dictionaries({"cloud": st.integers(-3, 9), "edge": st.integers(-3, 9)})
)
msg_twin = (
    st.none()
    | anything
    | st.fixed_dictionaries(
        {},
        optional={
            "expected": value,
            "actual": value,
            "optional": st.booleans() | anything,
            "expected_version": version,
            "actual_version": version,
            "metadata": anything
            | st.fixed_dictionaries(
                {
                    "type": st.sampled_from(
                        ["int", "string", "float", "boolean", "deleted", "BYTES", "double", ""]
                    )
                }
            ),
        },
    )
)
names = st.sampled_from(["level", "other", "x"]) | st.text(max_size=6)


def feed(packets: Packets, data: bytes, sizes: list[int]) -> list[tuple[int, bytes]]:
    """-> [(first byte, body)] of the packets in `data`, handed over in pieces. ValueError if one is none."""
    found = []
    at = turn = 0
    while at < len(data):
        piece = Piece(data[at : at + sizes[turn % len(sizes)]])
        packets.fill(piece)
        at += piece.count
        turn += 1
        while kind := packets.next():
            found.append((kind, bytes(packets.rx[packets.pos : packets.stop])))
    return found


class Pipe:
    def __init__(self, most: int) -> None:
        self.most = most
        self.data = b""

    def write(self, buf: bytearray, off: int, n: int) -> int:
        self.data += bytes(buf[off : off + min(n, self.most)])
        return min(n, self.most)


@given(st.binary(max_size=400), chunks)
def test_bytes_are_packets_or_refused_within_the_limit(data: bytes, sizes: list[int]) -> None:
    packets = Packets(16, 150)
    try:
        bodies = [body for _, body in feed(packets, data, sizes)]
    except ValueError:
        bodies = []  # refused, which is one of the two right answers
    assert all(len(body) <= 148 for body in bodies) and len(packets.rx) <= 150


@given(
    st.lists(
        st.tuples(
            topics, st.binary(max_size=300), st.sampled_from([0x30, 0x31, 0x32, 0x3B]), st.integers(1, 65535)
        ),
        max_size=6,
    ),
    chunks,
    st.integers(1, 64),
)
def test_what_is_published_is_what_arrives(
    messages: list[tuple[str, bytes, int, int]], sizes: list[int], most: int
) -> None:
    out = Packets(64)
    pipe = Pipe(most)
    for topic, payload, kind, pid in messages:
        while not out.send(kind, payload, topic.encode(), pid if kind & 6 else 0):
            assert out.flush(pipe)
    while out.flush(pipe):
        continue
    into = Packets(32)
    arrived = []
    for kind, body in feed(into, pipe.data, sizes):
        reader = Packets(1024)
        whole = (
            bytes([kind])
            + (bytes([len(body)]) if len(body) < 128 else bytes([len(body) & 127 | 128, len(body) >> 7]))
            + body
        )
        reader.fill(Piece(whole))
        assert reader.next() == kind
        topic = reader.topic()
        pid = reader.short() if kind & 6 else 0
        arrived.append((topic, reader.string(reader.stop - reader.pos), kind, pid))
    assert arrived == [
        (topic, payload, kind, pid if kind & 6 else 0) for topic, payload, kind, pid in messages
    ]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["twin/update", "twin/cloud_updated", "twin/get", "state/update"]),
            st.binary(max_size=60)
            | anything
            | st.fixed_dictionaries(
                {
                    "event_id": st.text() | anything,
                    "twin": anything | st.dictionaries(names, msg_twin, max_size=3),
                }
            ),
        ),
        max_size=5,
    )
)
def test_whatever_is_asked_there_is_one_answer_and_the_twin_lives(requests: list[tuple[str, object]]) -> None:
    world = World(mqtt=True, mapper=False)
    world.put(prop("level", desired="3"), resource=RESOURCE)
    world.said()
    for verb, request in requests:
        payload = request if isinstance(request, bytes) else json.dumps(request).encode()
        said = world.ask(DEV + verb, payload)
        results = [topic for topic, _ in said if topic.endswith("/result")]
        if verb == "state/update":
            assert len(results) <= 1
        elif verb == "twin/cloud_updated":
            assert len(results) <= 1  # an error only
        else:
            assert results == [DEV + verb + "/result"]
    assert world.ask(DEV + "twin/get", b'{"event_id":"still here"}')[0][1]["event_id"] == "still here"
