"""Two masters of one board would undo each other's work: where a CloudCore serves it, this backend does not.

CloudCore keeps an ObjectSync ``<node>.<uid>`` for each object that a node acknowledged to it. A board's Node
that has some is, or was, CloudCore's.
"""

from cloud_bridge.backends.base import BackendError
from cloud_bridge.backends.kubernetes.api import Api, ApiError
from cloud_bridge.backends.kubernetes.informer import Informer

SYNCS = "/apis/reliablesyncs.kubeedge.io/v1alpha1/objectsyncs"
NAMED_MAX = 5
"""Nodes that the error names."""


async def refuse_cloudcore(api: Api, nodes: Informer) -> None:
    """Raise BackendError if a CloudCore serves one of the boards that are Nodes here. Raises ApiError."""
    query = {"limit": "500"}
    served: set[str] = set()
    while True:
        try:
            answer = await api.request("GET", SYNCS, query=query)
        except ApiError as error:
            if error.code in (403, 404):
                return  # no KubeEdge, or none that this bridge is to know of
            raise
        served |= {each["metadata"]["name"].rpartition(".")[0] for each in answer["items"]}
        if not (more := answer["metadata"].get("continue")):
            break
        query["continue"] = more
    both = sorted(served & {name for _, name in nodes.objects})
    if both:
        names = ", ".join(both[:NAMED_MAX]) + (", .." if len(both) > NAMED_MAX else "")
        raise BackendError(
            f"a CloudCore serves {names}: use --cloudcore, or remove it from there and delete its ObjectSyncs"
        )
