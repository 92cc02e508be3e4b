"""Boards as Nodes of the cluster: which bridge serves one, what it is like, and that it is alive.

A bridge owns a board's session by a compare-and-swap on the Node: the annotation SESSION is
``<bridge>/<epoch>``, and the epoch counts up with each connection, whichever bridge has it. The newest
connection wins, for a board has one; the bridge that had the one before sees the annotation change and
drops it. A bridge that was stopped, or cut off, meets the other's annotation before it can write (see
`statuswriter`).

That a board is alive is said by its Lease: renewTime is when its last frame came. A board that announced
a sleep counts as heard until its end, connected or not; whose bridge has gone meanwhile is taken over by
another (see `sleepers`). Everything else about the board is in the Node's
status, written when it changes and when somebody else has changed it.
"""

import asyncio
import random
import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from cloud_bridge.backends import nodebody
from cloud_bridge.backends.base import BackendError
from cloud_bridge.backends.kubernetes import sleepers
from cloud_bridge.backends.kubernetes.api import JSON, MERGE, STRATEGIC, Api, ApiError
from cloud_bridge.backends.kubernetes.informer import Informer, Name
from cloud_bridge.logs import Log

SESSION = "motelet.dev/session"
NODES = "/api/v1/nodes"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
LEASE_SECONDS = 40
"""What a Lease says it lasts; kube-controller-manager has its own grace time, 50 s by default."""
RENEW_SECONDS = 20.0
TICK_SECONDS = 1.0
LOOK_SECONDS = 5.0
"""How often it is looked whether boards that sleep have lost their bridge."""
CLAIM_TRIES = 8
"""How often a claim is made again because somebody else changed the Node just then."""
LOST_SECONDS = 40.0
"""A bridge that could not renew anything for so long lets its boards go: another may reach the API server."""
PARALLEL = 8

_OF_BOARDS = f"kubernetes.io/os={nodebody.OPERATING_SYSTEM}"
_log = Log("kubernetes")


class _Served:
    """A board that is connected here, or sleeps and was."""

    def __init__(self, board: nodebody.Board, drop: Callable[[str], None] | None) -> None:
        self.board = board
        self.drop = drop
        self.claim = ""
        self.uid = ""
        self.body: Mapping[str, Any] | None = None  # the Node as this bridge wrote it last
        self.deletions = 0  # of the Node, as far as they were seen
        self.registered = False  # by this claim: nothing of the Node is there yet
        self.renewed_ms = 0
        self.due = 0.0
        self.overdue = False

    def alive_ms(self, now_ms: int) -> int:
        """The last moment at which the board was alive, as far as it was heard or announced its sleep."""
        until = self.board.fields.get("sleep_until")
        heard_ms = self.board.heard_ms
        return max(heard_ms, min(until, now_ms)) if isinstance(until, int) else heard_ms

    def sleeps(self, now_ms: int) -> bool:
        """Whether the sleep that it announced has not ended."""
        until = self.board.fields.get("sleep_until")
        return isinstance(until, int) and until > now_ms


