"""The options of `motelet bridge` that belong to this backend, and its commands `join` and `refill`."""

import argparse
import asyncio
import getpass
import ipaddress
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from cloud_bridge.backends.base import BackendError
from cloud_bridge.backends.cloudcore.access import Access, CertificateAccess, PlainAccess, read_token
from cloud_bridge.backends.cloudcore.backend import CloudCore
from cloud_bridge.backends.cloudcore.credentials import TOKEN_VARIABLE, Credentials, CredentialsError

FOLDER = "cloudcore"
"""Within the state folder."""
HTTPS_PORT = 10002
EXIT_FAILURE = 1


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = parser.add_argument_group("KubeEdge's CloudCore", "see also: motelet bridge join --help")
    group.add_argument(
        "--cloudcore",
        metavar="URL",
        help="wss://HOST:10000, where boards become edge nodes",
    )
    group.add_argument(
        "--cloudcore-state",
        type=Path,
        metavar="DIR",
        help=f"folder with certificates and mirror (default: {FOLDER} in the folder of --state)",
    )
    group.add_argument(
        "--cloudcore-token",
        type=Path,
        metavar="FILE",
        help="join token, read when a board has no certificate yet; it may be replaced meanwhile "
        f"(default: the variable {TOKEN_VARIABLE})",
    )


def make(args: argparse.Namespace) -> CloudCore:
    """The backend that the options ask for. Raises BackendError."""
    url = urlsplit(args.cloudcore)
    if url.scheme not in ("wss", "ws") or not url.hostname or url.path not in ("", "/"):
        raise BackendError(f"--cloudcore {args.cloudcore}: expected wss://HOST:PORT")
    folder = state_folder(args)
    access: Access
    if url.scheme == "ws":
        if not _is_loopback(url.hostname):
            raise BackendError("--cloudcore without TLS (ws) is for tests, on a loopback address only")
        access = PlainAccess()
    else:
        host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
        access = CertificateAccess(folder, f"https://{host}:{HTTPS_PORT}", args.cloudcore_token)
    return CloudCore(args.cloudcore, folder, access)


def commands(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands to those of `motelet bridge`."""
    join = _command(actions, "join", "get certificates for nodes from a CloudCore", _join)
    join.add_argument(
        "--cloudcore", required=True, metavar="URL", help=f"https://HOST:{HTTPS_PORT} of CloudCore"
    )
    join.add_argument("--token-file", type=Path, metavar="FILE", help="the join token; - asks for it")
    join.add_argument("node", nargs="+", metavar="NODE", help="name of a board")
    join.epilog = (
        f"The token is what `keadm gettoken` prints. It is taken from the file, or from the variable\n"
        f"{TOKEN_VARIABLE}, or asked for; a process list never shows it."
    )

    fill = _command(actions, "refill", "have CloudCore send everything again for nodes", _refill)
    fill.add_argument(
        "--kubeconfig", type=Path, metavar="FILE", help="how to reach the cluster (default: as kubectl does)"
    )
    fill.add_argument("node", nargs="+", metavar="NODE", help="name of a board")
    fill.epilog = (
        "For nodes whose mirror was lost, or that another bridge served. End this bridge, and the other,\n"
        "first; start this one afterwards. Needs the right to list objectsyncs and clusterobjectsyncs\n"
        "(reliablesyncs.kubeedge.io), to patch their status, and to patch nodes."
    )


def state_folder(args: argparse.Namespace) -> Path:
    """Where certificates and mirror are. Raises BackendError."""
    if args.cloudcore_state is not None:
        folder: Path = args.cloudcore_state
    elif args.state is not None:
        folder = args.state / FOLDER
    else:
        raise BackendError("--state DIR (or --cloudcore-state DIR) is missing: for certificates and mirror")
    return folder


def _command(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    summary: str,
    act: Callable[[argparse.Namespace], None],
) -> argparse.ArgumentParser:
    parser = actions.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # --token TOKEN is not to be taken for a --token-file
    )
    for option in ("--state", "--cloudcore-state"):
        parser.add_argument(option, type=Path, metavar="DIR", default=argparse.SUPPRESS, help="as above")

    def run(args: argparse.Namespace) -> int:
        try:
            act(args)
        except (BackendError, CredentialsError, OSError) as error:
            print(f"motelet bridge: {error}", file=sys.stderr)
            return EXIT_FAILURE
        return 0

    parser.set_defaults(tool=run)
    return parser


def _join(args: argparse.Namespace) -> None:
    asked = args.token_file is None or str(args.token_file) == "-"
    token = read_token(None if asked else args.token_file)
    if not token or str(args.token_file) == "-":
        token = getpass.getpass("token: ")
    folder = state_folder(args)
    Credentials(folder).join(args.cloudcore, token, args.node)
    print(f"{len(args.node)} nodes joined, their certificates are in {folder}")


def _refill(args: argparse.Namespace) -> None:
    # Of use only here, and where the cluster can be reached: the backend itself never talks to it.
    from cloud_bridge.backends.cloudcore.refill import refill
    from cloud_bridge.backends.kubernetes import access

    counts = asyncio.run(refill(state_folder(args), access.find(args.kubeconfig), args.node))
    for node, count in counts.items():
        print(f"{node}: {count} objects to come, once the bridge has started")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
