"""A bridge under load: a thousand boards with five devices each, over TLS, in front of a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from motelet.tools.bench import world
from motelet.tools.bench.figures import Figure
from motelet.tools.load import command

LOAD = ("--nodes", "1000", "--devices", "5", "--properties", "5", "--duration", "20")
NAMES = {
    "load.connects_per_s": "bridge.connects_per_s",
    "load.reports_per_s": "bridge.reports_per_s",
    "load.fanout_s": "bridge.fanout_s",
}


def measure() -> Iterator[Figure]:
    """`bridge.connects_per_s`, `bridge.reports_per_s`, `bridge.fanout_s`: see `motelet load --help`.

    API server, etcd and the boards share the computer with the bridge.
    """
    with world.cluster(world.fresh("bridge")) as cluster:
        found = command.figures(*LOAD, "--kubernetes", "--kubeconfig", str(cluster.kubeconfig()))
    for name, figure in found.items():
        if name in NAMES:
            yield replace(figure, name=NAMES[name])
