"""EdgeController as CloudHub sees it: both directions behind one `resources.Controller`."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from cloud_bridge.backends.base import POD, Backend, Key
from cloud_bridge.edgecontroller.downstream import Downstream
from cloud_bridge.edgecontroller.effective import resource
from cloud_bridge.edgecontroller.upstream import Upstream, key_of
from cloud_bridge.resources import Desired, PodReport, Refusal, Settle, Upward


class EdgeController:
    """Joins the two directions. `start` after the backend has started; `run` writes until cancelled.

    `index` is the URL of the packages (see `packages`), None without any.
    """

    def __init__(self, backend: Backend, index: str | None = None) -> None:
        self._backend = backend
        self._downstream = Downstream(backend, index, self._look)
        self._upstream = Upstream(backend, self._downstream)
        self.start = self._downstream.start
        self.flush = self._upstream.flush

    async def run(self) -> None:
        """Write what boards say of their pods, and have tokens for them made, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._upstream.run())
            tasks.create_task(self._downstream.tokens.run())

    def _look(self, node: str) -> None:
        self._upstream.look(node)

    def desired(self, node: str) -> Desired:
        """What `node` should hold now."""
        return self._downstream.desired(node)

    def watch(self, changed: Callable[[str | None], None]) -> None:
        """Have `changed(node)` called whenever `desired(node)` may have changed."""
        self._downstream.watch(changed)

    def opened(self, node: str, info: Mapping[str, Any], address: str) -> None:
        """The board said hello, from `address`."""
        self._upstream.connected.add(node)
        self._upstream.addresses[node] = address
        self._downstream.opened(node, info)

    def closed(self, node: str) -> None:
        """The board's connection has ended."""
        self._upstream.connected.discard(node)
        self._downstream.tokens.closed(node)

    def take(self, node: str, message: Upward, settle: Settle) -> None:
        """Take what `node` says of a pod."""
        assert isinstance(message, PodReport)
        self._upstream.take(node, message, settle)

    def refused(self, node: str, held: str, refusal: Refusal) -> None:
        """`node` refused to hold `held`: tell the owner of the pod, or of each pod that may need it."""
        key = key_of(held)
        pods = [key] if key is not None else self._users(node, held)
        for each in pods:
            self._backend.tell(each, "FailedMount", f"node {node} refused {held}: {refusal.reason}", True)

    def log_of(self, namespace: str, name: str, container: str) -> tuple[str, str]:
        """Where a container's log is: (node, resource on the link); "": the first. Raises LookupError."""
        key = Key(POD, namespace, name)
        pod = self._backend.get(key)
        node = self._downstream.pods.node(key)
        if pod is None or not node:
            raise LookupError(f"pod {namespace}/{name} is on no node")
        names = [str(each.get("name", "")) for each in pod["spec"].get("containers") or ()]
        names += [str(each.get("name", "")) for each in pod["spec"].get("initContainers") or ()]
        if container and container not in names:
            raise LookupError(f"pod {namespace}/{name} has no container {container}, but {', '.join(names)}")
        return node, f"{resource(key)}/{container or names[0]}"

    def _users(self, node: str, held: str) -> list[Key]:
        return [
            key
            for key in sorted(self._downstream.pods.nodes.get(node, ()))
            if key.kind == POD and held.startswith(f"{key.namespace}/")
        ]
