"""Boards are Nodes of a real cluster: registered, alive as long as they are heard, owned by one bridge."""

import asyncio
import time
from datetime import datetime
from typing import Any

import pytest
from kubernetes_world import Bridge, Objects, get, node, prop, seen, session, start_fails

from cloud_bridge.backends.kubernetes import nodes as nodes_module
from cloud_bridge.backends.kubernetes import sleepers
from cloud_bridge.backends.kubernetes.nodes import KubernetesNodes
from cloud_bridge.cloudhub.server import CLOSE_NOT_SERVED
from motelet.tools.kubernetes.cluster import Cluster, ClusterError

LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


def conditions(cluster: Cluster, name: str) -> dict[str, str]:
    body = node(cluster, name) or {}
    return {each["type"]: each["status"] for each in body.get("status", {}).get("conditions") or ()}


def renewed(cluster: Cluster, name: str) -> float:
    """When the Lease says that the board was alive, in seconds since 1970; 0.0 without one."""
    lease = get(cluster, f"{LEASES}/{name}")
    text = lease["spec"].get("renewTime") if lease else None
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def test_a_board_becomes_a_node(cluster: Cluster) -> None:
    async def run() -> None:
        async with Bridge(cluster) as bridge, bridge.board("node-1") as client:
            client.board.out.clear()
            client.board.hello(platform="esp32", software="motelet 0.1.0", boot=3)
            await client.until(lambda: client.board.synced)
            client.board.node(
                heap=65536, heap_free=60000, flash=1 << 20, flash_free=1 << 19, address="10.1.2.3"
            )
            await client.flush()
            await seen(lambda: conditions(cluster, "node-1").get("MemoryPressure") == "False")
            body = node(cluster, "node-1")
            assert body["metadata"]["labels"]["kubernetes.io/os"] == "micropython"
            assert body["metadata"]["labels"]["node-role.kubernetes.io/edge"] == ""
            assert body["spec"]["taints"][0]["key"] == "motelet.dev/micropython"
            status = body["status"]
            assert (
                status["capacity"]
                == {
                    "cpu": "1",
                    "memory": "65536",
                    "ephemeral-storage": "1Mi",
                    "pods": "0",
                }
                or status["capacity"]["memory"] == "65536"
            )
            assert status["addresses"] == [{"type": "InternalIP", "address": "10.1.2.3"}]
            assert status["nodeInfo"]["architecture"] == "xtensa"
            assert conditions(cluster, "node-1")["Ready"] == "True"
            await seen(lambda: renewed(cluster, "node-1"))
            assert get(cluster, f"{LEASES}/node-1")["metadata"]["ownerReferences"][0]["name"] == "node-1"
            client.board.node(heap=65536, heap_free=1000)
            await client.flush()
            await seen(lambda: conditions(cluster, "node-1")["MemoryPressure"] == "True")

    asyncio.run(run())
    assert "node-1" in cluster.kubectl("get", "nodes", "--selector=kubernetes.io/os=micropython")


def test_the_lease_is_renewed_as_long_as_the_board_is_heard(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes_module, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(nodes_module, "TICK_SECONDS", 0.05)

    async def run() -> None:
        async with Bridge(cluster) as bridge:
            async with bridge.board("node-lease") as client:
                await client.until(lambda: client.board.synced)
                first = await seen(lambda: renewed(cluster, "node-lease"))
                await asyncio.sleep(0.2)
                await client.socket.ping()
                await seen(lambda: renewed(cluster, "node-lease") > first + 0.1)
                # Silent: connected, but nothing is heard. The Lease says when it was heard, not when it is.
                await asyncio.sleep(1.0)
                still = renewed(cluster, "node-lease")
                await asyncio.sleep(0.3)
                assert renewed(cluster, "node-lease") == still
                until_ms = round((time.time() + 4) * 1000)
                client.board.node(sleep_until=until_ms)
                await client.flush()
                await seen(lambda: conditions(cluster, "node-lease")["Sleeping"] == "True")
            # Gone to sleep: alive until its end, and not after.
            middle = renewed(cluster, "node-lease")
            await seen(lambda: renewed(cluster, "node-lease") > middle)
            await seen(lambda: renewed(cluster, "node-lease") >= until_ms / 1000 - 0.001)
            await asyncio.sleep(0.5)
            assert renewed(cluster, "node-lease") <= until_ms / 1000 + 0.001

    asyncio.run(run())


def test_a_node_that_was_deleted_is_registered_again(cluster: Cluster) -> None:
    async def run() -> None:
        async with Bridge(cluster) as bridge, bridge.board("node-del") as client:
            await client.until(lambda: client.board.synced)
            before = node(cluster, "node-del")["metadata"]["uid"]
            cluster.request("DELETE", "/api/v1/nodes/node-del")
            await seen(
                lambda: (node(cluster, "node-del") or {}).get("metadata", {}).get("uid") not in (None, before)
            )
            await seen(lambda: conditions(cluster, "node-del").get("Ready") == "True")
            assert bridge.hub.nodes == ["node-del"]

    asyncio.run(run())


def test_what_others_make_of_a_connected_board_is_put_right(cluster: Cluster) -> None:
    unknown = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}

    async def run() -> None:
        async with Bridge(cluster) as bridge, bridge.board("node-unk") as client:
            await seen_ready(cluster, client, "node-unk")
            patch = {"status": {"conditions": [unknown]}}
            path = "/api/v1/nodes/node-unk/status"
            cluster.request("PATCH", path, patch, "application/strategic-merge-patch+json")
            await seen(lambda: conditions(cluster, "node-unk")["Ready"] == "True")
            labels = {"metadata": {"labels": {"kubernetes.io/hostname": "mine", "room": "kitchen"}}}
            cluster.request("PATCH", "/api/v1/nodes/node-unk", labels, "application/merge-patch+json")
        async with Bridge(cluster) as bridge, bridge.board("node-unk") as client:
            await client.until(lambda: client.board.synced)
            assert node(cluster, "node-unk")["metadata"]["labels"]["room"] == "kitchen"
            assert node(cluster, "node-unk")["metadata"]["labels"]["kubernetes.io/hostname"] == "mine"

    asyncio.run(run())


