"""DeviceController and EdgeController behind one `resources.Controller`: CloudHub sees no difference."""

from collections.abc import Callable, Mapping
from typing import Any

from cloud_bridge.devicecontroller.controller import DeviceController
from cloud_bridge.edgecontroller.controller import EdgeController
from cloud_bridge.resources import Desired, PodReport, Refusal, Settle, Upward


class Controllers:
    """What a node should hold is what both say; what it says goes to the one that it concerns."""

    def __init__(self, devices: DeviceController, pods: EdgeController) -> None:
        self._devices = devices
        self._pods = pods

    def desired(self, node: str) -> Desired:
        """What `node` should hold now."""
        devices, pods = self._devices.desired(node), self._pods.desired(node)
        return Desired(
            {**devices.items, **pods.items}, {*devices.kept, *pods.kept}, devices.synced and pods.synced
        )

    def watch(self, changed: Callable[[str | None], None]) -> None:
        """Have `changed(node)` called whenever `desired(node)` may have changed; None stands for all."""
        self._devices.watch(changed)
        self._pods.watch(changed)

    def opened(self, node: str, info: Mapping[str, Any], address: str) -> None:
        """The board said hello."""
        self._pods.opened(node, info, address)

    def closed(self, node: str) -> None:
        """The board's connection has ended."""
        self._pods.closed(node)

    def take(self, node: str, message: Upward, settle: Settle) -> None:
        """Take a message of `node`; `settle` is called when its fate is known."""
        controller = self._pods if isinstance(message, PodReport) else self._devices
        controller.take(node, message, settle)

    def refused(self, node: str, resource: str, refusal: Refusal) -> None:
        """`node` refused to hold `resource` as it is desired now."""
        controller = self._devices if "/device/" in resource else self._pods
        controller.refused(node, resource, refusal)
