"""EdgeHub's end of one connection, on a clock of the test's own."""

import pytest

from cloud_bridge.backends.cloudcore import session as s
from cloud_bridge.backends.cloudcore.message import Message, MessageError, decode
from cloud_bridge.backends.cloudcore.session import UNANSWERED, Arrived, Received, Session


class Clock:
    def __init__(self):
        self.now = 100.0


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def session(clock):
    return Session(lambda: clock.now, lambda: 1_700_000_000_000)


def sent(session):
    messages = []
    while (text := session.data_to_send()) is not None:
        assert text.endswith("\n")
        messages.append(decode(text))
    return messages


def device(number="1", **changes):
    fields = {
        "operation": "update",
        "resource": "a/device/b",
        "source": "devicecontroller",
        "group": "resource",
    }
    return Message(number, **{**fields, **changes})


def test_keepalives_come_at_once_and_in_time(session, clock):
    session.tick()
    first = sent(session)[0]
    assert (first.source, first.group, first.operation) == ("websocket", "resource", "keepalive")
    assert (first.resource, first.content) == ("node", "ping")
    for _ in range(10):
        clock.now += session.tick()
        session.tick()
        assert [each.operation for each in sent(session)] == ["keepalive"]
    assert clock.now == 100.0 + 10 * s.KEEPALIVE_SECONDS < 100.0 + 10 * 30


def test_an_object_is_acknowledged_when_it_is_kept_and_not_before(session):
    message = device()
    assert session.receive(message.encode()) == [Arrived(message)]
    assert sent(session) == []
    session.acknowledge(message)
    [ack] = sent(session)
    assert (ack.operation, ack.parent, ack.content) == ("response", "1", "OK")
    assert (ack.source, ack.group, ack.resource) == (message.source, message.group, message.resource)
    assert ack.id not in ("", "1")
    assert session.idle


def test_what_comes_again_comes_out_once_and_is_acknowledged_again(session):
    message = device()
    session.receive(message.encode())
    assert session.receive(message.encode()) == []  # it is being kept
    session.acknowledge(message)
    assert len(sent(session)) == 1
    assert session.receive(message.encode()) == []
    assert [each.parent for each in sent(session)] == ["1"]
    session.acknowledge(message)  # too late: it was
    assert sent(session) == []


def test_what_could_not_be_kept_is_taken_when_it_comes_again(session):
    message = device()
    session.receive(message.encode())
    session.give_up(message)
    assert sent(session) == []
    assert session.receive(message.encode()) == [Arrived(message)]


def test_unknown_kinds_are_acknowledged_too(session):
    message = device(resource="a/widget/b", source="somebody")
    assert session.receive(message.encode()) == [Arrived(message)]


def test_other_messages_come_out_without_an_acknowledgement(session):
    message = device(resource="membership", group="twin")
    assert session.receive(message.encode()) == [Received(message)]
    assert sent(session) == []


def test_an_answer_finds_its_question(session):
    answers = []
    session.ask("query", "null/node/n", None, answers.append)
    [question] = sent(session)
    assert (question.source, question.group) == ("edged", "meta")
    answer = device("9", operation="response", parent=question.id, resource="null/node/n", content={"a": 1})
    answer = Message(**{**{k: getattr(answer, k) for k in answer.__slots__}, "source": "edgecontroller"})
    assert session.receive(answer.encode()) == []
    assert session.receive(answer.encode()) == []  # again: nobody asks any more
    assert answers == [{"a": 1}]
    assert session.idle


def test_an_answer_that_is_an_object_is_acknowledged_by_its_own_id(session):
    answers = []
    session.ask("query", "a/configmap/b", None, answers.append)
    [question] = sent(session)
    answer = Message("9", "response", "a/configmap/b", {"x": 1}, "edgecontroller", "resource", question.id)
    [arrived] = session.receive(answer.encode())
    assert arrived == Arrived(answer)
    assert answers == [{"x": 1}]
    session.acknowledge(answer)
    assert sent(session)[0].parent == "9"


def test_a_question_is_asked_again_by_new_ids_and_any_answer_counts(session, clock):
    answers = []
    session.tick()
    sent(session)
    session.ask("query", "null/node/n", None, answers.append)
    first = sent(session)[0]
    clock.now += s.ANSWER_SECONDS
    session.tick()
    second = sent(session)[0]
    assert second.id != first.id
    session.receive(device("9", operation="response", content="OK", parent=first.id).encode())
    assert answers == ["OK"]
    session.receive(device("8", operation="response", content="OK", parent=second.id).encode())
    assert answers == ["OK"]


def test_what_nobody_answers_is_given_up(session, clock):
    answers = []
    session.ask("query", "null/node/n", None, answers.append)
    for _ in range(s.ATTEMPTS_MAX):
        assert answers == []
        clock.now += s.ANSWER_SECONDS
        session.tick()
    assert answers == [UNANSWERED]
    assert len([each for each in sent(session) if each.operation == "query"]) == s.ATTEMPTS_MAX


def test_the_end_answers_every_question(session, clock):
    answers = []
    session.ask("query", "null/node/n", None, answers.append)
    clock.now += s.ANSWER_SECONDS
    session.tick()
    session.end()
    assert answers == [UNANSWERED]


def test_limits(session):
    answers = []
    for _ in range(s.QUESTIONS_MAX):
        session.ask("query", "null/node/n", None, answers.append)
    assert answers == []
    session.ask("query", "null/node/n", None, answers.append)
    assert answers == [UNANSWERED]
    for number in range(s.QUESTIONS_MAX):
        session.receive(device(str(number)).encode())
    with pytest.raises(MessageError, match="wait to be kept"):
        session.receive(device("one more").encode())
    assert session.failed == ""
    for _ in range(s.OUTPUT_MAX):
        session.say("upload", "t", "x", "bus", "user")
    assert "not read" in session.failed


def test_bad_messages_change_nothing(session):
    with pytest.raises(MessageError):
        session.receive("{")
    assert session.idle
