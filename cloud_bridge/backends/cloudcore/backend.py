"""`base.Backend` on CloudCore: the objects of all mirrors, and a session with CloudHub for each board.

What comes down is on disk before it is acknowledged, and what goes up is on disk before the board may
forget it; so neither a restart nor an outage on either side loses anything, and a board that was wiped
is filled again from here. The state folder is locked: its mirror is what CloudCore believes its nodes
to have, and it cannot be so for two bridges.
"""

import asyncio
import fcntl
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from cloud_bridge.backends import nodebody, tokenrequest
from cloud_bridge.backends.base import (
    DEVICE,
    POD,
    BackendError,
    Body,
    EdgeEvent,
    FieldError,
    Key,
    Nodes,
    NoObjectError,
    PodChange,
    RefusedError,
    StatusChange,
    Token,
    TokenRequest,
)
from cloud_bridge.backends.cloudcore import mirror
from cloud_bridge.backends.cloudcore.access import Access
from cloud_bridge.backends.cloudcore.link import Link
from cloud_bridge.backends.cloudcore.message import Message, error_of, split
from cloud_bridge.backends.cloudcore.mirror import Mirror, Statement
from cloud_bridge.backends.cloudcore.node import EdgeNode, epoch_ms
from cloud_bridge.backends.cloudcore.objects import Change, key_of, resource_of
from cloud_bridge.backends.cloudcore.rules import Rules, TopicError
from cloud_bridge.backends.cloudcore.session import UNANSWERED
from cloud_bridge.backends.cloudcore.union import Union
from cloud_bridge.logs import Log
from cloud_bridge.names import is_subdomain
from cloud_bridge.resources import Publish, PublishError

CLAIM_SECONDS = 15.0
"""How long a board that was never here waits for CloudCore to say whose its node is."""
CLAIM_KNOWN_SECONDS = 5.0
"""And one whose mirror is here: after that it is served from the mirror."""
LINGER_SECONDS = 1.0
"""From a board's going to the end of its session, which a link that flaps finds again."""
DRAIN_SECONDS = 5.0
"""How much longer at most, for CloudCore to confirm what the board reported last."""
RENEW_CHECK_SECONDS = 60.0
"""How often it is looked whether a certificate has to be renewed."""
COMPLAIN_SECONDS = 1.0
"""How long something has to be wrong to be told: when a device goes, its model goes a moment earlier."""
PUBLISHING_MAX = 256
"""Messages of the Router that are on their way to boards."""

_log = Log("cloudcore")


class _Served:
    """A board that is connected here, and its link to CloudHub."""

    def __init__(self, link: Link, drop: Callable[[str], None]) -> None:
        self.link = link
        self.drop = drop
        self.task: asyncio.Task[None] | None = None
        self.closing: asyncio.Task[None] | None = None
        self.decided = asyncio.Event()
        self.refusal = ""


