"""`motelet bridge refill`: makes CloudCore send everything again for nodes whose mirror is lost or elsewhere.

CloudCore keeps what a node acknowledged in objects of the cluster, ObjectSync and ClusterObjectSync, named
``<node>.<uid>``; what is in them it does not send. Set back to resourceVersion 0 they make it send each
object anew within seconds. This writes down what is to come, so that the bridge deletes nothing from the
board before all of it has; then it says in the Node that the node is this mirror's.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cloud_bridge.backends.cloudcore import mirror
from cloud_bridge.backends.cloudcore.backend import lock
from cloud_bridge.backends.cloudcore.mirror import Mirror
from cloud_bridge.backends.cloudcore.registration import MIRROR
from cloud_bridge.backends.kubernetes.access import Access
from cloud_bridge.backends.kubernetes.api import MERGE, Api

SYNCS = "/apis/reliablesyncs.kubeedge.io/v1alpha1"
PAGE = "500"


async def refill(folder: Path, access: Access, nodes: Sequence[str]) -> Mapping[str, int]:
    """Have everything sent again for `nodes`, into the mirror in `folder`; -> objects to come, by node.

    Raises BackendError: also when a bridge runs on the folder, which has to be ended before.
    """
    with lock(folder):
        api = Api(access)
        store = Mirror(folder / "mirror.db")
        try:
            return await refill_from(store, api, nodes)
        finally:
            await store.close()
            await api.close()


async def refill_from(store: Mirror, api: Api, nodes: Sequence[str]) -> Mapping[str, int]:
    """As `refill`, with the mirror and the API server. A node that is not in the cluster changes nothing."""
    for node in nodes:
        await api.request("GET", f"/api/v1/nodes/{node}")
    counts = dict.fromkeys(nodes, 0)
    syncs = [each for each in await _syncs(api) if _node(each) in counts]
    for node in nodes:
        expected = {_resource(each) for each in syncs if _node(each) == node}
        counts[node] = len(expected)
        await store.write([*mirror.forget(node), *(mirror.expect(node, each) for each in sorted(expected))])
    for each in syncs:
        nothing = {"status": {"objectResourceVersion": "0"}}
        await api.request("PATCH", f"{_path(each['metadata'])}/status", nothing, MERGE)
    for node in nodes:
        owner = {"metadata": {"annotations": {MIRROR: store.id}}}
        await api.request("PATCH", f"/api/v1/nodes/{node}", owner, MERGE)
    return counts


async def _syncs(api: Api) -> list[Mapping[str, Any]]:
    """All ObjectSyncs and ClusterObjectSyncs."""
    found: list[Mapping[str, Any]] = []
    for kind in ("objectsyncs", "clusterobjectsyncs"):
        query = {"limit": PAGE}
        while True:
            answer = await api.request("GET", f"{SYNCS}/{kind}", query=query)
            found += answer["items"]
            if not (more := answer["metadata"].get("continue")):
                break
            query["continue"] = more
    return found


def _node(sync: Mapping[str, Any]) -> str:
    """The node of ``<node>.<uid>``; a node's name may have dots, a uid has none."""
    name: str = sync["metadata"]["name"]
    return name.rpartition(".")[0]


def _resource(sync: Mapping[str, Any]) -> str:
    spec, namespace = sync["spec"], sync["metadata"].get("namespace", "null")
    return f"{namespace}/{spec['objectKind'].lower()}/{spec['objectName']}"


def _path(metadata: Mapping[str, Any]) -> str:
    if "namespace" in metadata:
        return f"{SYNCS}/namespaces/{metadata['namespace']}/objectsyncs/{metadata['name']}"
    return f"{SYNCS}/clusterobjectsyncs/{metadata['name']}"
