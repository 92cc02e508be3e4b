"""DeviceController as CloudHub sees it: both directions behind one `resources.Controller`."""

from collections.abc import Callable

from cloud_bridge.backends.base import DEVICE, Backend, FieldError, Key
from cloud_bridge.devicecontroller.downstream import Downstream
from cloud_bridge.devicecontroller.upstream import Upstream
from cloud_bridge.resources import Desired, Refusal, Settle, Upward


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

    def take(self, node: str, message: Upward, settle: Settle) -> None:
        """Take a message of `node`; `settle` is called when it is durable or refused."""
        self._upstream.take(node, message, settle)

    def refused(self, node: str, resource: str, refusal: Refusal) -> None:
        """`node` refused to hold `resource` as it is desired now: tell the owner of the Device."""
        namespace, _, name = resource.partition("/device/")
        text = f"node {node} refused it: {refusal.reason}"
        self._backend.complain(Key(DEVICE, namespace, name), [FieldError((), text)])