class CloudCore:
    """The backend of the CloudHub at `url` (``wss://HOST:PORT``), with its state in `folder`."""

    def __init__(self, url: str, folder: Path, access: Access) -> None:
        self._url = url.rstrip("/")
        self._folder = folder
        self._access = access
        self._union = Union()
        self._edges: dict[str, EdgeNode] = {}
        self._served: dict[str, _Served] = {}
        self._whole: dict[str, str] = {}
        self._expected: dict[str, set[str]] = {}
        self._rules = Rules()
        self._referred: dict[str, Collection[Key]] = {}
        self._publish: Publish | None = None
        self._publishing: set[asyncio.Task[None]] = set()
        self._complaints: dict[Key, str] = {}
        self._complained: set[Key] = set()
        self._confirms = False
        self._listeners: list[Callable[[frozenset[Key]], None]] = []
        self._lock_file: IO[bytes] | None = None
        self._mirror: Mirror

    # -- as base.Backend ---------------------------------------------------------------------

    @property
    def nodes(self) -> Nodes:
        """Whom to tell of the boards that are connected here."""
        return self

    async def start(self) -> None:
        """Open the mirrors. Raises BackendError when another bridge has them, or they cannot be read."""
        self._lock_file = lock(self._folder)
        self._mirror = await asyncio.to_thread(Mirror, self._folder / "mirror.db")
        self._whole = self._mirror.nodes()
        for node, resource, stored in self._mirror.objects():
            key = key_of(resource)
            self._edge(node).put(Change(resource, stored))
            if key is not None:
                self._union.put(key, node, stored)
        for node, resource in self._mirror.expected():
            self._expected.setdefault(node, set()).add(resource)
        for node, resource in self._mirror.doubts():
            self._edge(node).doubts.add([resource])
        self._confirms = self._mirror.confirms()
        for node, topic in self._mirror.topics():
            self._rules.put(node, topic)
        _log.info("mirrors read", nodes=len(self._whole), id=self._mirror.id)

    async def run(self) -> None:
        """Renew certificates, until cancelled. What changes comes by the sessions."""
        while True:
            await asyncio.sleep(RENEW_CHECK_SECONDS)
            for node, served in list(self._served.items()):
                try:
                    if await self._access.renew(node):
                        _log.info("certificate renewed", node=node)
                        served.link.reconnect()
                except BackendError as error:
                    _log.error("certificate not renewed, will try again", node=node, error=error)

    async def stop(self) -> None:
        """End the sessions and let go of the mirrors."""
        tasks = [task for each in self._served.values() for task in (each.task, each.closing) if task]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._lock_file is not None:
            await self._mirror.close()
            self._lock_file.close()

    def synced(self, node: str | None = None) -> bool:
        """Whether the mirror of the node has all that CloudCore believes the node to have."""
        return node is None or (node in self._whole and not self._expected.get(node))

    def get(self, key: Key) -> Body | None:
        """The object, None when no mirror has it."""
        return self._union.get(key) or self._rules.get(key)

    def keys(self, kind: str) -> Collection[Key]:
        """The names of all objects of a kind."""
        return self._union.keys(kind) or self._rules.keys(kind)

    def watch(self, changed: Callable[[frozenset[Key]], None]) -> None:
        """Have `changed(keys)` called when these may differ, or with no keys `synced`."""
        self._listeners.append(changed)

    def complain(self, key: Key, errors: Sequence[FieldError]) -> None:
        """Say in the log, in the Node, and for a Device in its state and an event, what is wrong with it."""
        text = "; ".join(map(str, errors))
        if self._complaints.get(key, "") == text:
            return
        if text:
            self._complaints[key] = text
            asyncio.get_running_loop().call_later(COMPLAIN_SECONDS, self._complain, key, text)
        else:
            del self._complaints[key]
            if key in self._complained:
                self._complained.discard(key)
                _log.info("object is good again", key=key)
                self._show(key, "")

    def write_delay(self, key: Key) -> float:
        """Always now: CloudCore's session has its own pace."""
        return 0.0

    async def write_status(self, changes: Mapping[Key, StatusChange]) -> Mapping[Key, Exception]:
        """Keep each change until CloudCore has confirmed it. What is not in the result is durable."""

        def merge(key: Key, node: str) -> Statement:
            return self._edge(node).merge(resource_of(key), changes[key])

        return await self._keep(changes, merge)

    async def write_pods(self, changes: Mapping[Key, PodChange]) -> Mapping[Key, Exception]:
        """Keep each change until CloudCore has confirmed it. What is not in the result is durable."""

        def merge(key: Key, node: str) -> Statement | None:
            known = self._union.known(key, node)
            if known is None or known.uid != changes[key].uid:
                return None
            return self._edge(node).merge_pod(resource_of(key), changes[key])

        return await self._keep(changes, merge)

    def refer(self, kind: str, keys: Collection[Key]) -> None:
        """Pods refer to just these: each node with a pod in their namespace gets what it may need."""
        self._referred[kind] = keys
        pods: defaultdict[str, set[str]] = defaultdict(set)
        for key in self._union.keys(POD):
            node = self._owner(key)
            if node is not None:
                pods[node].add(key.namespace)
        referred = [each for found in self._referred.values() for each in found]
        for node, namespaces in pods.items():
            self._edge(node).want([resource_of(each) for each in referred if each.namespace in namespaces])
            self._kick(node)

    async def request_token(self, request: TokenRequest) -> Token:
        """Ask CloudCore for it, as EdgeCore does: by a query of its service account's token."""
        node = self._owner(request.pod)
        if node is None:
            raise BackendError(f"{request.pod} is on no node")
        resource = f"{request.pod.namespace}/serviceaccounttoken/{request.account}"
        asked = self._edge(node).query(resource, tokenrequest.body(request))
        self._kick(node)
        answer = await asked
        if answer is UNANSWERED:
            raise BackendError("CloudCore does not answer")
        if error := error_of(answer):
            raise RefusedError(f"no token of service account {request.account}, says CloudCore: {error}")
        return tokenrequest.token_of(answer)

    async def write_events(self, events: Sequence[EdgeEvent]) -> None:
        """Keep the events until they have gone up. Raises BackendError, and then keeps none of them."""
        statements = [
            statement
            for event in events
            for statement in mirror.publish(event.node, event.topic, event.payload)
        ]
        await self._mirror.write(statements)
        for node in {event.node for event in events}:
            self._edge(node).published()
            self._kick(node)

    def tell(self, key: Key, reason: str, text: str, warning: bool) -> None:
        """Make an event about the object, if its node has a session; nobody confirms it."""
        body = self.get(key)
        if body is None:
            return
        for node in self._union.nodes(key):
            event = _event(node, key, body, reason, text, warning)
            if self._edge(node).tell(f"{key.namespace}/event/{event['metadata']['name']}", event):
                self._kick(node)

    def publish_by(self, publish: Publish) -> None:
        """Have what CloudCore's Router publishes at the edge published by this."""
        self._publish = publish

    # -- as base.Nodes -----------------------------------------------------------------------

    async def connect(
        self, node: str, info: Mapping[str, Any], address: str, drop: Callable[[str], None]
    ) -> None:
        """Have a session with CloudHub for the board; returns when it is clear that it may be served."""
        edge = self._edge(node)
        edge.connected(nodebody.Board(info, address, epoch_ms()))
        served = self._served.get(node)
        if served is not None:  # its newer connection, or it is back before the session ended
            served.drop = drop
            if served.closing is not None:
                served.closing.cancel()
                served.closing = None
        else:
            for key in self._complained:
                if node in self._union.nodes(key):
                    self._show(key, self._complaints[key])
            link = Link(self._url, edge, self._access)
            served = self._served[node] = _Served(link, drop)
            served.task = asyncio.create_task(link.run())
        await self._claim(node, served)

    def heard(self, node: str, epoch_ms: int) -> None:
        """The board's last frame came then."""
        board = self._edge(node).board
        if board is not None:
            board.heard_ms = epoch_ms

    def status(self, node: str, fields: Mapping[str, Any]) -> None:
        """The board said this of itself."""
        self._edge(node).said(fields)
        self._kick(node)

    async def disconnect(self, node: str) -> None:
        """The board has gone: its session ends soon, and with that its lease."""
        served = self._served.get(node)
        if served is not None and served.closing is None:
            served.closing = asyncio.create_task(self._close(node, served))

    def session(self, node: str) -> int:
        """Here one bridge serves a node."""
        return 0

    async def _claim(self, node: str, served: _Served) -> None:
        known = node in self._whole
        try:
            async with asyncio.timeout(CLAIM_KNOWN_SECONDS if known else CLAIM_SECONDS):
                await served.decided.wait()
        except TimeoutError:
            if not known:
                await self._end(node, served)
                raise BackendError(served.link.error or "CloudCore does not say whose the node is") from None
            _log.warning("served from the mirror, CloudCore is away", node=node, error=served.link.error)
        if served.refusal:
            await self._end(node, served)
            raise BackendError(served.refusal)

    async def _close(self, node: str, served: _Served) -> None:
        await asyncio.sleep(LINGER_SECONDS)
        loop = asyncio.get_running_loop()
        until = loop.time() + DRAIN_SECONDS
        while not self._edge(node).drained and loop.time() < until:
            await asyncio.sleep(LINGER_SECONDS / 10)
        await self._end(node, served)

    async def _end(self, node: str, served: _Served) -> None:
        if self._served.get(node) is not served:
            return
        del self._served[node]
        assert served.task is not None
        served.task.cancel()
        await asyncio.wait([served.task])
        if node not in self._served:
            self._edge(node).gone()

    # -- as node.Owner -----------------------------------------------------------------------

    def changed(self, node: str, change: Change) -> None:
        """The node's mirror, on disk, differs in this."""
        key = key_of(change.resource)
        waited = self._expected.get(node, set())
        waited.discard(change.resource)
        if key is None:
            return
        if change.stored is not None:
            self._union.put(key, node, change.stored)
        else:
            self._union.remove(key, node)
            if self._union.get(key) is None:
                self._complaints.pop(key, None)
                self._complained.discard(key)
        _log.info("object" if change.stored else "object gone", node=node, key=key)
        self._tell(frozenset((key,)))
        if not waited and self._expected.pop(node, None) is not None:
            _log.info("the mirror is whole again", node=node)
            self._tell(frozenset())

    def owned(self, node: str, uid: str) -> None:
        """The Node is there, and what CloudCore remembers of it is of this mirror."""
        if self._whole.get(node, uid) != uid:
            edge = self._edge(node)
            _log.warning("the Node was deleted and made anew", node=node, doubted=len(edge.known))
            edge.doubts.add(tuple(edge.known))
            self._mirror.write_later(mirror.doubt(node))
        if self._whole.get(node) != uid:
            self._mirror.write_later(mirror.own(node, uid))
            self._whole[node] = uid
        served = self._served.get(node)
        if served is not None:
            served.decided.set()

    def refused(self, node: str, reason: str) -> None:
        """The node belongs to another mirror: it is not served."""
        served = self._served.get(node)
        if served is None:
            return
        served.refusal = reason
        if not served.decided.is_set():
            served.decided.set()
            return
        served.drop(reason)
        if served.closing is None:
            served.closing = asyncio.create_task(self._end(node, served))

    def expects(self, node: str, resource: str) -> bool:
        """Whether a refill of the node's mirror waits for this."""
        return resource in self._expected.get(node, ())

    def confirmed(self) -> None:
        """CloudCore has confirmed a report."""
        if not self._confirms:
            self._confirms = True
            self._mirror.write_later(mirror.confirming())

    def confirms(self) -> bool:
        """Whether CloudCore has ever confirmed one."""
        return self._confirms

    def uses(self, node: str, model: str) -> bool:
        """Whether the node's mirror has a device of the DeviceModel with this resource."""
        namespace, _, name = split(model)
        devices = (key for key in self._union.keys(DEVICE) if node in self._union.nodes(key))
        return any(
            key.namespace == namespace and (self.get(key) or {})["spec"]["deviceModelRef"]["name"] == name
            for key in devices
        )

    def user(self, node: str, message: Message) -> None:
        """CloudCore's Router wants messages of a topic, or not any more, or publishes one."""
        topic = message.resource
        if message.operation in ("subscribe", "unsubscribe"):
            wanted = message.operation == "subscribe"
            try:
                key = self._rules.put(node, topic) if wanted else self._rules.remove(node, topic)
            except TopicError as error:
                _log.error("cannot subscribe for the Router", node=node, topic=topic, error=error)
                return
            self._mirror.write_later(mirror.subscribe(node, topic, wanted))
            if key is not None:
                self._tell(frozenset((key,)))
            return
        content = message.content
        if message.operation == "message":
            inner = message.data().get("message") if isinstance(message.data(), Mapping) else None
            topic = str(inner.get("topic", "")) if isinstance(inner, Mapping) else ""
            content = inner
        if message.operation not in ("publish", "message") or len(self._publishing) >= PUBLISHING_MAX:
            _log.warning("not published", node=node, operation=message.operation, topic=topic)
            return
        text = content if isinstance(content, str) else json.dumps(content)
        task = asyncio.create_task(self._published(node, topic, text.encode()))
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)

    async def _published(self, node: str, topic: str, payload: bytes) -> None:
        """Publish at the edge. CloudCore sends it once and asks nothing; so it is only said if it fails."""
        if self._publish is None:
            return
        try:
            await self._publish(node, topic, payload)
        except (PublishError, ValueError) as error:
            _log.warning("not published", node=node, topic=topic, error=error)

    # -- within ------------------------------------------------------------------------------

    async def _keep(
        self, keys: Collection[Key], merge: Callable[[Key, str], Statement | None]
    ) -> Mapping[Key, Exception]:
        """Write what `merge(key, node)` says for each key that a node has; -> what failed, and why."""
        failures: dict[Key, Exception] = {}
        statements = []
        touched = set()
        for key in keys:
            node = self._owner(key)
            statement = None if node is None else merge(key, node)
            if node is None or statement is None:
                failures[key] = NoObjectError(str(key))
                continue
            statements.append(statement)
            touched.add(node)
        try:
            await self._mirror.write(statements)
        except BackendError as error:
            return {key: failures.get(key, error) for key in keys}
        for node in touched:
            self._kick(node)
        return failures

    def _edge(self, node: str) -> EdgeNode:
        if node not in self._edges:
            self._edges[node] = EdgeNode(node, self._mirror, self)
        return self._edges[node]

    def _owner(self, key: Key) -> str | None:
        """The node that a Device or a Pod belongs to."""
        spec = (self.get(key) or {}).get("spec")
        node = spec.get("nodeName") if isinstance(spec, Mapping) else None
        return node if is_subdomain(node) else None

    def _complain(self, key: Key, text: str) -> None:
        if self._complaints.get(key) == text:
            self._complained.add(key)
            _log.error("object is not valid", key=key, error=text)
            self._show(key, text)
            self.tell(key, "Invalid", text, warning=True)

    def _show(self, key: Key, text: str) -> None:
        for node in self._union.nodes(key):
            edge = self._edge(node)
            edge.refuse(resource_of(key), text)
            if key.kind == DEVICE and self._owner(key) == node and edge.board is not None:
                edge.reports.complain(resource_of(key), text)
            self._kick(node)

    def _kick(self, node: str) -> None:
        served = self._served.get(node)
        if served is not None:
            served.link.kick()

    def _tell(self, keys: frozenset[Key]) -> None:
        for listener in self._listeners:
            listener(keys)


