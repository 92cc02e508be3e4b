"""One node as the backend has it: the mirror of what came down, and what goes up while its board is here."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Protocol

from cloud_bridge.backends.base import BackendError, PodChange, StatusChange
from cloud_bridge.backends.cloudcore import jobs, mirror
from cloud_bridge.backends.cloudcore.doubts import Doubts
from cloud_bridge.backends.cloudcore.message import (
    BUS,
    DELETE,
    EDGED,
    HUB,
    INSERT,
    META,
    OK,
    QUERY,
    UPLOAD,
    USER,
    WEBSOCKET,
    Message,
    split,
)
from cloud_bridge.backends.cloudcore.mirror import OBJECTS_MAX, Mirror, Statement
from cloud_bridge.backends.cloudcore.objects import Change, Known, change_of, shows
from cloud_bridge.backends.cloudcore.pods import Pods
from cloud_bridge.backends.cloudcore.registration import Registration
from cloud_bridge.backends.cloudcore.reports import Part, Reports
from cloud_bridge.backends.cloudcore.session import Answer, Session
from cloud_bridge.backends.nodebody import Board
from cloud_bridge.logs import Log

EVENTS_AT_ONCE = 32
"""Messages of the edge read from the disk at a time."""
QUERY_SECONDS = 30.0
"""How often a ConfigMap or Secret is asked for that pods refer to and that is not there."""
ROUTER = "router_eventbus"
"""Source of what CloudCore's Router says about MQTT."""

_log = Log("cloudcore")


class Owner(Protocol):
    """What a node tells the backend."""

    def changed(self, node: str, change: Change) -> None:
        """The node's mirror, on disk, differs in this."""

    def owned(self, node: str, uid: str) -> None:
        """The Node is there, and what CloudCore remembers of it is of this mirror."""

    def refused(self, node: str, reason: str) -> None:
        """The node belongs to another mirror."""

    def expects(self, node: str, resource: str) -> bool:
        """Whether a refill of the node's mirror waits for this."""

    def confirmed(self) -> None:
        """CloudCore has confirmed a report."""

    def confirms(self) -> bool:
        """Whether CloudCore has ever confirmed one."""

    def uses(self, node: str, model: str) -> bool:
        """Whether the node's mirror has a device of the DeviceModel with this resource."""

    def user(self, node: str, message: Message) -> None:
        """CloudCore's Router sent this."""


