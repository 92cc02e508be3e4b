"""DeviceController as CloudHub sees it: both directions behind one `resources.Controller`."""

from collections.abc import Callable, Mapping
from typing import Any

from cloud_bridge.backends.base import DEVICE, Backend, FieldError, Key
from cloud_bridge.devicecontroller.downstream import Downstream
from cloud_bridge.devicecontroller.upstream import Upstream
from cloud_bridge.resources import Desired, PodReport, Refusal, Settle, Upward


class DeviceController:
    """Joins the two directions. `start` after the backend has started; `run` writes until cancelled."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._downstream = Downstream(backend)
        self._upstream = Upstream(backend, self._downstream)
        self.start = self._downstream.start
        self.run = self._upstream.run
        self.flush = self._upstream.flush

    def desired(self, node: str) -> Desired:
        """What `node` should hold now."""
        return self._downstream.desired(node)

    def watch(self, changed: Callable[[str | None], None]) -> None:
        """Have `changed(node)` called whenever `desired(node)` may have changed; None stands for all."""
        self._downstream.watch(changed)

    def opened(self, node: str, info: Mapping[str, Any], address: str) -> None:
        """The board said hello; nothing of a Device depends on what it said."""

    def closed(self, node: str) -> None:
        """The board's connection has ended; its Devices stay what they were."""

    def take(self, node: str, message: Upward, settle: Settle) -> None:
        """Take a message of `node`; `settle` is called when it is durable or refused."""
        assert not isinstance(message, PodReport)
        self._upstream.take(node, message, settle)

    def refused(self, node: str, resource: str, refusal: Refusal) -> None:
        """`node` refused to hold `resource` as it is desired now: tell the owner of the Device."""
        namespace, _, name = resource.partition("/device/")
        text = f"node {node} refused it: {refusal.reason}"
        self._backend.complain(Key(DEVICE, namespace, name), [FieldError((), text)])