def lock(folder: Path) -> IO[bytes]:
    """Take the state folder, which is made if missing, until the file is closed. Raises BackendError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = open(folder / "lock", "wb")  # noqa: SIM115 - held until closed
    except OSError as error:
        raise BackendError(f"{folder}: {error.strerror or error}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise BackendError(f"another bridge has the state folder {folder}") from error
    return file


def _event(node: str, key: Key, body: Body, reason: str, text: str, warning: bool) -> dict[str, Any]:
    """An event of Kubernetes; the same one has the same name."""
    digest = hashlib.sha256(f"{node} {key} {reason} {text}".encode()).hexdigest()[:16]
    now = nodebody.rfc3339(epoch_ms())
    metadata = body["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{key.name}.{digest}", "namespace": key.namespace},
        "involvedObject": {
            "apiVersion": body.get("apiVersion", ""),
            "kind": key.kind,
            "namespace": key.namespace,
            "name": key.name,
            "uid": metadata.get("uid", ""),
            "resourceVersion": metadata.get("resourceVersion", ""),
        },
        "reason": reason,
        "message": text[: nodebody.TEXT_MAX],
        "type": "Warning" if warning else "Normal",
        "source": {"component": "motelet", "host": node},
        "reportingComponent": "motelet.dev/bridge",
        "reportingInstance": node,
        "action": reason,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
