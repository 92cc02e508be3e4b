"""One connection to CloudHub as EdgeHub keeps it, without I/O: messages in, events and messages out.

It sends the keepalives, without which CloudHub ends the session; finds the question that an answer
belongs to, and asks again what stays unanswered; and makes the acknowledgements. A message that has
to be acknowledged comes out as `Arrived`, and is acknowledged when `acknowledge` is called for it,
which the caller does once the mirror holds it and not before. CloudHub sends such a message again
every five seconds meanwhile and sends no other: so it comes out once, however often it came in.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from cloud_bridge.backends.cloudcore import message as beehive
from cloud_bridge.backends.cloudcore.message import Message, MessageError

KEEPALIVE_SECONDS = 15.0
"""CloudHub waits 30, and counts nothing else."""
ANSWER_SECONDS = 5.0
"""How long an answer may take before the question is asked again."""
ATTEMPTS_MAX = 4
"""How often something is asked in one session."""
QUESTIONS_MAX = 1024
"""Questions without an answer yet."""
OUTPUT_MAX = 4096
"""Messages that may wait to be sent; a CloudHub that reads none is given up."""
ACKED_MAX = 16
"""Messages acknowledged last, to know them when they come again."""

Answer = Callable[[Any], None]
"""Called once for a question: with the content of the answer, or UNANSWERED."""
UNANSWERED = object()


@dataclass(frozen=True, slots=True)
class Arrived:
    """An object that has to be kept before it may be acknowledged."""

    message: Message


@dataclass(frozen=True, slots=True)
class Received:
    """A message that nobody waits for an acknowledgement of: of a user, a job, or the membership."""

    message: Message


Output = Arrived | Received


@dataclass(slots=True)
class _Question:
    message: Message
    answer: Answer
    due: float
    asked: int = 1
    ids: list[str] = field(default_factory=list)


class Session:
    """The session of one connection. `now` counts seconds, `epoch_ms` tells milliseconds since 1970 UTC."""

    def __init__(self, now: Callable[[], float], epoch_ms: Callable[[], int]) -> None:
        self.failed = ""
        """Why the connection has to be closed; empty while there is no reason."""
        self._now = now
        self._epoch_ms = epoch_ms
        self._output: list[Message] = []  # a deque has room for 64 from the beginning, so 1 KiB
        self._questions: dict[str, _Question] = {}
        self._storing: dict[str, Message] = {}
        self._acked: list[str] = []
        self._keepalive_due = now()

    def receive(self, text: str | bytes) -> list[Output]:
        """Take one message of CloudHub; what cannot be read raises MessageError and changes nothing."""
        message = beehive.decode(text)
        outputs: list[Output] = []
        if message.needs_ack():
            if message.id in self._acked:
                self._ack(message)
            elif message.id not in self._storing:
                if len(self._storing) >= QUESTIONS_MAX:
                    raise MessageError(f"{QUESTIONS_MAX} objects wait to be kept")
                self._storing[message.id] = message
                outputs.append(Arrived(message))
        elif not message.parent:
            outputs.append(Received(message))
        if message.parent:
            self._answered(message)
        return outputs

    def acknowledge(self, message: Message) -> None:
        """What came as `Arrived` is kept, or will never be: CloudHub may send the next."""
        if self._storing.pop(message.id, None) is not None:
            self._acked = [*self._acked[1 - ACKED_MAX :], message.id]
            self._ack(message)

    def give_up(self, message: Message) -> None:
        """What came as `Arrived` could not be kept now: take it when it comes again."""
        self._storing.pop(message.id, None)

    def ask(
        self,
        operation: str,
        resource: str,
        content: Any,
        answer: Answer,
        source: str = beehive.EDGED,
        group: str = beehive.META,
    ) -> None:
        """Send a message that CloudCore answers; `answer` is called with what it says."""
        if len(self._questions) >= QUESTIONS_MAX:
            answer(UNANSWERED)
            return
        message = self._message(operation, resource, content, source, group)
        question = _Question(message, answer, self._now() + ANSWER_SECONDS, ids=[message.id])
        self._questions[message.id] = question
        self._send(message)

    def say(self, operation: str, resource: str, content: Any, source: str, group: str) -> None:
        """Send a message that nobody answers."""
        self._send(self._message(operation, resource, content, source, group))

    def tick(self) -> float:
        """Do what is due; -> seconds until something is due again."""
        now = self._now()
        if now >= self._keepalive_due:
            self._keepalive_due = now + KEEPALIVE_SECONDS
            self.say(beehive.KEEPALIVE, "node", "ping", beehive.WEBSOCKET, beehive.RESOURCE)
        for question in {id(each): each for each in self._questions.values()}.values():
            if now >= question.due:
                self._ask_again(question)
        due = [self._keepalive_due, *(each.due for each in self._questions.values())]
        return max(0.0, min(due) - now)

    def data_to_send(self) -> str | None:
        """The next message for CloudHub, None when there is none now."""
        return self._output.pop(0).encode() if self._output else None

    def end(self) -> None:
        """The connection is gone: nothing that was asked will be answered."""
        questions, self._questions = self._questions, {}
        for question in {id(each): each for each in questions.values()}.values():
            question.answer(UNANSWERED)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way, but for keepalives."""
        return not (self._questions or self._output or self._storing)

    def _answered(self, message: Message) -> None:
        question = self._questions.get(message.parent)
        if question is None:
            return  # late: it was asked again, or in an earlier session
        self._drop(question)
        question.answer(message.data())

    def _ask_again(self, question: _Question) -> None:
        if question.asked >= ATTEMPTS_MAX:
            self._drop(question)
            question.answer(UNANSWERED)
            return
        # By a new id, as EdgeCore would. The answer to any of them counts.
        message = replace(question.message, id=_new_id(), timestamp=self._epoch_ms())
        question.asked += 1
        question.due = self._now() + ANSWER_SECONDS
        question.ids.append(message.id)
        self._questions[message.id] = question
        self._send(message)

    def _drop(self, question: _Question) -> None:
        for each in question.ids:
            self._questions.pop(each, None)

    def _ack(self, message: Message) -> None:
        fields = (beehive.RESPONSE, message.resource, beehive.OK, message.source, message.group)
        self._send(replace(self._message(*fields), parent=message.id))

    def _message(self, operation: str, resource: str, content: Any, source: str, group: str) -> Message:
        return Message(_new_id(), operation, resource, content, source, group, timestamp=self._epoch_ms())

    def _send(self, message: Message) -> None:
        if len(self._output) >= OUTPUT_MAX:
            self._output.clear()
            self.failed = f"{OUTPUT_MAX} messages were not read"
        self._output.append(message)


def _new_id() -> str:
    return str(uuid.uuid4())