class KubernetesNodes:
    """`base.Nodes` on an API server. `bridge` names this bridge among all of the cluster."""

    def __init__(self, api: Api, bridge: str) -> None:
        self.informer = Informer(
            api,
            NODES,
            self._changed,
            {"labelSelector": _OF_BOARDS},
        )
        self._api = api
        self._bridge = bridge
        self._served: dict[str, _Served] = {}
        self._claims: dict[str, str] = {}
        self._lineage: dict[str, int] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._dirty: set[str] = set()
        self._work = asyncio.Event()
        self._parallel = asyncio.Semaphore(PARALLEL)
        self._failing_since: float | None = None
        self._known: set[str] = set()
        self._listeners: list[Callable[[Collection[str]], None]] = []

    def watch(self, boards: Callable[[Collection[str]], None]) -> None:
        """Have `boards(names)` called with the names of all Nodes that are boards, whenever they change."""
        self._listeners.append(boards)

    # -- base.Nodes --------------------------------------------------------------------------

    async def connect(
        self, node: str, info: Mapping[str, Any], address: str, drop: Callable[[str], None]
    ) -> None:
        """See `base.Nodes`."""
        async with self._lock(node):
            board = nodebody.Board(info, address, _epoch_ms())
            served = _Served(board, drop)
            await self._claim(node, served)
            self._served[node] = served
        self._failing_since = None
        self._look_at(node)

    def heard(self, node: str, epoch_ms: int) -> None:
        """See `base.Nodes`."""
        served = self._served.get(node)
        if served is not None:
            served.board.heard_ms = epoch_ms

    def status(self, node: str, fields: Mapping[str, Any]) -> None:
        """See `base.Nodes`."""
        served = self._served.get(node)
        if served is not None:
            served.board.fields = fields
            self._look_at(node)

    async def disconnect(self, node: str) -> None:
        """See `base.Nodes`. Nothing is written: the Lease ends by itself."""
        async with self._lock(node):
            served = self._served.get(node)
            if served is None:
                return
            served.drop = None
            if not served.sleeps(_epoch_ms()):
                del self._served[node]

    def session(self, node: str) -> int:
        """Changes whenever another bridge has served `node` since this one did, see `base.Nodes`."""
        return self._lineage.get(node, 0)

    # -- for writers -------------------------------------------------------------------------

    async def verify(self, node: str) -> bool:
        """Whether the session is this bridge's now, by the API server itself. Raises ApiError."""
        claim = self._claims.get(node)
        if claim is None:
            return False
        try:
            body = await self._api.request("GET", f"{NODES}/{node}")
        except ApiError as error:
            if error.code == 404:
                return False
            raise
        if _session(body) == claim:
            return True
        self._lost(node, claim, _session(body))
        return False

    async def run(self) -> None:
        """Follow the Nodes, renew Leases and write what has changed, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.informer.run())
            tasks.create_task(self._keep_alive())
            tasks.create_task(self._look_for_sleepers())
            while True:
                await self._work.wait()
                self._work.clear()
                dirty, self._dirty = self._dirty, set()
                for node in dirty:
                    tasks.create_task(self._refresh(node))

    # -- whose board it is -------------------------------------------------------------------

    async def _claim(self, node: str, served: _Served) -> None:
        """Put this bridge's next session into the Node, made if there is none. Raises BackendError.

        First by what the informer knows: if that is not the newest any more the write says so.
        """
        for attempt in range(CLAIM_TRIES):
            try:
                stored = await self._get(node) if attempt else self.informer.objects.get(("", node))
                before = _session(stored) if stored else ""
                served.claim = f"{self._bridge}/{_epoch(before) + 1}"
                if stored is None:
                    body = await self._api.request("POST", NODES, _new(node, served))
                    _log.info("node registered", node=node, session=served.claim)
                else:
                    body = await self._api.request(
                        "PATCH", f"{NODES}/{node}", _claiming(node, served, stored), MERGE
                    )
            except ApiError as error:
                if error.code in (404, 409):
                    continue
                raise
            served.uid = body["metadata"]["uid"]
            served.body, served.registered, served.renewed_ms = body, stored is None, 0
            if before != self._claims.get(node, ""):
                self._lineage[node] = self._lineage.get(node, 0) + 1
            self._claims[node] = served.claim
            return
        raise BackendError(f"node {node} is changed by others all the time")

    async def _look_for_sleepers(self) -> None:
        """Take over the boards that sleep and have lost their bridge, now and then."""
        known: dict[tuple[str, str], float] = {}
        while True:
            now = time.monotonic()
            strangers = {}
            for (_, node), body in list(self.informer.objects.items()):
                if node not in self._served and sleepers.until_ms(body) is not None:
                    if _session(body).rpartition("/")[0] == self._bridge:
                        self._keep(node, body)  # it was this bridge's before it was started again
                    else:
                        strangers[node, _session(body)] = body
            known = {each: known.get(each, now) for each in strangers}
            old = [strangers[each] for each, at in known.items() if now - at > sleepers.OVERDUE_SECONDS]
            try:
                if old:
                    leases = await self._leases()
                    for node in sleepers.left_alone(old, leases, _epoch_ms()):
                        await self._take_over(node)
            except BackendError as error:
                _log.warning("cannot look after boards that sleep", error=error)
            await asyncio.sleep(LOOK_SECONDS * random.uniform(0.8, 1.2))

    async def _leases(self) -> dict[str, dict[str, Any]]:
        query = {"labelSelector": _OF_BOARDS, "resourceVersion": "0"}
        answer = await self._api.request("GET", LEASES, query=query)
        return {each["metadata"]["name"]: each for each in answer["items"]}

    async def _take_over(self, node: str) -> None:
        """Put this bridge's session into the Node of a board that sleeps, unless it has changed meanwhile."""
        async with self._lock(node):
            seen = self.informer.objects.get(("", node))
            if node in self._served or seen is None:
                return
            metadata = seen["metadata"]
            claim = f"{self._bridge}/{_epoch(_session(seen)) + 1}"
            change = {"resourceVersion": metadata["resourceVersion"], "annotations": {SESSION: claim}}
            try:
                body = await self._api.request("PATCH", f"{NODES}/{node}", {"metadata": change}, MERGE)
            except ApiError as error:
                if error.code in (404, 409):
                    return  # another bridge was first, or the board is back
                raise
            _log.info("board that sleeps is looked after here now", node=node, session=claim)
            self._lineage[node] = self._lineage.get(node, 0) + 1
            self._claims[node] = claim
            self._keep(node, body)

    def _keep(self, node: str, body: Mapping[str, Any]) -> None:
        """Look after a board that sleeps, whose Node is `body`."""
        served = _Served(nodebody.Board({}, "", 0, {"sleep_until": sleepers.until_ms(body)}), None)
        served.claim, served.uid, served.body = _session(body), body["metadata"]["uid"], body
        if not served.sleeps(_epoch_ms()):
            served.renewed_ms = 2**62  # it should be back: its Lease is not to be renewed any more
        self._served[node] = served
        self._look_at(node)

    async def _get(self, node: str) -> dict[str, Any] | None:
        try:
            body: dict[str, Any] = await self._api.request("GET", f"{NODES}/{node}")
        except ApiError as error:
            if error.code == 404:
                return None
            raise
        system = body["metadata"].get("labels", {}).get("kubernetes.io/os", "")
        if system != nodebody.OPERATING_SYSTEM:
            raise BackendError(f"node {node} is there already and no board: its os is {system or 'not said'}")
        return body

    def _changed(self, names: frozenset[Name]) -> None:
        known = {name for _, name in self.informer.objects}
        if known != self._known:
            self._known = known
            for listener in self._listeners:
                listener(known)
        for _, node in names:
            served = self._served.get(node)
            if served is None:
                continue
            body = self.informer.objects.get(("", node))
            if body is None:
                served.body, served.deletions = None, served.deletions + 1
            elif served.body is not None and _version(body) >= _version(served.body):
                served.body = None  # the informer has it, or a newer one, and two are not to be kept
            if body is None or _session(body) != served.claim or not _is_ready(body):
                self._look_at(node)

    def _look_at(self, node: str) -> None:
        self._dirty.add(node)
        self._work.set()

    async def _refresh(self, node: str) -> None:
        """Look at the Node of a connected board, and put right what is not as it should be."""
        async with self._parallel, self._lock(node):
            served = self._served.get(node)
            if served is None:
                return
            try:
                body = self._newest(node, served) or await self._get(node)
                if body is None and served.drop is not None:
                    await self._claim(node, served)
                    body = served.body
                if body is None or _session(body) != served.claim:
                    self._lost(node, served.claim, _session(body) if body else "")
                    return
                if served.drop is None:
                    if not isinstance(served.board.fields.get("sleep_until"), int):
                        return  # it was let go, and its connection has not ended yet
                    await self._write_sleep(node, served, body)
                    if served.alive_ms(_epoch_ms()) > served.renewed_ms:
                        await self._renew(node, served)
                    return
                await self._write_status(node, served, body)
                if not served.renewed_ms or not _is_ready(body):
                    await self._renew(node, served)
            except ApiError as error:
                _log.warning("cannot write the node, will try again", node=node, error=error)
                asyncio.get_running_loop().call_later(RENEW_SECONDS / 4, self._look_at, node)
            except BackendError as error:
                if served.drop is not None:
                    served.drop(str(error))

    def _newest(self, node: str, served: _Served) -> Mapping[str, Any] | None:
        """The Node as it was last seen or written here; None where only a look can tell."""
        seen = self.informer.objects.get(("", node))
        if seen is None or served.body is None:
            return served.body if seen is None else seen
        return max(seen, served.body, key=_version)

    def _lost(self, node: str, claim: str, now: str) -> None:
        if self._claims.get(node) == claim:
            del self._claims[node]
            self._lineage[node] = self._lineage.get(node, 0) + 1
        served = self._served.get(node)
        if served is not None and served.claim == claim:
            del self._served[node]
            if served.drop is not None:
                served.drop(f"served by {now.rpartition('/')[0] or 'nobody'} now")

    # -- what it is like, and that it is alive -----------------------------------------------

    async def _write_status(self, node: str, served: _Served, stored: Mapping[str, Any]) -> None:
        before = stored.get("status") or {}
        status = nodebody.status(node, served.board, before, _epoch_ms())
        if _differs(status, before):
            await self._patch(served, f"{NODES}/{node}/status", {"status": status}, STRATEGIC)
        until = served.board.fields.get("sleep_until")
        text = nodebody.rfc3339(until) if isinstance(until, int) and until > _epoch_ms() else None
        if stored["metadata"].get("annotations", {}).get(sleepers.SLEEP) != text:
            patch = {"metadata": {"annotations": {sleepers.SLEEP: text}}}
            await self._patch(served, f"{NODES}/{node}", patch, MERGE)

    async def _patch(self, served: _Served, path: str, patch: Mapping[str, Any], kind: str) -> None:
        before = served.deletions
        body = await self._api.request("PATCH", path, patch, kind)
        served.body = body if served.deletions == before else None

    async def _write_sleep(self, node: str, served: _Served, stored: Mapping[str, Any]) -> None:
        """Have the Node of a board that is not connected say that it sleeps, or that it should be back."""
        now_ms = _epoch_ms()
        until = served.board.fields["sleep_until"]
        conditions = nodebody.sleeping(until, (stored.get("status") or {}).get("conditions") or (), now_ms)
        if conditions:
            status = {"status": {"conditions": conditions}}
            await self._patch(served, f"{NODES}/{node}/status", status, STRATEGIC)
        if not served.sleeps(now_ms):
            gone = {"metadata": {"annotations": {sleepers.SLEEP: None}}}
            await self._api.request("PATCH", f"{NODES}/{node}", gone, MERGE)
            del self._served[node]

    async def _keep_alive(self) -> None:
        """Renew the Lease of every board that was heard since it was renewed last."""
        running: set[asyncio.Task[None]] = set()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now, now_ms = time.monotonic(), _epoch_ms()
            for node, served in list(self._served.items()):
                if served.due <= now and served.alive_ms(now_ms) > served.renewed_ms:
                    served.due = now + RENEW_SECONDS
                    task = asyncio.create_task(self._keep_one_alive(node, served))
                    running.add(task)
                    task.add_done_callback(running.discard)
                elif served.drop is None and not served.sleeps(now_ms) and not served.overdue:
                    served.overdue = True
                    self._look_at(node)  # it slept, and should be back by now
            if self._failing_since is not None and now - self._failing_since > LOST_SECONDS:
                self._let_go()

    async def _keep_one_alive(self, node: str, served: _Served) -> None:
        async with self._parallel:
            if self._served.get(node) is not served:
                return
            try:
                await self._renew(node, served)
            except ApiError as error:
                served.due = time.monotonic() + RENEW_SECONDS / 4
                self._failing_since = self._failing_since or time.monotonic()
                _log.warning("lease not renewed, will try again", node=node, error=error)

    async def _renew(self, node: str, served: _Served) -> None:
        """Write the Lease. Raises ApiError."""
        alive_ms = served.alive_ms(_epoch_ms())
        spec = {
            "holderIdentity": node,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": _micro_time(alive_ms),
        }
        labels = {"kubernetes.io/os": nodebody.OPERATING_SYSTEM}
        served.due = time.monotonic() + RENEW_SECONDS
        owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": served.uid}
        where = {"name": node, "namespace": "kube-node-lease"}
        metadata = {**where, "labels": labels, "ownerReferences": [owner]}
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
        patch = "PATCH", f"{LEASES}/{node}", {"metadata": {"labels": labels}, "spec": spec}, MERGE
        # What is more likely first: with a new Node there is no Lease yet.
        tries = [("POST", LEASES, body, JSON), patch]
        first, second = tries if served.registered else reversed(tries)
        try:
            await self._api.request(*first)
        except ApiError as error:
            if error.code not in (404, 409):
                raise
            await self._api.request(*second)
        served.registered = False
        served.renewed_ms = alive_ms
        self._failing_since = None

    def _let_go(self) -> None:
        for node, served in list(self._served.items()):
            if served.drop is not None:
                drop, served.drop = served.drop, None
                _log.warning("board let go, the API server cannot be reached", node=node)
                drop("the bridge cannot reach the API server")
        self._failing_since = None

    def _lock(self, node: str) -> asyncio.Lock:
        return self._locks.setdefault(node, asyncio.Lock())