class EdgeNode:
    """`link.Node` of the node `name`; `board` is None while no board of it is connected."""

    def __init__(self, name: str, store: Mirror, owner: Owner) -> None:
        self.name = name
        self.known: dict[str, Known] = {}
        self.board: Board | None = None
        self.refusals: dict[str, str] = {}
        self._mirror = store
        self._owner = owner
        self._lock = asyncio.Lock()
        self._removing: set[asyncio.Task[None]] = set()
        self.doubts = Doubts(
            time.monotonic, epoch_ms, owner.confirms, lambda model: owner.uses(name, model), self._settled
        )
        self._reports: Reports | None = None
        self._pods: Pods | None = None
        self._wanted: dict[str, float] = {}
        self._session: Session | None = None
        self._registration: Registration | None = None
        self._events_after = 0
        self._events_sent = 0
        self._events_wait = True

    # -- as link.Node ------------------------------------------------------------------------

    def begin(self, session: Session, failed: Callable[[str], None]) -> None:
        """A connection is open."""
        assert self.board is not None
        self._session = session
        self._registration = Registration(
            session,
            self.name,
            self.board,
            self._mirror.id,
            (time.monotonic, epoch_ms),
            lambda uid: self._owner.owned(self.name, uid),
            failed,
            lambda reason: self._owner.refused(self.name, reason),
        )
        self._registration.refusals(self.refusals)
        self.reports.begin()
        self.pods.begin()
        self.doubts.begin()
        self._wanted = dict.fromkeys(self._wanted, 0.0)
        self._events_after = self._events_sent = 0
        self._events_wait = True

    def tick(self) -> float:
        """Do what is due; -> seconds until something is due again."""
        assert self._registration is not None
        due = self._registration.tick()
        if not self._registration.ready:
            return due
        assert self._session is not None
        self._ask(self._session)
        self._upload(self._session)
        self._query(self._session)
        if self._events_wait or self._events_sent:
            return 0.0
        now = time.monotonic()
        dues = [part.due for part in self._parts() if part.waits]
        return max(0.0, min([due, *(each - now for each in (*dues, self.doubts.due()))]))

    async def keep(self, message: Message) -> None:
        """Keep an object durably. Raises BackendError when that is not possible now."""
        async with self._lock:
            change = change_of(message, self.known.get(message.resource))
            if message.operation == DELETE and self._owner.expects(self.name, message.resource):
                change = Change(message.resource, None)  # what a refill waits for is gone
            if change is None:
                if message.resource in self.doubts and shows(message, self.known[message.resource]):
                    self._settled(message.resource, there=True)
                return
            if change.resource not in self.known and len(self.known) >= OBJECTS_MAX:
                self.refuse(change.resource, f"the node has {OBJECTS_MAX} objects, there is no room for more")
                return
            await self._mirror.write(mirror.keep(self.name, change))
            self.put(change)
            self._owner.changed(self.name, change)

    def receive(self, message: Message) -> None:
        """Take a message that needs no acknowledgement."""
        assert self._session is not None
        if jobs.is_job(message):
            answer = jobs.refusal(message, epoch_ms())
            _log.warning("job refused", node=self.name, resource=message.resource, error=answer["reason"])
            self._session.say(jobs.UPDATE_STATUS, message.resource, answer, WEBSOCKET, HUB)
        elif message.group == USER and message.source == ROUTER:
            self._owner.user(self.name, message)
        else:
            _log.debug(
                "nothing to do", node=self.name, resource=message.resource, operation=message.operation
            )

    def end(self, session: Session) -> None:
        """The connection of this session is gone; there may be a newer one already."""
        if self._session is session:
            self._session = self._registration = None

    # -- what the backend does with it -------------------------------------------------------

    @property
    def reports(self) -> Reports:
        """What its devices reported."""
        return self._load()[0]

    @property
    def pods(self) -> Pods:
        """What it said of its pods."""
        return self._load()[1]

    def _load(self) -> tuple[Reports, Pods]:
        if self._reports is None or self._pods is None:
            stored = self._mirror.status(self.name)
            pods = {each: stored.pop(each) for each in list(stored) if split(each)[1] == "pod"}
            self._reports = Reports(stored, time.monotonic, epoch_ms, self._given_up)
            self._pods = Pods(pods, time.monotonic, epoch_ms)
        return self._reports, self._pods

    @property
    def drained(self) -> bool:
        """Whether all that can go up has gone up."""
        ready = self._registration is not None and self._registration.ready
        waiting = any(part.number > part.confirmed and not part.tries for part in self._parts())
        return not ready or not (waiting or self._events_wait or self._events_sent)

    def put(self, change: Change) -> None:
        """Know of the change, which is on disk."""
        self.doubts.drop(change.resource)
        if change.stored is None:
            self.known.pop(change.resource, None)
            if self._reports is not None and self._pods is not None:
                self._reports.forget(change.resource)
                self._pods.forget(change.resource)
            self.refuse(change.resource, "")
        else:
            before = self.known.get(change.resource)
            self.known[change.resource] = change.stored.known
            if before is not None and before.uid != change.stored.known.uid:
                if self._reports is not None:
                    self._reports.replaced(change.resource)

    def connected(self, board: Board) -> None:
        """A board of the node is here, perhaps anew."""
        self.board = board
        if self._registration is not None:
            self._registration.board = board
            self._registration.changed()

    def said(self, fields: Mapping[str, Any]) -> None:
        """The board has said this of itself."""
        if self.board is not None:
            self.board.fields = fields
        if self._registration is not None:
            self._registration.changed()

    def gone(self) -> None:
        """The board has gone, and the connection with it: what it reported is on disk."""
        self.board = None
        self._reports = self._pods = None

    def merge(self, resource: str, change: StatusChange) -> Statement:
        """Take a report of one of its devices; -> what has to be written for it to be durable."""
        return mirror.report(self.name, resource, self.reports.merge(resource, change))

    def merge_pod(self, resource: str, change: PodChange) -> Statement:
        """Take what it says of one of its pods; -> as `merge` does."""
        return mirror.report(self.name, resource, self.pods.merge(resource, change))

    def want(self, resources: Collection[str]) -> None:
        """Its pods refer to these: what the mirror does not have is asked for, now and then."""
        self._wanted = {each: self._wanted.get(each, 0.0) for each in resources}

    def query(self, resource: str, content: Any) -> asyncio.Future[Any]:
        """Ask for what is in no mirror; -> the answer, perhaps UNANSWERED. BackendError without a session."""
        if self._session is None or self._registration is None or not self._registration.ready:
            raise BackendError(f"node {self.name} has no session with CloudHub")
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def answered(content: Any) -> None:
            if not answer.done():
                answer.set_result(content)

        self._session.ask(QUERY, resource, content, answered)
        return answer

    def published(self) -> None:
        """There is a new message of the edge on disk."""
        self._events_wait = True

    def refuse(self, resource: str, reason: str) -> None:
        """Something is wrong with the resource, or with an empty reason nothing is: shown in the Node."""
        before = self.refusals.get(resource, "")
        if reason == before:
            return
        if reason:
            self.refusals[resource] = reason
            _log.warning("not as it should be", node=self.name, resource=resource, error=reason)
        else:
            del self.refusals[resource]
        if self._registration is not None:
            self._registration.refusals(self.refusals)

    def tell(self, resource: str, body: Mapping[str, Any]) -> bool:
        """Send an event of Kubernetes; -> whether that was possible. Nobody confirms it."""
        if self._session is None or self._registration is None or not self._registration.ready:
            return False
        self._session.say(INSERT, resource, body, EDGED, META)
        return True

    def _parts(self) -> Iterator[Part]:
        yield from self.reports.parts()
        yield from self.pods.parts()

    def _ask(self, session: Session) -> None:
        for each in self.reports.questions():
            answer = self._confirming(each.answer)
            session.ask(each.operation, each.resource, each.content, answer, each.source, each.group)
        for each in (*self.pods.questions(), *self.doubts.questions(self.known, self.reports.asking)):
            session.ask(each.operation, each.resource, each.content, each.answer, each.source, each.group)

    def _confirming(self, answer: Answer) -> Answer:
        """`answer`, and the backend is told when CloudCore confirms."""

        def answered(content: Any) -> None:
            if content == OK:
                self._owner.confirmed()
            answer(content)

        return answered

    def _settled(self, resource: str, there: bool) -> None:
        """CloudCore has what was doubted, or does not have it."""
        if there:
            self.doubts.drop(resource)
            self._mirror.write_later(mirror.sure(self.name, resource))
            return
        task = asyncio.create_task(self._remove(resource))
        self._removing.add(task)
        task.add_done_callback(self._removing.discard)

    async def _remove(self, resource: str) -> None:
        async with self._lock:
            if resource not in self.doubts:
                return  # it has come meanwhile
            change = Change(resource, None)
            try:
                await self._mirror.write(mirror.keep(self.name, change))
            except BackendError as error:
                _log.error("cannot remove what is gone, will try again", resource=resource, error=error)
                return
            _log.warning("gone since the Node was deleted", node=self.name, resource=resource)
            self.put(change)
            self._owner.changed(self.name, change)

    def _query(self, session: Session) -> None:
        """Ask for what is referred to: CloudCore sends its changes, but not what was there before the pod."""
        now = time.monotonic()
        for resource, due in self._wanted.items():
            if resource not in self.known and now >= due:
                self._wanted[resource] = now + QUERY_SECONDS
                # The answer is an object like any other: it is kept, and acknowledged.
                session.ask(QUERY, resource, None, lambda content: None)

    def _upload(self, session: Session) -> None:
        """Send messages of the edge; those of the turn before are with the network by now."""
        if self._events_sent:
            self._mirror.write_later(mirror.published(self.name, self._events_sent))
            self._events_sent = 0
        if not self._events_wait:
            return
        events = self._mirror.events(self.name, self._events_after, EVENTS_AT_ONCE)
        self._events_wait = len(events) == EVENTS_AT_ONCE
        for number, topic, payload in events:
            # As EdgeCore: a text, in which what is no UTF-8 is lost.
            session.say(UPLOAD, topic, payload.decode(errors="replace"), BUS, USER)
            self._events_after = self._events_sent = number

    def _given_up(self, resource: str, reason: str) -> None:
        (_log.error if reason else _log.info)(
            "report not confirmed" if reason else "report confirmed again",
            node=self.name,
            resource=resource,
            error=reason or "-",
        )
        self.refuse(f"{resource} status", reason)


def epoch_ms() -> int:
    """The time now, in milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000
