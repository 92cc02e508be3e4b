"""Identities as Secrets of one namespace, which all bridges of a cluster share.

The pairs are ``motelet-ca`` and ``motelet-server``, of the type kubernetes.io/tls. The records are spread
over ``motelet-identities-0`` and on, all of a node in one Secret, so that a change of them is one write, with
the resourceVersion of what it was decided on: who comes second decides again, on what the first has made of
it. What others change is followed by a watch of each Secret by its name; these names are all that the bridge
needs a right to.
"""

import asyncio
import base64
import json
import random
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from typing import Any, Generic

from cloud_bridge.backends.base import BackendError
from cloud_bridge.backends.kubernetes.access import Access
from cloud_bridge.backends.kubernetes.api import MERGE, Api, ApiError
from cloud_bridge.backends.kubernetes.informer import Informer
from cloud_bridge.identity.store import CA, Issued, NodeRevocation, Pair, Record, Result, Tables, Token
from cloud_bridge.logs import Log

SHARDS = 8
"""Secrets with records. Which has a node's follows from this number: it is never to change."""
CONFLICTS_MAX = 20
"""How often a change is decided again because another bridge was first."""
CONFLICT_SECONDS_MAX = 0.2
LABEL = "motelet.dev/identity"
"""Of all these Secrets, for who makes a backup."""
_KINDS: Mapping[str, Any] = {"token": Token, "certificate": Issued, "node": NodeRevocation}
_PARTS = ("tls.crt", "tls.key")

_log = Log("identity")


class SecretTable(Generic[Record]):
    """`store.Table` in memory, which remembers in `changes` what was put (None: deleted)."""

    def __init__(self) -> None:
        self.damaged: set[str] = set()
        self.changes: dict[str, Record | None] = {}
        self._records: dict[str, Record] = {}

    def get(self, key: str) -> Record | None:
        """See `store.Table`."""
        return self._records.get(key)

    def values(self) -> Collection[Record]:
        """See `store.Table`."""
        return self._records.values()

    def put(self, key: str, record: Record) -> None:
        """See `store.Table`."""
        self.changes[key] = self._records[key] = record
        self.damaged.discard(key)

    def delete(self, key: str) -> None:
        """See `store.Table`."""
        self.changes[key] = None
        self.load(key, None)

    def load(self, key: str, record: Record | None) -> None:
        """This is what is stored."""
        self.damaged.discard(key)
        if record is None:
            self._records.pop(key, None)
        else:
            self._records[key] = record

    def spoil(self, key: str) -> None:
        """What is stored cannot be read."""
        self._records.pop(key, None)
        self.damaged.add(key)


class _Shard:
    """One Secret with records: `data` is what its keys have, in base64, as far as it is known here."""

    def __init__(self, name: str, informer: Informer) -> None:
        self.name = name
        self.informer = informer
        self.data: Mapping[str, str] = {}
        self.lock = asyncio.Lock()


