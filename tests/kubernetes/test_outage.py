"""A board that is away past the eviction time keeps its pods, by the policy that deploy/admission.yaml is."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from board_client import BoardClient
from kubernetes_world import DEPLOY, Bridge, get, node, seen
from websockets.exceptions import ConnectionClosed

from cloud_bridge.backends.kubernetes import nodes as nodes_module
from motelet.tools.kubernetes.cluster import Cluster

PODS = "/api/v1/namespaces/default/pods"
ON_BOARDS = {"nodeSelector": {"kubernetes.io/os": "micropython"}}
UNREACHABLE, NOT_READY = "node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"
ENDLESS = [{"key": key, "operator": "Exists", "effect": "NoExecute"} for key in (NOT_READY, UNREACHABLE)]
BRIEF = [{**each, "tolerationSeconds": 1} for each in ENDLESS]


def pod(name: str, **spec: Any) -> dict[str, Any]:
    containers = [{"name": "main", "image": "micropython"}]
    return {"metadata": {"name": name}, "spec": {"containers": containers, **spec}}


def admitted(cluster: Cluster, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The tolerations that the pod would have."""
    return list(cluster.request("POST", f"{PODS}?dryRun=All", body)["spec"]["tolerations"])


@pytest.fixture(scope="module")
def policy(cluster: Cluster) -> Iterator[None]:
    """The policy, in force; the API server takes a moment for that."""
    cluster.kubectl("apply", "--filename", str(DEPLOY / "admission.yaml"))
    asyncio.run(seen(lambda: admitted(cluster, pod("probe", **ON_BOARDS)) == ENDLESS))
    yield
    cluster.kubectl("delete", "--filename", str(DEPLOY / "admission.yaml"))


def test_pods_for_boards_tolerate_that_theirs_is_away(cluster: Cluster, policy: None) -> None:
    taint = {"key": "motelet.dev/micropython", "operator": "Exists"}
    assert admitted(cluster, pod("more", tolerations=[taint, *BRIEF], **ON_BOARDS)) == [taint, *ENDLESS]
    others = admitted(cluster, pod("other"))
    assert {each["tolerationSeconds"] for each in others} == {300}
    linux = pod("linux", nodeSelector={"kubernetes.io/os": "linux"}, tolerations=BRIEF)
    assert admitted(cluster, linux) == BRIEF


async def alive(client: BoardClient) -> None:
    """Have the board be heard all the time."""
    with suppress(ConnectionClosed):
        while True:
            await client.socket.ping()
            await asyncio.sleep(0.2)


def taints(cluster: Cluster, name: str) -> set[str]:
    body = node(cluster, name)
    return {each["key"] for each in body["spec"].get("taints") or () if each["effect"] == "NoExecute"}


def test_an_outage_past_the_eviction_time(
    cluster: Cluster, policy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the real controllers, with shorter times; a pod that does not tolerate it without end is evicted."""
    monkeypatch.setattr(nodes_module, "RENEW_SECONDS", 0.5)
    monkeypatch.setattr(nodes_module, "TICK_SECONDS", 0.1)

    async def run() -> None:
        # Another board stays: where every node is away, nothing is evicted anyway.
        async with Bridge(cluster) as bridge, bridge.board("near") as near:
            await near.until(lambda: near.board.synced)
            beats = [asyncio.create_task(alive(near))]
            async with bridge.board("away") as client:
                await client.until(lambda: client.board.synced)
            for body in (
                pod("held", nodeName="away", **ON_BOARDS),
                pod("freed", nodeName="away", tolerations=BRIEF),
            ):
                cluster.request("POST", PODS, body)
            before = get(cluster, f"{PODS}/held")["metadata"]["uid"]
            await seen(lambda: UNREACHABLE in taints(cluster, "away"))
            await seen(lambda: "deletionTimestamp" in get(cluster, f"{PODS}/freed")["metadata"])
            async with bridge.board("away") as client:
                await client.until(lambda: client.board.synced)
                beats.append(asyncio.create_task(alive(client)))
                await seen(lambda: not taints(cluster, "away"))
            held = get(cluster, f"{PODS}/held")["metadata"]
            assert held["uid"] == before and "deletionTimestamp" not in held
            for beat in beats:
                beat.cancel()

    cluster.start_controller_manager(
        "node-lifecycle-controller",
        "taint-eviction-controller",
        node_monitor_period="200ms",
        node_monitor_grace_period="4s",
        node_eviction_rate="100",
        unhealthy_zone_threshold="1.0",
    )
    try:
        asyncio.run(run())
    finally:
        cluster.stop_component("kube-controller-manager")
