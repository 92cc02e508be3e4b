"""The options of this backend, and the backend they make."""

import argparse
import socket
from pathlib import Path

from cloud_bridge.backends.kubernetes import access
from cloud_bridge.backends.kubernetes.backend import Kubernetes


def configure(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the options."""
    group = parser.add_argument_group("a Kubernetes cluster to serve")
    group.add_argument(
        "--kubernetes", action="store_true", help="serve the Devices of a cluster; boards become its Nodes"
    )
    group.add_argument(
        "--kubeconfig",
        type=Path,
        metavar="FILE",
        help="how to reach it (default: as a pod does within it, else KUBECONFIG, else ~/.kube/config)",
    )
    group.add_argument(
        "--bridge-name",
        metavar="NAME",
        default=socket.gethostname().lower(),
        help="what this bridge is called among those of the cluster (default: %(default)s)",
    )
    group.add_argument(
        "--api-writes",
        type=_rate,
        metavar="N",
        default=0.0,
        help="writes of device status a second at most (default: as many as the API server takes)",
    )


def make(args: argparse.Namespace) -> Kubernetes:
    """The backend. Raises BackendError when the API server cannot be told from the options."""
    return Kubernetes(access.find(args.kubeconfig), args.bridge_name, args.api_writes)


def _rate(text: str) -> float:
    rate = float(text)
    if not 0.1 <= rate <= 100_000:
        raise argparse.ArgumentTypeError(f"{text}: expected a number from 0.1 to 100000")
    return rate
