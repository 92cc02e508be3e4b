"""Pods and what they refer to, device profiles, and a cluster without definitions of Devices."""

import asyncio
import json
from typing import Any

from kubernetes_world import DEPLOY, Bridge, Objects, get, prop, seen, start_fails

from cloud_bridge.backends.base import CONFIG_MAP, POD, SECRET, Key, NoObjectError, PodChange
from cloud_bridge.backends.kubernetes.api import CONNECTIONS_MAX
from motelet.tools.kubernetes.cluster import Cluster

NOW = 1_790_000_000_000
CORE = "/api/v1/namespaces/default"


def pod(name: str, node: str) -> dict[str, Any]:
    container = {"name": "main", "image": "none"}
    return {"metadata": {"name": name}, "spec": {"nodeName": node, "containers": [container]}}


def test_pods_of_boards_and_what_they_refer_to(cluster: Cluster) -> None:
    key = Key(POD, "default", "app-1")
    settings, secret = Key(CONFIG_MAP, "default", "settings"), Key(SECRET, "default", "password")
    hidden = Key(SECRET, "kube-system", "hidden")

    async def run() -> None:
        async with Bridge(cluster) as bridge, bridge.board("board-pod") as client:
            backend = bridge.backend
            await client.until(lambda: client.board.synced)
            cluster.request("POST", f"{CORE}/pods", pod("app-1", "board-pod"))
            cluster.request("POST", f"{CORE}/pods", pod("others", "linux-9"))
            body = await seen(lambda: backend.get(key))
            assert backend.get(Key(POD, "default", "others")) is None
            cluster.request(
                "POST", f"{CORE}/configmaps", {"metadata": {"name": "settings"}, "data": {"a": "1"}}
            )
            cluster.request(
                "POST", f"{CORE}/secrets", {"metadata": {"name": "password"}, "data": {"p": "eA=="}}
            )
            backend.refer(CONFIG_MAP, [settings])
            backend.refer(SECRET, [secret, hidden])
            await seen(lambda: backend.get(settings) and backend.get(secret) and backend.synced())
            assert backend.get(hidden) is None
            patch = {"data": {"a": "2"}}
            cluster.request("PATCH", f"{CORE}/configmaps/settings", patch, "application/merge-patch+json")
            await seen(lambda: backend.get(settings)["data"] == {"a": "2"})
            backend.refer(SECRET, [])
            assert backend.get(secret) is None
            uid = body["metadata"]["uid"]
            status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
            assert await backend.write_pods({key: PodChange(uid, status)}) == {}
            stored = get(cluster, f"{CORE}/pods/app-1")["status"]
            assert stored["phase"] == "Running" and stored["conditions"][0]["lastTransitionTime"]
            failures = await backend.write_pods({key: PodChange("another", status)})
            assert isinstance(failures[key], NoObjectError)
            cluster.request("DELETE", f"{CORE}/pods/app-1")
            await seen(lambda: (backend.get(key) or {}).get("metadata", {}).get("deletionTimestamp"))
            assert await backend.write_pods({key: PodChange(uid, {}, deleted=True)}) == {}
            await seen(lambda: backend.get(key) is None)
            assert get(cluster, f"{CORE}/pods/app-1") is None

    asyncio.run(run())


def test_a_profile_of_each_node_for_mappers_in_pods(cluster: Cluster) -> None:
    objects = Objects(cluster)
    objects.model("profiled", [prop("level")])
    objects.device("profiled-1", "board-prof", "profiled", level="1")
    objects.device("profiled-2", "board-prof", "profiled")
    path = f"{CORE}/configmaps/device-profile-config-board-prof"

    def devices() -> dict[str, Any]:
        stored = get(cluster, path)
        found = json.loads(stored["data"]["deviceProfile.json"])["deviceInstances"] if stored else []
        return {each["name"]: each for each in found}

    async def run() -> None:
        async with Bridge(cluster):
            await seen(lambda: len(devices()) == 2)
            one = devices()["profiled-1"]
            assert one["protocol"]["protocolName"] == "modbus" and one["nodeName"] == "board-prof"
            assert one["properties"] == [{"name": "level", "desired": {"value": "1"}}]
            objects.desire("profiled-1", level="2")
            await seen(lambda: devices()["profiled-1"]["properties"][0]["desired"]["value"] == "2")
            objects.delete("devices", "profiled-1")
            await seen(lambda: list(devices()) == ["profiled-2"])
        objects.delete("devices", "profiled-2")  # while no bridge runs
        async with Bridge(cluster):
            objects.device("profiled-3", "board-prof", "profiled")
            await seen(lambda: list(devices()) == ["profiled-3"])
            objects.delete("devices", "profiled-3")
            await seen(lambda: get(cluster, path) is None)

    asyncio.run(run())


def test_a_cluster_without_devices_is_told(cluster: Cluster) -> None:
    cluster.kubectl("delete", "--filename", str(DEPLOY / "crds"))
    try:
        assert "CustomResourceDefinitions" in start_fails(cluster)
    finally:
        cluster.kubectl("apply", "--filename", str(DEPLOY / "crds"))
        cluster.kubectl("wait", "--for=condition=established", "crd", "--all")


def test_watches_of_many_objects_leave_room_for_requests(cluster: Cluster) -> None:
    keys = [Key(CONFIG_MAP, "default", f"settings-{number}") for number in range(2 * CONNECTIONS_MAX)]

    async def run() -> None:
        async with Bridge(cluster) as bridge, bridge.board("board-many") as client:
            bridge.backend.refer(CONFIG_MAP, keys)
            await seen(bridge.backend.synced)
            cluster.request("POST", f"{CORE}/configmaps", {"metadata": {"name": keys[-1].name}})
            await seen(lambda: bridge.backend.get(keys[-1]))
            await client.until(lambda: client.board.synced)  # which takes requests

    asyncio.run(run())