async def seen_ready(cluster: Cluster, client: Any, name: str) -> None:
    await client.until(lambda: client.board.synced)
    await seen(lambda: conditions(cluster, name).get("Ready") == "True")


def test_a_name_that_is_another_machines_is_refused(cluster: Cluster) -> None:
    body = {"metadata": {"name": "worker-1", "labels": {"kubernetes.io/os": "linux"}}}
    cluster.request("POST", "/api/v1/nodes", body)

    async def run() -> None:
        async with Bridge(cluster) as bridge, bridge.board("worker-1") as client:
            await client.flush()
            assert await client.closed() == CLOSE_NOT_SERVED
            assert "no board" in (client.socket.close_reason or "")

    asyncio.run(run())
    assert not session_of(cluster, "worker-1")


def session_of(cluster: Cluster, name: str) -> str:
    return str(node(cluster, name)["metadata"].get("annotations", {}).get("motelet.dev/session", ""))


def test_the_bridge_that_a_board_connected_to_last_has_it(cluster: Cluster) -> None:
    async def run() -> None:
        async with Bridge(cluster, "bridge-a") as one, Bridge(cluster, "bridge-b") as two:
            async with one.board("node-two") as first:
                await first.until(lambda: first.board.synced)
                assert session(cluster, "node-two") == "bridge-a/1"
                async with two.board("node-two") as second:
                    await second.until(lambda: second.board.synced)
                    assert session(cluster, "node-two") == "bridge-b/2"
                    assert await first.closed() == CLOSE_NOT_SERVED
                    assert "bridge-b" in (first.socket.close_reason or "")
            async with one.board("node-two") as third:
                await third.until(lambda: third.board.synced)
                assert session(cluster, "node-two") == "bridge-a/3"

    asyncio.run(run())


def late_report(cluster: Cluster, name: str) -> dict[str, str]:
    """Bridge a holds a report back until bridge b has written a newer one; -> what is stored in the end."""
    objects = Objects(cluster)
    resource = f"default/device/{name}"
    objects.model(name, [prop("level")])
    objects.device(name, name, name)

    async def run() -> None:
        async with Bridge(cluster, "bridge-a") as one, Bridge(cluster, "bridge-b") as two:
            gate = asyncio.Event()
            budget = one.backend._budget
            take, budget.take = budget.take, gate.wait  # type: ignore[method-assign, assignment]
            async with one.board(name) as first:
                await first.until(lambda: first.board.synced)
                first.board.report(resource, "level", 1, 1000)
                await first.flush()
                await asyncio.sleep(0.2)  # it is at the gate
                async with two.board(name) as second:
                    await second.until(lambda: second.board.synced)
                    seq = second.board.report(resource, "level", 2, 2000)
                    await second.until(lambda: second.board.acked == seq)
                    gate.set()
                    budget.take = take  # type: ignore[method-assign]
                    assert await first.closed() == CLOSE_NOT_SERVED
                    await asyncio.sleep(0.5)

    asyncio.run(run())
    return objects.twins(name)


def test_a_report_of_a_session_that_was_lost_is_not_written(cluster: Cluster) -> None:
    assert late_report(cluster, "older") == {"level": "2"}


