"""A lost mirror is filled again by what `motelet bridge refill` does, with the stand-in for CloudCore."""

import asyncio
import shutil

import pytest
from cloudhub_peer import CloudHubPeer
from memory_backend import device
from test_backend import _hurry, condition
from world import LAMP, NODE, World

from cloud_bridge.backends.base import BackendError
from cloud_bridge.backends.cloudcore import mirror
from cloud_bridge.backends.cloudcore.backend import lock
from cloud_bridge.backends.cloudcore.mirror import Mirror
from cloud_bridge.backends.cloudcore.refill import SYNCS, refill_from
from cloud_bridge.backends.kubernetes.api import ApiError
from motelet import protocol
from motelet.tools.load.board import SimulatedBoard

hurry = _hurry
OTHER = "default/device/other"


class PeerApi:
    """The cluster of the stand-in as refill sees it: what it asks the API server for. Pages of one."""

    def __init__(self, peer: CloudHubPeer) -> None:
        self.peer = peer

    async def request(self, method, path, body=None, kind="", query=None):
        if path.startswith("/api/v1/nodes/"):
            node = self.peer.objects.get(("Node", "", path.rpartition("/")[2]))
            if node is None:
                raise ApiError(404, f"{path}: not found")
            if method == "GET":
                return node
            node["metadata"].setdefault("annotations", {}).update(body["metadata"]["annotations"])
            return node
        if method == "GET":
            return self._page(path, int(query.get("continue", 0)))
        node, _, uid = path.removesuffix("/status").rpartition("/")[2].rpartition(".")
        self.peer.sync[(node, uid)]["version"] = body["status"]["objectResourceVersion"]
        return {}

    def _page(self, path, at):
        assert path in (f"{SYNCS}/objectsyncs", f"{SYNCS}/clusterobjectsyncs")
        found = [] if "cluster" in path else list(self.peer.sync.items())
        items = [
            {
                "metadata": {"name": f"{node}.{uid}", "namespace": record["namespace"]},
                "spec": {"objectKind": record["kind"], "objectName": record["name"]},
            }
            for (node, uid), record in found[at : at + 1]
        ]
        more = {"continue": str(at + 1)} if at + 1 < len(found) else {}
        return {"items": items, "metadata": more}


async def refilled(world, folder):
    """Do as the command does; -> its counts."""
    with lock(folder):
        store = Mirror(folder / "mirror.db")
        counts = await refill_from(store, PeerApi(world.peer), [NODE])
        await store.close()
    return counts


def test_a_lost_mirror_is_filled_again_and_nothing_leaves_the_board_before_it_is(tmp_path):
    async def main():
        async with World(tmp_path / "state") as world:
            world.lamp()
            world.peer.apply(device("other"))
            board = SimulatedBoard()
            async with world.bridge.board(board) as client:
                world.peer.resend()
                await client.until(lambda: {LAMP, OTHER} <= board.flash.keys())
                await client.until(lambda: all(each["version"] != "0" for each in world.peer.sync.values()))
            await world.until(lambda: not world.peer.sessions)
            await world.bridge.stop()
            shutil.rmtree(world.folder)
            world.peer.delete("Device", "other")

            world.bridge = await world.start_bridge()
            async with world.bridge.board(board) as client:
                await client.flush()
                assert await client.closed() == 4005  # the Node names the mirror that is lost
            assert {LAMP, OTHER} <= board.flash.keys()
            await world.bridge.stop()

            assert await refilled(world, world.folder) == {NODE: 3}
            world.bridge = await world.start_bridge()
            backend = world.bridge.backend
            assert not backend.synced(NODE)
            came = len(board.log)
            async with world.bridge.board(board) as client:
                await client.until(lambda: backend.synced(NODE) and board.flash.keys() == {LAMP})
                await client.until(lambda: condition(world, "Ready").get("status") == "True")
            kinds = [each[0] for each in board.log[came:]]
            assert protocol.PUT not in kinds  # the lamp is as it was
            assert world.peer.faults == []

    asyncio.run(main())


def test_a_mirror_in_use_and_a_node_that_is_not_there(tmp_path):
    async def main():
        async with World(tmp_path / "state") as world:
            with pytest.raises(BackendError, match="another bridge has the state folder"):
                await refilled(world, world.folder)
            (tmp_path / "other").mkdir()
            store = Mirror(tmp_path / "other" / "mirror.db")
            await store.write([mirror.own(NODE, "uid")])
            with pytest.raises(ApiError, match="not found"):
                await refill_from(store, PeerApi(world.peer), [NODE])
            assert store.nodes() == {NODE: "uid"}
            await store.close()

    asyncio.run(main())
