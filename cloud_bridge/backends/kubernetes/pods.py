"""Pods of boards, and the ConfigMaps and Secrets that they refer to.

Pods are watched all together and those of other nodes are forgotten at once. ConfigMaps and Secrets are
watched one by one, by name, so that the bridge needs no right to see those of others; one that it may not
see is as if it were not there, and the pods that need it say so.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from cloud_bridge.backends import podstatus, tokenrequest
from cloud_bridge.backends.base import (
    CONFIG_MAP,
    POD,
    SECRET,
    Body,
    Key,
    LostError,
    NoObjectError,
    PodChange,
    RefusedError,
    Token,
    TokenRequest,
)
from cloud_bridge.backends.kubernetes.api import MERGE, Api, ApiError
from cloud_bridge.backends.kubernetes.informer import Informer, Name, Object
from cloud_bridge.backends.kubernetes.nodes import KubernetesNodes
from cloud_bridge.backends.nodebody import rfc3339
from cloud_bridge.logs import Log

PLURALS = {CONFIG_MAP: "configmaps", SECRET: "secrets"}
CONFLICTS_MAX = 5
REFERRED_MAX = 4096
"""ConfigMaps and Secrets that are watched at a time."""
_TOKEN_REFUSALS = (400, 403, 404, 409, 422)
_TOKEN_HINT = " (motelet-bridge-tokens is not bound in the namespace: cloud_bridge/deploy/README.md)"

_log = Log("kubernetes")


class Pods:
    """Follows pods and what they refer to; `changed(keys)` is called when these may differ."""

    def __init__(self, api: Api, nodes: KubernetesNodes, changed: Callable[[frozenset[Key]], None]) -> None:
        self._api = api
        self._nodes = nodes
        self._changed = changed
        self.informer = Informer(api, "/api/v1/pods", self._teller(POD), keep=self._ours)
        self._referred: dict[Key, tuple[Informer, asyncio.Task[None] | None]] = {}
        self._boards: set[str] = set()
        self._running: asyncio.TaskGroup | None = None

    def synced(self) -> bool:
        """Whether everything was read at least once, or is not to be had."""
        referred = (informer for informer, _ in self._referred.values())
        return self.informer.synced and all(each.synced or each.forbidden for each in referred)

    def get(self, key: Key) -> Body | None:
        """See `base.Backend`."""
        if key.kind == POD:
            return self.informer.objects.get((key.namespace, key.name))
        referred = self._referred.get(key)
        return referred[0].objects.get((key.namespace, key.name)) if referred is not None else None

    def keys(self, kind: str) -> Collection[Key]:
        """See `base.Backend`."""
        if kind == POD:
            return [Key(POD, *name) for name in self.informer.objects]
        return [key for key in self._referred if key.kind == kind and self.get(key) is not None]

    def refer(self, kind: str, keys: Collection[Key]) -> None:
        """Watch just these of the kind. See `base.Backend`."""
        for key in [each for each in self._referred if each.kind == kind and each not in keys]:
            _, task = self._referred.pop(key)
            if task is not None:
                task.cancel()
        for key in keys:
            if key in self._referred:
                continue
            if len(self._referred) >= REFERRED_MAX:
                _log.error(
                    "too many objects are referred to, one is not watched", key=key, limit=REFERRED_MAX
                )
                continue
            path = f"/api/v1/namespaces/{key.namespace}/{PLURALS[kind]}"
            query = {"fieldSelector": f"metadata.name={key.name}"}
            informer = Informer(self._api, path, self._teller(kind), query)
            task = self._running.create_task(informer.run()) if self._running is not None else None
            self._referred[key] = informer, task

    def boards(self, names: Collection[str]) -> None:
        """These are the Nodes that are boards now; the pods of new ones have to be looked for."""
        fresh = set(names) - self._boards
        self._boards = set(names)
        if fresh and self.informer.synced:
            self.informer.again()

    async def run(self) -> None:
        """Follow them until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._running = tasks
            for key, (informer, _) in list(self._referred.items()):
                self._referred[key] = informer, tasks.create_task(informer.run())
            await self.informer.run()

    async def write(self, key: Key, change: PodChange) -> None:
        """Merge the change into the Pod's status. Raises ApiError, NoObjectError, LostError."""
        path = f"/api/v1/namespaces/{key.namespace}/pods/{key.name}"
        for _ in range(CONFLICTS_MAX):
            try:
                pod = await self._api.request("GET", path)
                if pod["metadata"]["uid"] != change.uid:
                    raise NoObjectError(f"{key} is another one by now")
                node = pod["spec"].get("nodeName", "")
                if not await self._nodes.verify(node):
                    raise LostError(f"node {node} is served by another bridge now")
                if change.deleted:
                    await self._api.request("DELETE", path, _gone(change.uid))
                else:
                    await self._patch(path, pod, change)
                return
            except ApiError as error:
                if error.code == 404:
                    raise NoObjectError(str(key)) from error
                if error.code != 409:
                    raise
        raise ApiError(409, f"{key}: somebody else writes its status all the time")

    async def request_token(self, request: TokenRequest) -> Token:
        """See `base.Backend`."""
        accounts = f"/api/v1/namespaces/{request.pod.namespace}/serviceaccounts"
        try:
            answer = await self._api.request(
                "POST", f"{accounts}/{request.account}/token", tokenrequest.body(request)
            )
        except ApiError as error:
            if error.code not in _TOKEN_REFUSALS:
                raise
            hint = _TOKEN_HINT if error.code == 403 else ""
            raise RefusedError(f"no token of service account {request.account}: {error}{hint}") from error
        return tokenrequest.token_of(answer)

    async def _patch(self, path: str, pod: Mapping[str, Any], change: PodChange) -> None:
        stored = pod.get("status") or {}
        status = podstatus.merge(stored, change.status, rfc3339(_epoch_ms()))
        if status == stored:
            return
        removed = dict.fromkeys(stored.keys() - status.keys())
        metadata = {"uid": change.uid, "resourceVersion": pod["metadata"]["resourceVersion"]}
        body = {"metadata": metadata, "status": {**removed, **status}}
        await self._api.request("PATCH", f"{path}/status", body, MERGE)

    def _ours(self, pod: Object) -> bool:
        return pod["spec"].get("nodeName") in self._boards

    def _teller(self, kind: str) -> Callable[[frozenset[Name]], None]:
        return lambda names: self._changed(frozenset(Key(kind, *name) for name in names))


def _gone(uid: str) -> dict[str, Any]:
    return {
        "kind": "DeleteOptions",
        "apiVersion": "v1",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": uid},
    }


def _epoch_ms() -> int:
    return time.time_ns() // 1_000_000
