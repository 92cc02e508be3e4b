"""Properties of the MQTT codec and of twin updates, whatever is sent."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import codec_side
import interpreters
import pytest
from broker_world import Piece
from hypothesis import given, settings
from hypothesis import strategies as st
from nor import Nor
from test_devicetwin_steady import TOPIC, Listener
from twin_world import DEV, RESOURCE, World, prop, update

from motelet.devicetwin.steady import Steady
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


@pytest.fixture(scope="module")
def micropython() -> Iterator[Callable[[str], str]]:
    """The codec on MicroPython, as a function of a line."""
    program = Path(codec_side.__file__)
    with interpreters.running("micropython", program, stdin=subprocess.PIPE) as process:
        asking, answers = process.stdin, process.stdout
        assert asking is not None
        assert answers is not None

        def ask(line: str) -> str:
            asking.write(line + "\n")
            asking.flush()
            return answers.readline().rstrip("\n")

        yield ask
        asking.close()


streams = st.lists(
    st.binary(max_size=60)
    | st.builds(
        lambda kind, body: bytes([kind, len(body)]) + body,
        st.sampled_from([0x10, 0x20, 0x30, 0x32, 0x40, 0x82, 0x90, 0xC0]),
        st.binary(max_size=100),
    )
    | st.builds(lambda kind, length: bytes([kind]) + length, st.integers(0, 255), st.binary(max_size=5)),
    max_size=6,
).map(b"".join)


@settings(deadline=None)
@given(streams, chunks)
def test_both_interpreters_make_the_same_of_any_bytes(
    micropython: Callable[[str], str], data: bytes, sizes: list[int]
) -> None:
    line = f"{data.hex()} {','.join(map(str, sizes))}"
    assert micropython(line) == codec_side.answer(line)


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


usual = st.fixed_dictionaries(
    {
        "twin": st.dictionaries(
            st.sampled_from(["level", "other"]),
            st.fixed_dictionaries(
                {"actual": st.fixed_dictionaries({"value": st.text('01x\u00e4"\\ ', max_size=4)})},
                optional={"metadata": st.just({"type": "string"}), "expected": value},
            ),
            min_size=1,
            max_size=2,
        )
    },
    optional={"event_id": st.text('ab\u00e4"', max_size=3), "timestamp": st.integers(-1, 1 << 40)},
)


@settings(deadline=None)
@given(st.lists(usual.map(json.dumps) | st.text('{}",:01 x', max_size=30), max_size=8))
def test_what_is_dealt_with_at_once_is_dealt_with_as_always(requests: list[str]) -> None:
    compare(requests, Steady)


class Forgetful(Steady):
    """Counts no versions."""

    def _keep(self, *arguments: Any) -> Any:
        arguments[1][7] -= 1
        return super()._keep(*arguments)


def test_what_would_be_dealt_with_otherwise_is_noticed() -> None:
    with pytest.raises(AssertionError):
        compare(['{"twin":{"level":{"actual":{"value":"1"}}}}'], Forgetful)


def compare(requests: list[str], at_once: type[Steady]) -> None:
    """Have two worlds told the same, one of them by `at_once` as far as it goes."""
    worlds = [World(mqtt=True, mapper=False, flash=Nor(8, block_size=2048)) for _ in range(2)]
    listener = Listener()
    taker = at_once(worlds[1].comm, listener)
    for world in worlds:
        world.put(prop("level", "INT"), resource=RESOURCE)
        update(world, level={"actual": {"value": "0"}}, other={"actual": {"value": "0"}})
    for request in requests:
        said = worlds[0].ask(TOPIC, request)
        listener.said = []
        payload = b"{" + request.encode() + b'"}'
        if taker.update(TOPIC, bytearray(payload), 1, len(payload) - 2):
            assert said == listener.said + worlds[1].said()
        else:
            assert not listener.said
            assert said == worlds[1].ask(TOPIC, request)
        assert worlds[0].comm.records == worlds[1].comm.records
        assert worlds[0].reports() == worlds[1].reports()
    assert kept(worlds[0]) == kept(worlds[1])


def kept(world: World) -> dict[str, Any]:
    keys = list(world.store.keys(".twin/"))
    return {key: json.loads(world.store.get(key)) for key in keys}
