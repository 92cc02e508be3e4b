"""Where identities are kept, as the options of a command say: a folder, or Secrets of a cluster."""

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cloud_bridge.backends.kubernetes import access
from cloud_bridge.backends.kubernetes.secretstore import SecretStore
from cloud_bridge.identity.folder import Folder
from cloud_bridge.identity.registry import RegistryError
from cloud_bridge.names import NAMESPACE_SIZE_MAX, is_subdomain


def configure(parser: argparse.ArgumentParser) -> None:
    """Give the parser of an action the options, which may also stand before the action."""
    for option, metavar, kind, told in (
        ("--state", "DIR", Path, "the state folder"),
        ("--secrets", "NAMESPACE", str, "in the place of --state: the Secrets of this namespace"),
        ("--kubeconfig", "FILE", Path, "how to reach the cluster"),
    ):
        parser.add_argument(option, type=kind, metavar=metavar, default=argparse.SUPPRESS, help=told)


@asynccontextmanager
async def opened(args: argparse.Namespace, made: bool = False) -> AsyncIterator[Folder | SecretStore]:
    """The store, read. `made`: the folder is made where there is none.

    Raises RegistryError for options that name none, BackendError, OSError.
    """
    if args.secrets is not None and args.state is not None:
        raise RegistryError("--state and --secrets: identities are in one place")
    if args.secrets is not None:
        if not is_subdomain(args.secrets) or len(args.secrets) > NAMESPACE_SIZE_MAX:
            raise RegistryError(f"--secrets {args.secrets}: not the name of a namespace")
        secrets = SecretStore(access.find(args.kubeconfig), args.secrets)
        try:
            await secrets.open()
            yield secrets
        finally:
            await secrets.close()
        return
    if args.state is None:
        raise RegistryError(
            "--state DIR is missing: the folder with the CA, as the bridge has it (or --secrets)"
        )
    if not made and not args.state.is_dir():
        raise RegistryError(f"there is no folder {args.state}")
    yield Folder(args.state)
