"""All objects of one kind as they are now: listed once, then watched from that resourceVersion on.

A watch that ends goes on where it was. Where the server has forgotten that version (410 Gone) everything
is listed again, and what is missing from the new list has been deleted. While the server cannot be asked,
the objects are what they last were.
"""

import asyncio
import random
from collections.abc import Callable, Collection, Mapping
from contextlib import aclosing
from typing import Any

from cloud_bridge.backends.kubernetes.api import Api, ApiError
from cloud_bridge.logs import Log

PAGE = 500
"""Objects in one answer of a list."""
WATCH_SECONDS = (240, 480)
"""The server ends a watch after a random time between these."""
RETRY_SECONDS_MIN = 0.1
RETRY_SECONDS_MAX = 5.0

Name = tuple[str, str]
"""Namespace (empty for what has none) and name."""
Object = Mapping[str, Any]

_log = Log("kubernetes")


class Informer:
    """Follows the objects at `path` that `query` selects.

    `changed(names)` is called when these objects may differ; with none, when `synced` became true. Objects
    that `keep` refuses are treated as if they were not there.
    """

    def __init__(
        self,
        api: Api,
        path: str,
        changed: Callable[[frozenset[Name]], None],
        query: Mapping[str, str] | None = None,
        keep: Callable[[Object], bool] = lambda _: True,
    ) -> None:
        self.objects: dict[Name, dict[str, Any]] = {}
        self.synced = False
        self.failing = self.forbidden = False
        self._stale = False
        self._api = api
        self._path = path
        self._changed = changed
        self._query = dict(query or {})
        self._keep = keep
        self._version = ""

    async def list(self) -> None:
        """Read everything. Raises ApiError."""
        found: dict[Name, dict[str, Any]] = {}
        query = {**self._query, "limit": str(PAGE)}
        while True:
            answer = await self._api.request("GET", self._path, query=query)
            for each in answer["items"]:
                self._take(found, each)
            more = answer["metadata"].get("continue")
            if not more:
                break
            query["continue"] = more
        self._version = answer["metadata"]["resourceVersion"]
        before, self.objects = self.objects, found
        first, self.synced = not self.synced, True
        names = {name for name in before.keys() | found.keys() if before.get(name) != found.get(name)}
        if names or first:
            self._changed(frozenset(names))

    async def run(self) -> None:
        """Follow the objects until cancelled."""
        retry = RETRY_SECONDS_MIN
        while True:
            try:
                if not self._version:
                    await self.list()
                async with aclosing(self._api.watch(self._path, self._watch_query())) as watch:
                    async for events in watch:
                        self._recovered()
                        retry = RETRY_SECONDS_MIN
                        self._apply(events)
                        if self._stale:
                            break
                if self._stale:
                    self._version, self._stale = "", False
            except ApiError as error:
                if error.code == 410:
                    self._version = ""
                    _log.info("listing again, the version is too old", path=self._path)
                    continue
                self._failed(error)
                await asyncio.sleep(max(error.retry_after, retry) * random.uniform(0.8, 1.2))
                retry = min(retry * 2, RETRY_SECONDS_MAX)

    def again(self) -> None:
        """List everything again soon: `keep` has changed its mind."""
        self._stale = True

    def _watch_query(self) -> dict[str, str]:
        return {
            **self._query,
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(random.randint(*WATCH_SECONDS)),
        }

    def _apply(self, events: Collection[Mapping[str, Any]]) -> None:
        """Take in events. Raises ApiError for one that says that the watch is over."""
        names: set[Name] = set()
        try:
            for event in events:
                kind, each = event["type"], event["object"]
                if kind == "ERROR":
                    raise ApiError(int(each.get("code") or 0), str(each.get("message", "")))
                if kind == "DELETED":
                    name = _name(each)
                    self.objects.pop(name, None)
                    names.add(name)
                elif kind != "BOOKMARK":
                    names.add(self._take(self.objects, each))
                self._version = each["metadata"]["resourceVersion"]
        finally:
            if names:
                self._changed(frozenset(names))

    def _take(self, objects: dict[Name, dict[str, Any]], each: dict[str, Any]) -> Name:
        name = _name(each)
        each["metadata"].pop("managedFields", None)  # as large as the rest, and of no use here
        if self._keep(each):
            objects[name] = each
        else:
            objects.pop(name, None)
        return name

    def _failed(self, error: ApiError) -> None:
        self.forbidden = error.code == 403
        if not self.failing:
            self.failing = True
            _log.error("cannot follow, everything stays as it is", path=self._path, error=error)

    def _recovered(self) -> None:
        self.forbidden = False
        if self.failing:
            self.failing = False
            _log.info("following again", path=self._path)


def _name(each: Object) -> Name:
    metadata = each["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
