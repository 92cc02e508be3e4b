"""A cluster that has KubeEdge's definitions is used as it is: their shape, before DeviceStatus and since.

The definitions here are written from what KubeEdge's API has (v1beta1, none with a status subresource, fields
that it does not know are dropped by the API server), so that nothing leans on what only ours have room for.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from kubernetes_world import DEPLOY, Bridge, Objects, content, prop, seen

from cloud_bridge.backends.kubernetes import statuswriter
from motelet.tools.kubernetes.cluster import Cluster

NOW = 1_790_000_000_000
TEXT, BOOL, LONG = {"type": "string"}, {"type": "boolean"}, {"type": "integer", "format": "int64"}
FREE = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def of(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {})}


def array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


TWIN = of(("value",), value=TEXT, metadata={"type": "object", "additionalProperties": TEXT})
TWINS = array(of(("propertyName",), propertyName=TEXT, reported=TWIN, observedDesired=TWIN))
VISITORS = of(protocolName=TEXT, configData=FREE)
PUSH = of(
    http=of(hostName=TEXT, port=LONG, requestPath=TEXT, timeout=LONG),
    mqtt=of(address=TEXT, topic=TEXT, qos={"type": "integer", "format": "int32"}, retained=BOOL),
    otel=of(endpointURL=TEXT),
    anomalyDetection=FREE,
    dbMethod=of(influxdb2=FREE, redis=FREE, TDEngine=FREE, mysql=FREE),
)
PROPERTY = of(
    name=TEXT,
    desired=TWIN,
    visitors=VISITORS,
    reportCycle=LONG,
    collectCycle=LONG,
    reportToCloud=BOOL,
    pushMethod=PUSH,
)
DEVICE = of(
    deviceModelRef={**of(name={**TEXT, "default": ""}), "x-kubernetes-map-type": "atomic"},
    nodeName=TEXT,
    properties=array(PROPERTY),
    protocol=of(protocolName=TEXT, configData=FREE),
    methods=array(of(name=TEXT, description=TEXT, propertyNames=array(TEXT))),
)
MODEL = of(
    protocol=TEXT,
    protocolConfigData=FREE,
    properties=array(
        of(
            name=TEXT,
            description=TEXT,
            type={**TEXT, "enum": ["INT", "FLOAT", "DOUBLE", "STRING", "BOOLEAN", "BYTES", "STREAM"]},
            accessMode={**TEXT, "enum": ["ReadWrite", "ReadOnly"]},
            minimum=TEXT,
            maximum=TEXT,
            unit=TEXT,
            visitors=VISITORS,
        )
    ),
)
REPORTS = {"reportToCloud": BOOL, "reportCycle": LONG}
OLDER_STATUS = of(twins=TWINS, state=TEXT, lastOnlineTime=TEXT, **REPORTS)
NEWER_STATUS = of(twins=TWINS, state=TEXT, lastOnlineTime=TEXT, extensions=FREE)


def crd(kind: str, spec: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
    """A definition with the version that is stored and the one before it, which KubeEdge still serves."""
    plural = f"{kind.lower()}es" if kind.endswith("s") else f"{kind.lower()}s"
    meta = {"apiVersion": TEXT, "kind": TEXT, "metadata": {"type": "object"}}
    schema = {"openAPIV3Schema": of(**meta, spec=spec, status=status)}
    names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.devices.kubeedge.io"},
        "spec": {
            "group": "devices.kubeedge.io",
            "names": names,
            "scope": "Namespaced",
            "versions": [
                {"name": "v1alpha2", "served": True, "storage": False, "schema": {"openAPIV3Schema": FREE}},
                {"name": "v1beta1", "served": True, "storage": True, "schema": schema},
            ],
        },
    }


OLDER = [crd("Device", DEVICE, OLDER_STATUS), crd("DeviceModel", MODEL, {"type": "object"})]
NEWER = [
    crd("Device", of(**DEVICE["properties"], stateReport=of(**REPORTS)), {**FREE, **of(**REPORTS)}),
    crd("DeviceModel", MODEL, {"type": "object"}),
    crd("DeviceStatus", {"type": "object"}, NEWER_STATUS),
]


@pytest.fixture(params=["older", "newer"])
def separate(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[bool]:
    """Whether this KubeEdge has DeviceStatus; its definitions are there in the place of ours."""
    definitions = OLDER if request.param == "older" else NEWER
    cluster.kubectl("delete", "--filename", str(DEPLOY / "crds"))
    try:
        cluster.kubectl("apply", "--server-side", "--filename=-", stdin=yaml.safe_dump_all(definitions))
        cluster.kubectl("wait", "--for=condition=established", "crd", "--all")
        yield definitions is NEWER
    finally:
        names = [each["metadata"]["name"] for each in definitions]
        cluster.kubectl("delete", "crd", *names)
        cluster.kubectl("apply", "--filename", str(DEPLOY / "crds"))
        cluster.kubectl("wait", "--for=condition=established", "crd", "--all")


def test_a_cluster_that_has_kubeedges_definitions(
    cluster: Cluster, separate: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statuswriter, "INTERVAL_SECONDS", 0.1)
    objects = Objects(cluster)
    resource = "default/device/ke"
    properties = [prop("level", minimum="0", maximum="9"), prop("power", "BOOLEAN"), prop("mode", "STRING")]

    def status(name: str = "ke") -> Any:
        return (objects.get("devicestatuses" if separate else "devices", name) or {}).get("status") or {}

    async def run() -> None:
        async with Bridge(cluster) as bridge, bridge.board("board-ke") as client:
            board = client.board
            objects.model("ke", properties)
            objects.device("ke", "board-ke", "ke", level="4")
            await client.until(lambda: resource in board.flash)
            assert content(board, resource)["properties"][0]["desired"] == {"value": "4"}
            objects.desire("ke", level="5", mode="auto")
            await client.until(lambda: b"auto" in board.flash[resource][1])
            for name, *values in (("level", 5, NOW, "5"), ("power", True, NOW), ("mode", "auto", NOW)):
                seq = board.report(resource, name, *values)
                await client.until(lambda seq=seq: board.acked == seq)
            seq = board.state(resource, "online", NOW)
            await client.until(lambda: board.acked == seq)
            twins = {each["propertyName"]: each for each in status()["twins"]}
            assert sorted(twins) == ["level", "mode", "power"]
            assert twins["level"]["reported"]["value"] == twins["level"]["observedDesired"]["value"] == "5"
            assert status()["state"] == "online" and status()["lastOnlineTime"] == "2026-09-21T14:13:20Z"
            # What is stored already is not written again, whatever was dropped of it.
            writes: list[object] = []
            put = bridge.backend._status._put

            async def counted(*arguments: Any) -> None:
                writes.append(arguments)
                await put(*arguments)

            bridge.backend._status._put = counted  # type: ignore[method-assign]
            seq = board.report(resource, "level", 5, NOW, "5")
            await client.until(lambda: board.acked == seq)
            assert not writes
            # What is wrong is told by an event, and in the status where there is room for it.
            objects.device("bad-ke", "board-ke", "ke", level="10")
            await seen(
                lambda: any("10 is more than the maximum" in each for each in objects.events("bad-ke"))
            )
            if separate:
                await seen(lambda: "10 is more" in status("bad-ke").get("extensions", {}).get("invalid", ""))
            objects.delete("devices", "ke")
            await client.until(lambda: resource not in board.flash)

    asyncio.run(run())
