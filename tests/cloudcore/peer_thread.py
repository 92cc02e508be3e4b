"""The stand-in for CloudCore in a thread of its own, for tests whose other parts are processes."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from cloudhub_peer import CloudHubPeer

MANIFESTS = Path(__file__).parents[2] / "tools" / "demo" / "manifests"
T = TypeVar("T")


class PeerThread:
    """`peer` runs in the thread; `call` is how another one asks it for something."""

    def __init__(self, scale: float = 1.0) -> None:
        self.peer = CloudHubPeer(scale)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = self.run(self.peer.start())

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def call(self, function: Callable[[CloudHubPeer], T]) -> T:
        async def called() -> T:
            return function(self.peer)

        result: T = self.run(called())
        return result

    def restart(self) -> None:
        """As a CloudCore that is killed and started again."""
        self.run(self.peer.stop())
        self.run(self.peer.start(self.port))

    def stop(self) -> None:
        self.run(self.peer.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def thermostat(self, port: int) -> None:
        """The demo's thermostat, at this Modbus port, is made in the cluster."""
        for body in bodies():
            if body["kind"] == "Device":
                body["spec"]["protocol"]["configData"]["port"] = port
            self.call(lambda peer, body=body: peer.apply(body))


def bodies() -> list[dict[str, Any]]:
    """The demo's DeviceModel, and its Device after that."""
    found = [
        body for path in sorted(MANIFESTS.glob("*.yaml")) for body in yaml.safe_load_all(path.read_text())
    ]
    return sorted(found, key=lambda body: body["kind"] == "Device")