def _new(node: str, served: _Served) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node,
            "labels": nodebody.labels(node, served.board),
            "annotations": {SESSION: served.claim},
        },
        "spec": {"taints": nodebody.taints()},
    }


def _claiming(node: str, served: _Served, stored: Mapping[str, Any]) -> dict[str, Any]:
    """The patch by which this bridge takes a Node that is there, in the version it was read in."""
    metadata = stored["metadata"]
    wanted = nodebody.labels(node, served.board)
    patch: dict[str, Any] = {
        "metadata": {
            "resourceVersion": metadata["resourceVersion"],
            "labels": {key: value for key, value in wanted.items() if key not in metadata.get("labels", {})},
            "annotations": {SESSION: served.claim},
        }
    }
    taints = stored.get("spec", {}).get("taints") or []
    if not any(each.get("key") == nodebody.TAINT for each in taints):
        patch["spec"] = {"taints": [*taints, *nodebody.taints()]}
    return patch


def _version(body: Mapping[str, Any]) -> int:
    return int(body["metadata"]["resourceVersion"])


def _session(body: Mapping[str, Any]) -> str:
    return str(body["metadata"].get("annotations", {}).get(SESSION, ""))


def _epoch(session: str) -> int:
    text = session.rpartition("/")[2]
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def _is_ready(body: Mapping[str, Any]) -> bool:
    conditions = body.get("status", {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _differs(status: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether a write is worth it: whether more than the heartbeats would change."""
    stored = {each["type"]: each for each in before.get("conditions") or ()}
    for each in status["conditions"]:
        known = stored.get(each["type"], {})
        if any(each[key] != known.get(key, "") for key in ("status", "reason")):
            return True
    return any(
        status[key] != before.get(key) for key in status if key not in ("conditions", "nodeInfo")
    ) or any(before.get("nodeInfo", {}).get(key, "") != value for key, value in status["nodeInfo"].items())


def _micro_time(epoch_ms: int) -> str:
    """Kubernetes' MicroTime: ``2026-11-22T21:05:00.123000Z``."""
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _epoch_ms() -> int:
    return time.time_ns() // 1_000_000
