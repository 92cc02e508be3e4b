"""Taking a board out of a cluster, and putting another in its place under the same name."""

import asyncio
from pathlib import Path

import pytest
from board_client import BoardClient, client_context, identity_in
from kubernetes_world import Bridge, Objects, config, node, prop, seen
from websockets.exceptions import InvalidStatus

from cloud_bridge.backends.kubernetes import command as command_module
from motelet.tools.cli import main
from motelet.tools.kubernetes.cluster import Cluster
from motelet.tools.load.board import SimulatedBoard


def test_a_broken_board_is_replaced_under_the_same_name(
    cluster: Cluster,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objects = Objects(cluster)
    objects.model("replaced", [prop("level")])
    objects.device("replaced", "board-rep", "replaced", level="4")
    identity = identity_in(tmp_path / "state")
    monkeypatch.setattr(command_module, "SETTLE_SECONDS", 1.5)
    command = ["bridge", "node", "remove", "board-rep", "--state", str(tmp_path / "state")]

    async def run() -> None:
        async with Bridge(cluster, identity=identity) as bridge:
            broken = client_context(identity, "board-rep")
            async with BoardClient(SimulatedBoard(), bridge.port, broken) as client:
                await client.until(lambda: client.board.flash)
                before = node(cluster, "board-rep")["metadata"]["uid"]
                arguments = [*command, "--kubeconfig", str(config(cluster))]
                assert await asyncio.to_thread(main, arguments) == 0
                await client.closed()
            assert node(cluster, "board-rep") is None
            with pytest.raises(InvalidStatus):
                async with BoardClient(SimulatedBoard(), bridge.port, broken):
                    pass
            await asyncio.sleep(1.1)  # a certificate of the same second counts among those revoked
            fresh = client_context(identity, "board-rep")
            async with BoardClient(SimulatedBoard(), bridge.port, fresh) as client:
                await client.until(lambda: client.board.flash)
                body = await seen(lambda: node(cluster, "board-rep"))
                assert body["metadata"]["uid"] != before

    asyncio.run(run())
    assert "node board-rep is gone" in capsys.readouterr().out


def test_what_is_no_board_is_not_removed(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    identity_in(tmp_path / "state")
    body = {"metadata": {"name": "worker-rm", "labels": {"kubernetes.io/os": "linux"}}}
    cluster.request("POST", "/api/v1/nodes", body)
    command = ["bridge", "node", "remove", "worker-rm", "--kubeconfig", str(config(cluster))]
    assert main([*command, "--state", str(tmp_path / "state")]) == 1
    assert "worker-rm is no board" in capsys.readouterr().err
    assert main([*command, "--state", str(tmp_path / "nowhere")]) == 1
    assert node(cluster, "worker-rm")