def test_without_the_look_at_the_session_it_would_be(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted fault, which shows that the test above can fail."""

    async def trusting(self: KubernetesNodes, node: str) -> bool:
        return True

    monkeypatch.setattr(KubernetesNodes, "verify", trusting)
    assert late_report(cluster, "planted") == {"level": "1"}


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bridges that renew, look and lose patience in fractions of a second."""
    for name, seconds in (("RENEW_SECONDS", 0.1), ("TICK_SECONDS", 0.05), ("LOOK_SECONDS", 0.1)):
        monkeypatch.setattr(nodes_module, name, seconds)
    monkeypatch.setattr(sleepers, "OVERDUE_SECONDS", 1.5)


async def fall_asleep(cluster: Cluster, name: str, until_ms: int, bridge: str = "bridge-a") -> None:
    """A board announces a sleep to this bridge, and then both go."""
    async with Bridge(cluster, bridge) as one, one.board(name) as client:
        await client.until(lambda: client.board.synced)
        client.board.node(sleep_until=until_ms)
        await client.flush()
        await seen(lambda: sleepers.until_ms(node(cluster, name)) is not None)


def in_an_hour() -> int:
    return round((time.time() + 3600) * 1000)


def test_a_board_that_sleeps_is_kept_alive_by_a_bridge_that_was_started_again(
    cluster: Cluster, brisk: None
) -> None:
    async def run() -> None:
        await fall_asleep(cluster, "node-sleep", in_an_hour())
        async with Bridge(cluster):
            before = renewed(cluster, "node-sleep")
            await seen(lambda: renewed(cluster, "node-sleep") > before)
        assert session(cluster, "node-sleep") == "bridge-a/1"

    asyncio.run(run())


def test_a_board_that_sleeps_is_taken_over_when_its_bridge_has_gone(
    cluster: Cluster, brisk: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = {
        "status": {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]}
    }
    name = "node-heir"

    async def run() -> None:
        await fall_asleep(cluster, name, in_an_hour())
        path, kind = f"/api/v1/nodes/{name}/status", "application/strategic-merge-patch+json"
        cluster.request("PATCH", path, unknown, kind)  # as kube-controller-manager does after its grace time
        async with Bridge(cluster, "bridge-b") as two, Bridge(cluster, "bridge-c") as three:
            await seen(lambda: not session(cluster, name).startswith("bridge-a/"))
            monkeypatch.setattr(sleepers, "OVERDUE_SECONDS", 3600.0)  # enough, on a machine however slow
            await seen(lambda: conditions(cluster, name)["Ready"] == "True")
            before = renewed(cluster, name)
            await seen(lambda: renewed(cluster, name) > before)
            assert conditions(cluster, name)["Sleeping"] == "True"
            # A board that wakes up is whose it comes to.
            holder, _, epoch = session(cluster, name).partition("/")
            other = {"bridge-b": three, "bridge-c": two}[holder]
            async with other.board(name) as client:
                await client.until(lambda: client.board.synced)
                assert session(cluster, name).partition("/")[2] == str(int(epoch) + 1)
                client.board.node()
                await client.flush()
                await seen(lambda: sleepers.until_ms(node(cluster, name)) is None)
                assert conditions(cluster, name)["Sleeping"] == "False"

    asyncio.run(run())


def test_a_board_that_sleeps_stays_with_a_bridge_that_renews_its_lease() -> None:
    now_ms, soon, past = 1_800_000_000_000, "2027-01-15T09:00:00Z", "2027-01-15T07:00:00Z"

    def sleeper(name: str, until: str) -> dict[str, Any]:
        return {"metadata": {"name": name, "annotations": {sleepers.SLEEP: until}}}

    def left(until: str, renewed: str | None) -> bool:
        leases = {"a": {"spec": {"renewTime": renewed}}} if renewed else {}
        return sleepers.left_alone([sleeper("a", until)], leases, now_ms) == ["a"]

    assert not left(soon, "2027-01-15T07:59:40.000000Z")  # 20 s ago, as it should be
    assert left(soon, "2027-01-15T07:59:31.000000Z") and left(soon, None)
    assert left(past, past) and not left("2027-01-15T07:59:50Z", None)  # its own bridge says so first
    assert not left("somebody's note", None)
    assert sleepers.left_alone([{"metadata": {"name": "awake"}}], {}, now_ms) == []


def test_a_board_that_does_not_come_back_from_its_sleep_is_not_said_to_sleep(
    cluster: Cluster, brisk: None
) -> None:
    async def run() -> None:
        await fall_asleep(cluster, "node-late", in_an_hour())
        past = {"metadata": {"annotations": {sleepers.SLEEP: "2026-01-01T00:00:00Z"}}}
        cluster.request("PATCH", "/api/v1/nodes/node-late", past, "application/merge-patch+json")
        before = renewed(cluster, "node-late")
        async with Bridge(cluster, "bridge-b"):
            await seen(lambda: conditions(cluster, "node-late")["Sleeping"] == "False")
            await seen(lambda: sleepers.until_ms(node(cluster, "node-late")) is None)
        assert renewed(cluster, "node-late") == before

    asyncio.run(run())


def test_no_start_where_a_cloudcore_serves_the_same_boards(cluster: Cluster) -> None:
    async def register() -> None:
        async with Bridge(cluster) as bridge, bridge.board("node-core") as client:
            await client.until(lambda: client.board.synced)

    asyncio.run(register())
    cluster.kubectl("apply", "--filename=-", stdin=SYNCS)
    cluster.kubectl("wait", "--for=condition=established", "crd", "objectsyncs.reliablesyncs.kubeedge.io")
    try:
        asyncio.run(register())  # CloudCore serves other nodes: no harm in that
        sync = {
            "apiVersion": "reliablesyncs.kubeedge.io/v1alpha1",
            "kind": "ObjectSync",
            "metadata": {"name": "node-core.6a5e2c9e-9a5c-4be5-8f5b-6c21b5d0c3a7", "namespace": "default"},
        }
        folder = "/apis/reliablesyncs.kubeedge.io/v1alpha1/namespaces/default/objectsyncs"
        cluster.request("POST", folder, sync)
        assert "a CloudCore serves node-core" in start_fails(cluster)
    finally:
        cluster.kubectl("delete", "crd", "objectsyncs.reliablesyncs.kubeedge.io")


SYNCS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: objectsyncs.reliablesyncs.kubeedge.io}
spec:
  group: reliablesyncs.kubeedge.io
  names: {kind: ObjectSync, plural: objectsyncs, singular: objectsync, listKind: ObjectSyncList}
  scope: Namespaced
  versions:
  - name: v1alpha1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""


