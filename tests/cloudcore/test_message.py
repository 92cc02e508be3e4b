"""The envelope: every branch of the codec, and what a real EdgeCore and CloudCore sent."""

import json

import frames
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_bridge.backends.cloudcore import message as m
from cloud_bridge.backends.cloudcore.message import Message, MessageError, decode


def envelope(**changes):
    body = {
        "header": {"msg_id": "1", "timestamp": 5},
        "route": {"source": "edged", "group": "meta", "operation": "query", "resource": "a/pod/b"},
        "content": None,
    }
    return {**body, **changes}


@pytest.mark.parametrize("name", frames.NAMES)
def test_real_messages_are_read_and_written_as_they_were(name):
    for message in frames.read(name):
        decoded = decode(frames.wire(message))
        assert json.loads(decoded.encode()) == message
        assert decode(decoded.encode()) == decoded


@pytest.mark.parametrize("name", frames.NAMES)
def test_what_cloudhub_waits_for_is_what_a_real_edge_acknowledged(name):
    acknowledged = {
        each["header"]["parent_msg_id"]
        for each in frames.read(name, "edge")
        if each["route"]["operation"] == "response"
    }
    for message in frames.read(name, "cloud"):
        if decode(frames.wire(message)).needs_ack():
            assert message["header"]["msg_id"] in acknowledged


ACKS = [
    ({"resource": "a/pod/b", "operation": "insert", "source": "edgecontroller"}, True),
    ({"resource": "a/widget/b", "operation": "insert", "source": "dynamiccontroller"}, True),
    ({"resource": "a/device/b", "operation": "update", "source": "edgecontroller"}, True),
    ({"resource": "null/node/n", "operation": "update", "source": "edgecontroller"}, True),
    ({"resource": "null/node/n", "operation": "response", "source": "edgecontroller"}, False),
    ({"resource": "a/configmap/b", "operation": "response", "source": "edgecontroller"}, True),
    ({"resource": "a/pod/b", "operation": "response", "source": "edgecontroller"}, False),
    ({"resource": "a/lease/b", "operation": "response", "source": "edgecontroller"}, False),
    ({"resource": "membership", "operation": "update", "source": "devicecontroller"}, False),
    ({"resource": "a/pod/b", "operation": "createvolume", "source": "cloudhub"}, False),
    ({"resource": "a/b", "operation": "publish", "source": "router_eventbus", "group": "user"}, False),
    ({"resource": "x/y", "operation": "Check", "source": "taskmanager"}, False),
    ({"resource": "twin", "operation": "response", "source": "devicecontroller", "content": "OK"}, False),
]


@pytest.mark.parametrize(("fields", "needed"), ACKS)
def test_which_messages_need_an_acknowledgement(fields, needed):
    assert Message("1", **fields).needs_ack() is needed


def test_content_that_is_json_in_a_text_is_as_good_as_the_json():
    assert Message("1", "", "", '{"a": 1}').data() == {"a": 1}
    assert Message("1", "", "", "OK").data() == "OK"
    assert Message("1", "", "", {"a": 1}).data() == {"a": 1}


def test_keys_count_in_any_case_and_what_follows_the_first_value_does_not():
    text = '{"HEADER":{"Msg_ID":"1","timestamp":2},"Route":{"Operation":"x"},"extra":1} trailing'
    assert decode(text) == Message("1", "x", "", timestamp=2)
    assert decode(text.encode()).operation == "x"


BAD = [
    "",
    "{",
    "[]",
    '"text"',
    "NaN",
    b"\xff",
    "[" * 100_000,
    json.dumps(envelope(header=None)),
    json.dumps(envelope(header={"timestamp": 1})),
    json.dumps(envelope(header={"msg_id": 1})),
    json.dumps(envelope(header={"msg_id": "1", "timestamp": 1.5})),
    json.dumps(envelope(header={"msg_id": "1", "timestamp": True})),
    json.dumps(envelope(route=[])),
    json.dumps(envelope(route={"resource": "x" * (m.TEXT_SIZE_MAX + 1)})),
    json.dumps(envelope(content="\ud800")),
]


@pytest.mark.parametrize("text", BAD)
def test_anything_else_is_refused_with_a_reason(text):
    with pytest.raises(MessageError, match=r"."):
        decode(text)


def test_a_pair_of_surrogates_is_one_character():
    assert decode(json.dumps(envelope(content="\U0001f600"))).content == "\U0001f600"


def test_resources_are_taken_apart_only_if_they_have_three_parts():
    assert m.split("a/pod/b") == ("a", "pod", "b")
    for other in ("", "membership", "a//b", "a/b", "a/b/c/d"):
        assert m.split(other) == ("", "", "")
    assert Message("1", "", "a/pod/b").type == "pod"


def test_errors_of_kubernetes_and_of_go():
    status = {"ErrStatus": {"message": "no such thing", "code": 404}}
    assert m.error_of(status) == "no such thing"
    assert m.code_of(status) == 404
    assert m.error_of({"ErrStatus": {"reason": "Gone"}}) == "Gone"
    assert "without" in m.error_of({"ErrStatus": {}})
    assert "without" in m.error_of({})
    assert m.error_of({"metadata": {}}) == m.error_of("OK") == ""
    assert m.code_of({"ErrStatus": 4}) == m.code_of("x") == m.code_of({"ErrStatus": {"code": "4"}}) == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda each: st.lists(each) | st.dictionaries(st.text(st.characters(codec="utf-8")), each),
    max_leaves=8,
)


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=40), JSON, st.integers(0, 2**53))
def test_what_is_written_can_be_read(text, content, timestamp):
    message = Message(text, text, text, content, text, text, text, timestamp, text)
    assert decode(message.encode()) == message


@given(st.text() | st.binary())
def test_nothing_but_its_own_error_leaves_the_decoder(text):
    try:
        decode(text)
    except MessageError:
        pass