class SecretStore:
    """`store.Store` in `namespace`: `open` it, have `run` follow it, `close` it."""

    def __init__(self, access: Access, namespace: str) -> None:
        self._api = Api(access)
        self._namespace = namespace
        self._path = f"/api/v1/namespaces/{namespace}/secrets"
        self._shards = [self._shard(number) for number in range(SHARDS)]
        self._changed: set[_Shard] = set()
        self._tables = {kind: SecretTable[Any]() for kind in _KINDS}
        self.tables = Tables(*self._tables.values())

    async def open(self) -> None:
        """Read everything. Raises BackendError."""
        await asyncio.gather(*(shard.informer.list() for shard in self._shards))
        self.refresh()

    async def run(self) -> None:
        """Follow what others change, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for shard in self._shards:
                tasks.create_task(shard.informer.run())

    async def close(self) -> None:
        """Close all connections."""
        await self._api.close()

    def refresh(self) -> bool:
        """See `store.Store`."""
        changed, self._changed = self._changed, set()
        for shard in changed:
            secret = shard.informer.objects.get((self._namespace, shard.name))
            self._load(shard, (secret or {}).get("data") or {})
        return bool(changed)

    async def change(self, node: str, act: Callable[[Tables], Result]) -> Result:
        """See `store.Store`."""
        shard = self._shards[zlib.crc32(node.encode()) % SHARDS]
        async with shard.lock:  # two changes of this bridge are not to be in each other's way
            for _ in range(CONFLICTS_MAX):
                secret = await self._get(shard.name)
                data = (secret or {}).get("data") or {}
                tables = {kind: SecretTable[Any]() for kind in _KINDS}
                _apply(tables, {}, data)
                result = act(Tables(*tables.values()))
                if changes := _encoded(tables):
                    written = await self._write(shard.name, secret, changes)
                    if written is None:
                        await asyncio.sleep(random.uniform(0, CONFLICT_SECONDS_MAX))
                        continue
                    data = written.get("data") or {}
                self._load(shard, data)
                return result
        raise BackendError(f"{self._called(shard.name)} is changed by others all the time")

    async def pair(
        self, name: str, good: Callable[[bytes | None, bytes | None], bool], make: Callable[[], Pair]
    ) -> tuple[bytes, bytes | None]:
        """See `store.Store`. A CA that is missing though it has signed is an error, never made again."""
        secret_name = f"motelet-{name}"
        for _ in range(CONFLICTS_MAX):
            secret = await self._get(secret_name)
            data = (secret or {}).get("data") or {}
            certificate, key = (_decoded(data.get(part)) for part in _PARTS)
            if certificate is not None and good(certificate, key):
                return certificate, key
            if name == CA and (secret or any(shard.data for shard in self._shards)):
                raise BackendError(
                    f"{self._called(secret_name)} is missing or empty: restore it from the backup"
                )
            made = make()
            parts = {part: _base64(content) for part, content in zip(_PARTS, made, strict=True)}
            if await self._write(secret_name, secret, parts, "kubernetes.io/tls") is not None:
                return made
        raise BackendError(f"{self._called(secret_name)} is changed by others all the time")

    def where(self, name: str) -> tuple[str, str]:
        """See `store.Store`."""
        called = self._called(f"motelet-{name}")
        return f"{_PARTS[0]} of {called}", f"{_PARTS[1]} of {called}"

    # -- parts -------------------------------------------------------------------------------

    def _shard(self, number: int) -> _Shard:
        name = f"motelet-identities-{number}"
        query = {"fieldSelector": f"metadata.name={name}"}
        informer = Informer(self._api, self._path, lambda _: self._changed.add(shard), query)
        shard = _Shard(name, informer)
        return shard

    async def _get(self, name: str) -> dict[str, Any] | None:
        try:
            secret: dict[str, Any] = await self._api.request("GET", f"{self._path}/{name}")
        except ApiError as error:
            if error.code == 404:
                return None
            raise
        return secret

    async def _write(
        self,
        name: str,
        stored: Mapping[str, Any] | None,
        data: Mapping[str, str | None],
        kind: str = "Opaque",
    ) -> dict[str, Any] | None:
        """Change the Secret from `stored`; -> what it is now, None when it is another by then."""
        try:
            if stored is None:
                metadata: dict[str, Any] = {"name": name, "labels": {LABEL: ""}}
                body = {"metadata": metadata, "type": kind, "data": data}
                secret: dict[str, Any] = await self._api.request("POST", self._path, body)
            else:
                body = {"metadata": {"resourceVersion": stored["metadata"]["resourceVersion"]}, "data": data}
                secret = await self._api.request("PATCH", f"{self._path}/{name}", body, MERGE)
        except ApiError as error:
            if error.code in (404, 409):
                return None
            if error.code in (413, 422):
                raise BackendError(f"{self._called(name)} takes no more: {error}") from error
            raise
        return secret

    def _load(self, shard: _Shard, data: Mapping[str, str]) -> None:
        for key in _apply(self._tables, shard.data, data):
            _log.error("record cannot be read, restore it from the backup", secret=shard.name, key=key)
        shard.data = data

    def _called(self, name: str) -> str:
        return f"Secret {self._namespace}/{name}"


def _apply(
    tables: Mapping[str, SecretTable[Any]], before: Mapping[str, str], data: Mapping[str, str]
) -> list[str]:
    """Have the tables, which show `before`, show `data`; -> the keys of what cannot be read."""
    spoilt = []
    for key in before.keys() | data.keys():
        kind, _, name = key.partition(".")
        if before.get(key) == data.get(key) or kind not in tables:
            continue
        try:
            fields = json.loads(base64.b64decode(data[key])) if key in data else None
            tables[kind].load(name, None if fields is None else _KINDS[kind](**fields))
        except (ValueError, TypeError):
            tables[kind].spoil(name)
            spoilt.append(key)
    return spoilt


def _encoded(tables: Mapping[str, SecretTable[Any]]) -> dict[str, str | None]:
    """The changes of the tables as a Secret has them."""
    return {
        f"{kind}.{key}": None if record is None else _base64(json.dumps(asdict(record)).encode())
        for kind, table in tables.items()
        for key, record in table.changes.items()
    }


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _decoded(text: str | None) -> bytes | None:
    return base64.b64decode(text) if text else None
