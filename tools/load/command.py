"""`motelet load`: put a bridge under load by simulated boards, and measure how it bears it."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import ssl
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from cloud_bridge.backends.base import BackendError
from cloud_bridge.backends.kubernetes import access
from cloud_bridge.devicecontroller.downstream import DEVICES_MAX
from cloud_bridge.devicecontroller.effective import PROPERTIES_MAX
from cloud_bridge.identity.authority import NODE_SIZE_MAX
from cloud_bridge.names import is_label, is_subdomain
from motelet import protocol
from motelet.tools.bench.figures import Figure
from motelet.tools.cli import UserError
from motelet.tools.load import identities
from motelet.tools.load.board import SimulatedBoard
from motelet.tools.load.bridge import HOST, NAME, BridgeProcess
from motelet.tools.load.client import BoardClient
from motelet.tools.load.fleet import PING_SECONDS, Fleet
from motelet.tools.load.identities import Pairs
from motelet.tools.load.run import Reporting, load, need_files
from motelet.tools.load.worlds import Cluster, Folder, Plan, World

NODES_MAX = 10_000
DEVICES_TOTAL_MAX = 100_000
RATE_MAX = 10_000.0
DURATION_MAX = 3600.0
ENROL_PORT = 10002
ENROLLING = 4
"""Boards that join at a time; the bridge's door is for few strangers."""
EPILOG = """\
Without --bridge one is started here, with a folder of YAML of its own or, with --kubernetes, for a
cluster that has the Devices' definitions. A bridge that runs already gets the load's Devices where
it looks for them: by --manifests or --kubernetes; with neither the boards report what Devices it
gives them.

Boards are called PREFIX-0, PREFIX-1, .. and show their certificates: --pairs/NODE has what `motelet
bridge cert create NODE --out PAIRS/NODE` writes; missing ones are made with --state (the bridge's
own folder, on this computer) or fetched with --tokens (a file with a line of `motelet bridge token
create NODE` for each). What the load made it removes in the end, but for certificates and tokens.

Figures: connections a second until every board is in step; seconds until a change of one desired
value of each Device is held by its board; seconds until each property was reported once; reports a
second that were acknowledged, each property with one under way at a time as on a board;
milliseconds from report to acknowledgement.
"""


