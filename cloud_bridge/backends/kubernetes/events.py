"""Events: what is told about an object, for `kubectl describe` and `kubectl events`.

An event's name follows from what it says about which object, so that a bridge that is started again, or
another one, tells nothing twice: it counts the event that is there. Telling is never waited for, and what
cannot be told is in the log.
"""

import asyncio
import time
from collections import OrderedDict
from hashlib import sha256
from typing import Any

from cloud_bridge.backends.base import Body, Key
from cloud_bridge.backends.kubernetes.api import MERGE, Api, ApiError
from cloud_bridge.backends.nodebody import rfc3339
from cloud_bridge.logs import Log
from cloud_bridge.names import NAME_SIZE_MAX

TEXT_MAX = 1024
"""Characters; Kubernetes takes no longer message."""
QUEUE_MAX = 256
"""Events that wait to be told; the oldest are dropped."""
AGAIN_SECONDS = 600.0
"""The same is told again after this time."""
RETRY_SECONDS = 5.0
_COMPONENT = "motelet-bridge"

_log = Log("kubernetes")


class Events:
    """Tells events in the order in which they came; `run` does."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._queue: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._told: OrderedDict[str, float] = OrderedDict()
        self._work = asyncio.Event()

    def tell(self, key: Key, body: Body | None, reason: str, text: str, warning: bool) -> None:
        """Have something told about an object, whose `body` is given if there is one."""
        now = time.monotonic()
        event = _event(key, body, reason, text, warning)
        name = event["metadata"]["name"]
        if name in self._queue or now - self._told.get(name, float("-inf")) < AGAIN_SECONDS:
            return
        self._queue[name] = event
        self._told[name] = now
        self._told.move_to_end(name)
        while len(self._told) > QUEUE_MAX:
            self._told.popitem(last=False)
        if len(self._queue) > QUEUE_MAX:
            dropped, _ = self._queue.popitem(last=False)
            _log.warning("too many events, one is not told", event=dropped)
        self._work.set()

    async def run(self) -> None:
        """Tell what there is to tell, until cancelled."""
        while True:
            await self._work.wait()
            while self._queue:
                name, event = next(iter(self._queue.items()))
                try:
                    await self._write(event)
                except ApiError as error:
                    if error.code in (0, 429) or error.code >= 500:
                        await asyncio.sleep(RETRY_SECONDS)
                        continue
                    _log.warning("event not told", event=name, error=error)
                self._queue.pop(name, None)
            self._work.clear()

    async def _write(self, event: dict[str, Any]) -> None:
        path = f"/api/v1/namespaces/{event['metadata']['namespace']}/events"
        try:
            await self._api.request("POST", path, event)
        except ApiError as error:
            if error.code != 409:
                raise
            path = f"{path}/{event['metadata']['name']}"
            stored = await self._api.request("GET", path)
            again = {"count": (stored.get("count") or 1) + 1, "lastTimestamp": event["lastTimestamp"]}
            await self._api.request("PATCH", path, again, MERGE)


def _event(key: Key, body: Body | None, reason: str, text: str, warning: bool) -> dict[str, Any]:
    metadata = body["metadata"] if body else {}
    uid = str(metadata.get("uid", ""))
    digest = sha256("\0".join((str(key), uid, reason, text)).encode()).hexdigest()[:16]
    now = rfc3339(time.time_ns() // 1_000_000)
    involved = {"kind": key.kind, "name": key.name, "uid": uid}
    if body and "apiVersion" in body:
        involved["apiVersion"] = body["apiVersion"]
    if key.namespace:
        involved["namespace"] = key.namespace
    return {
        "metadata": {
            "name": f"{key.name[: NAME_SIZE_MAX - 17].rstrip('-.')}.{digest}",
            "namespace": key.namespace or "default",
        },
        "involvedObject": involved,
        "reason": reason,
        "message": text[:TEXT_MAX],
        "type": "Warning" if warning else "Normal",
        "source": {"component": _COMPONENT},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