def test_pods_that_tolerate_everything_and_want_linux_stay_away(cluster: Cluster) -> None:
    """kube-proxy and its like: a DaemonSet with every toleration and a selector of the operating system."""
    linux = {"metadata": {"name": "linux-1", "labels": {"kubernetes.io/os": "linux"}}}
    cluster.request("POST", "/api/v1/nodes", linux)

    async def register() -> None:
        async with Bridge(cluster) as bridge, bridge.board("node-ds") as client:
            await seen_ready(cluster, client, "node-ds")
            await asyncio.to_thread(look)

    def look() -> None:
        cluster.start_controller_manager("daemonset-controller")
        try:
            cluster.request("POST", "/apis/apps/v1/namespaces/default/daemonsets", daemon_set("proxy", True))
            cluster.request("POST", "/apis/apps/v1/namespaces/default/daemonsets", daemon_set("every", False))
            end = time.monotonic() + 30
            while not ("linux-1" in pods("proxy") and "node-ds" in pods("every")):
                assert time.monotonic() < end
                time.sleep(0.05)
            assert "node-ds" not in pods("proxy")
        finally:
            cluster.stop_component("kube-controller-manager")

    def pods(name: str) -> set[str]:
        answer = cluster.request("GET", f"/api/v1/namespaces/default/pods?labelSelector=app%3D{name}")
        found = set()
        for pod in answer["items"]:
            terms = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            found.add(terms["nodeSelectorTerms"][0]["matchFields"][0]["values"][0])
        return found

    asyncio.run(register())


def daemon_set(name: str, linux: bool) -> dict[str, Any]:
    labels = {"app": name}
    spec: dict[str, Any] = {
        "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "main", "image": "none"}],
    }
    if linux:
        spec["nodeSelector"] = {"kubernetes.io/os": "linux"}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def test_the_rights_are_enough_and_not_more(cluster: Cluster) -> None:
    for verb, what, allowed in (
        ("list", "devices.devices.kubeedge.io", "yes"),
        ("get", "secrets", "no"),
        ("list", "secrets", "no"),
        ("watch", "configmaps", "no"),
        ("impersonate", "users", "no"),
        ("create", "pods", "no"),
        ("update", "nodes", "no"),
        ("delete", "devices.devices.kubeedge.io", "no"),
    ):
        try:
            told = cluster.kubectl("auth", "can-i", verb, what, "--all-namespaces", "--as=motelet-bridge")
        except ClusterError:
            told = "no"  # which kubectl says by its exit status
        assert told.strip().startswith(allowed), (verb, what)
