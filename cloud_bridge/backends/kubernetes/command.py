"""`motelet bridge node remove`: make a board's certificates worthless, and delete its Node."""

import argparse
import asyncio
import sys

from cloud_bridge import stores
from cloud_bridge.backends import nodebody
from cloud_bridge.backends.base import BackendError
from cloud_bridge.backends.kubernetes import access
from cloud_bridge.backends.kubernetes.api import Api, ApiError
from cloud_bridge.backends.kubernetes.nodes import NODES
from cloud_bridge.identity.registry import Registry, RegistryError

EXIT_FAILURE = 1
SETTLE_SECONDS = 2.5
"""A bridge looks for revocations every second, and registers a deleted Node anew until it has seen one."""
TRIES = 5


def commands(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands to those of `motelet bridge`."""
    parser = actions.add_parser("node", help="boards as Nodes of a cluster")
    sub = parser.add_subparsers(metavar="ACTION", required=True, title="actions")
    summary = "revoke a board's certificates and delete its Node"
    remove = sub.add_parser("remove", help=summary, description=f"{summary.capitalize()}.")
    remove.add_argument("node", metavar="NODE")
    stores.configure(remove)
    remove.set_defaults(tool=run)


def run(args: argparse.Namespace) -> int:
    """Do what was asked; -> exit status. What cannot be done is one line on stderr."""
    try:
        asyncio.run(_remove(args))
    except (RegistryError, BackendError, OSError) as error:
        print(f"motelet bridge: {error}", file=sys.stderr)
        return EXIT_FAILURE
    return 0


async def _remove(args: argparse.Namespace) -> None:
    async with stores.opened(args) as store:
        count = await Registry(store).revoke_node(args.node)
    print(f"revoked {count} certificates of node {args.node}, and all that are not on record")
    await _delete(Api(access.find(args.kubeconfig)), args.node)
    print(f"node {args.node} is gone")


async def _delete(api: Api, node: str) -> None:
    """Delete the Node until it stays deleted. Raises BackendError."""
    path = f"{NODES}/{node}"
    try:
        for _ in range(TRIES):
            try:
                body = await api.request("GET", path)
                if body["metadata"].get("labels", {}).get("kubernetes.io/os") != nodebody.OPERATING_SYSTEM:
                    raise BackendError(f"node {node} is no board")
                await api.request("DELETE", path)
            except ApiError as error:
                if error.code == 404:
                    return
                raise
            await asyncio.sleep(SETTLE_SECONDS)
        raise BackendError(
            f"node {node} comes back: are --state or --secrets those of the bridge that serves it?"
        )
    finally:
        await api.close()