@dataclass(frozen=True)
class _Address:
    """Where the boards connect, and what the certificate there has to be for."""

    host: str
    port: int
    name: str


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `motelet load`."""
    parser.epilog = EPILOG
    size = parser.add_argument_group("the load")
    size.add_argument(
        "--nodes", type=_whole(NODES_MAX), default=100, metavar="N", help="boards (default 100)"
    )
    size.add_argument("--devices", type=_whole(DEVICES_MAX), default=5, metavar="N", help="of each board")
    size.add_argument(
        "--properties", type=_whole(PROPERTIES_MAX), default=5, metavar="N", help="of each device"
    )
    size.add_argument(
        "--rate", type=_number(RATE_MAX), default=0.0, metavar="N",
        help="reports a second and board (default 0: as many as are acknowledged)",
    )  # fmt: skip
    size.add_argument(
        "--duration", type=_number(DURATION_MAX), default=10.0, metavar="SECONDS",
        help="how long boards report; 0: not at all (default 10)",
    )  # fmt: skip
    size.add_argument("--prefix", default="load", help="of the boards' names (default %(default)s)")
    size.add_argument("--namespace", default="default", help="of the Devices (default %(default)s)")
    size.add_argument("--json", action="store_true", help="print the figures as JSON, a line each")
    where = parser.add_argument_group("the bridge")
    where.add_argument("--bridge", metavar="HOST:PORT", help="one that runs (default: one is started here)")
    where.add_argument("--server-name", metavar="NAME", help="what its certificate is for (default: HOST)")
    where.add_argument("--plain", action="store_true", help="no TLS, as a bridge with --plain; loopback only")
    where.add_argument("--manifests", type=Path, metavar="DIR", help="the folder that it serves")
    where.add_argument("--kubernetes", action="store_true", help="it serves a cluster")
    where.add_argument(
        "--kubeconfig", type=Path, metavar="FILE", help="how to reach that (default: as the bridge)"
    )
    who = parser.add_argument_group("certificates of the boards")
    who.add_argument("--pairs", type=Path, metavar="DIR", help="a folder for each board's")
    who.add_argument("--state", type=Path, metavar="DIR", help="make what is missing by the CA in here")
    who.add_argument("--tokens", type=Path, metavar="FILE", help="join with these where a pair is missing")
    who.add_argument(
        "--enrol", metavar="HOST:PORT", help=f"where boards join (default: the bridge's host, {ENROL_PORT})"
    )


def run(args: argparse.Namespace) -> int:
    """Put the load on; -> exit status."""
    _put(args, _printer(args.json))
    return 0


def figures(*arguments: str) -> dict[str, Figure]:
    """What `motelet load` measures with these arguments, by name. Raises UserError."""
    parser = argparse.ArgumentParser()
    configure(parser)
    found: dict[str, Figure] = {}
    _put(parser.parse_args(arguments), lambda figure: found.update({figure.name: figure}))
    return found


def _put(args: argparse.Namespace, show: Callable[[Figure], None]) -> None:
    _check(args)
    nodes = [f"{args.prefix}-{number}" for number in range(args.nodes)]
    need_files(len(nodes))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="motelet-load-")))
        if args.bridge is None:
            _start(args, folder, stack)
        world = _world(args, Plan(nodes, args.devices, args.properties, args.namespace))
        fleet = Fleet(nodes, _connector(args, nodes, folder))
        try:
            asyncio.run(load(fleet, world, Reporting(args.rate, args.duration), show))
        except BackendError as error:
            raise UserError(str(error)) from error


def _check(args: argparse.Namespace) -> None:
    if args.nodes * args.devices > DEVICES_TOTAL_MAX:
        raise UserError(f"{args.nodes * args.devices} devices in all, at most {DEVICES_TOTAL_MAX}")
    last = f"{args.prefix}-{args.nodes - 1}"
    if not is_subdomain(last) or len(last) > NODE_SIZE_MAX:
        raise UserError(f"--prefix {args.prefix}: {last} is no name of a node")
    if not is_label(args.namespace):
        raise UserError(f"--namespace {args.namespace}: no name of a namespace")
    if args.manifests is not None and args.kubernetes:
        raise UserError("--manifests and --kubernetes: a bridge has one backend")
    if args.kubeconfig is not None and not args.kubernetes:
        raise UserError("--kubeconfig does not go without --kubernetes")
    if args.bridge is None:
        for option in ("server_name", "manifests", "pairs", "state", "tokens", "enrol"):
            if getattr(args, option) is not None:
                raise UserError(f"--{option.replace('_', '-')} does not go without --bridge")
        return
    given = [name for name in ("pairs", "state", "tokens") if getattr(args, name) is not None]
    if args.plain and given:
        raise UserError(f"--{given[0]} does not go together with --plain")
    if args.plain and not _is_loopback(_host_port("--bridge", args.bridge)[0]):
        raise UserError("--plain goes to a loopback address only")
    if not args.plain and not given:
        raise UserError("boards need certificates: give --pairs, --state or --tokens (or --plain)")
    if args.tokens is not None and args.pairs is None:
        raise UserError("--tokens needs --pairs, for a token is good for one key only")


def _start(args: argparse.Namespace, folder: Path, stack: ExitStack) -> None:
    """Start a bridge, and have `args` say where it is."""
    if args.kubernetes:
        options = ["--kubernetes", "--bridge-name", "motelet-load"]
        options += ["--kubeconfig", str(args.kubeconfig)] if args.kubeconfig else []
    else:
        args.manifests = folder / "manifests"
        args.manifests.mkdir()
        options = ["--manifests", str(args.manifests)]
    bridge = stack.enter_context(BridgeProcess(folder, options, tls=not args.plain))
    args.bridge, args.server_name = f"{HOST}:{bridge.port}", NAME
    args.state = None if args.plain else bridge.state


def _world(args: argparse.Namespace, plan: Plan) -> World | None:
    if args.kubernetes:
        try:
            return Cluster(access.find(args.kubeconfig), plan)
        except BackendError as error:
            raise UserError(str(error)) from error
    return Folder(args.manifests, plan) if args.manifests is not None else None


def _connector(
    args: argparse.Namespace, nodes: Sequence[str], folder: Path
) -> Callable[[str, SimulatedBoard], BoardClient]:
    """What makes the connection of a board; certificates are there when this returns."""
    host, port = _host_port("--bridge", args.bridge)
    address = _Address(host, port, args.server_name or host)
    contexts: dict[str, ssl.SSLContext] = {}
    if not args.plain:
        contexts = _contexts(args, address, nodes, folder)

    def connect(node: str, board: SimulatedBoard) -> BoardClient:
        context = contexts.get(node)
        options = {"server_hostname": address.name} if context else {}
        path = protocol.PATH if context else f"{protocol.PATH}/{node}"
        return BoardClient(board, port, context, path, host, ping_interval=PING_SECONDS, **options)

    return connect


def _contexts(
    args: argparse.Namespace, address: _Address, nodes: Sequence[str], folder: Path
) -> dict[str, ssl.SSLContext]:
    pairs = Pairs(args.pairs or folder / "pairs")
    missing = pairs.missing(nodes)
    if missing and args.tokens is not None:
        _enrol(args, address, pairs, missing)
        missing = pairs.missing(nodes)
    if missing and args.state is not None:
        print(f"making {len(missing)} certificates ...", file=sys.stderr, flush=True)
        identities.make(pairs, missing, args.state)
    elif missing:
        node = missing[0]
        hint = f"motelet bridge cert create {node} --state STATE --out {pairs.folder / node}"
        raise UserError(f"{len(missing)} boards have no certificate; make that of {node} with: {hint}")
    return {node: pairs.context(node) for node in nodes}


def _enrol(args: argparse.Namespace, address: _Address, pairs: Pairs, missing: Sequence[str]) -> None:
    tokens = identities.read_tokens(args.tokens)
    host, port = _host_port("--enrol", args.enrol) if args.enrol else (address.host, ENROL_PORT)
    joining = [node for node in missing if node in tokens]
    with ThreadPoolExecutor(ENROLLING) as several:
        jobs = [
            several.submit(identities.enrol, pairs, node, tokens[node], host, port, address.name)
            for node in joining
        ]
        try:
            for job in jobs:
                job.result()
        finally:
            several.shutdown(cancel_futures=True)


def _printer(as_json: bool) -> Callable[[Figure], None]:
    def show(figure: Figure) -> None:
        value = f"{figure.value:.0f}" if figure.value == int(figure.value) else f"{figure.value:.2f}"
        print(figure.line() if as_json else f"{figure.name:30} {value:>10} {figure.unit}", flush=True)

    return show


def _host_port(option: str, text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) <= 65535:
        raise UserError(f"{option} {text}: expected HOST:PORT")
    return host, int(port)


def _is_loopback(host: str) -> bool:
    try:
        return host == NAME or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _whole(limit: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= limit:
            raise argparse.ArgumentTypeError(f"{text}: expected a whole number from 1 to {limit}")
        return int(text)

    return read


def _number(limit: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not 0 <= number <= limit:
            raise argparse.ArgumentTypeError(f"{text}: expected a number from 0 to {limit:g}")
        return number

    return read
