"""`motelet bridge`: reads the options, puts the bridge together and runs it until it is told to stop."""

import argparse
import asyncio
import ipaddress
import signal
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from cloud_bridge import logs, stores
from cloud_bridge.backends.base import Backend, BackendError
from cloud_bridge.backends.cloudcore import options as cloudcore
from cloud_bridge.backends.cloudcore.backend import CloudCore
from cloud_bridge.backends.kubernetes import command as node_command
from cloud_bridge.backends.kubernetes import options as kubernetes
from cloud_bridge.backends.kubernetes.secretstore import SecretStore
from cloud_bridge.backends.manifests import Manifests
from cloud_bridge.cloudhub.server import CloudHub
from cloud_bridge.cloudhub.tls import context_of, load_pair, server_context
from cloud_bridge.control import Control
from cloud_bridge.controllers import Controllers
from cloud_bridge.devicecontroller.controller import DeviceController
from cloud_bridge.edgecontroller.controller import EdgeController
from cloud_bridge.identity import command
from cloud_bridge.identity.authority import AuthorityError
from cloud_bridge.identity.enrolment import Enrolment
from cloud_bridge.identity.folder import Folder
from cloud_bridge.identity.identity import Identity
from cloud_bridge.identity.registry import RegistryError
from cloud_bridge.probes import Probes
from cloud_bridge.router import Router

LISTEN_DEFAULT = "0.0.0.0:10000"
"""KubeEdge's CloudHub has the same port. All interfaces: nobody without a certificate gets in."""
LISTEN_PLAIN_DEFAULT = "127.0.0.1:10000"
ENROL_DEFAULT = "0.0.0.0:10002"
"""KubeEdge's port for certificates. Strangers may talk to it: that is its purpose."""
LIFE_DEFAULT = "365d"
CHECK_SECONDS = 86400.0
"""How often it is looked whether the bridge's own certificate has to be made again."""
STOP_SECONDS = 5.0
"""For each step of finishing what is under way after SIGTERM; Kubernetes waits 30 s for all of them."""

_log = logs.Log("bridge")


EXIT_FAILURE = 1
EXIT_USAGE = 2


class OptionError(Exception):
    """An option cannot be used; the text says which and why."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the options of the bridge."""
    parser.add_argument(
        "--manifests",
        type=Path,
        metavar="DIR",
        help="folder of Kubernetes YAML to serve; it is watched, and the status is written to DIR/status",
    )
    kubernetes.configure(parser)
    parser.add_argument(
        "--packages",
        metavar="URL",
        help="index of packages that pods may name as their image, in the format of MicroPython's mip",
    )
    parser.add_argument(
        "--control",
        type=Path,
        metavar="SOCKET",
        help="where `motelet logs` finds the bridge (default, with --manifests: DIR/status/.control)",
    )
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        help=f"where boards connect (default {LISTEN_DEFAULT}; with --plain {LISTEN_PLAIN_DEFAULT})",
    )
    _configure_identity(parser)
    parser.add_argument(
        "--http", metavar="HOST:PORT", help="serve /healthz, /readyz and /metrics there (default: nowhere)"
    )
    log = parser.add_argument_group("logs, on stderr")
    log.add_argument("--log-level", choices=logs.LEVELS, default="info", help="default: %(default)s")
    log.add_argument("--log-format", choices=logs.FORMATS, default="logfmt", help="default: %(default)s")
    cloudcore.configure(parser)
    actions = parser.add_subparsers(metavar="COMMAND", title="instead of serving")
    command.configure(actions)
    cloudcore.commands(actions)
    node_command.commands(actions)


def _configure_identity(parser: argparse.ArgumentParser) -> None:
    """The options that say who the bridge and its boards are."""
    identity = parser.add_argument_group("identities", "the bridge is the CA of its boards")
    identity.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="folder with the CA, tokens and revocations, made if missing",
    )
    identity.add_argument(
        "--secrets",
        metavar="NAMESPACE",
        help="in the place of --state: Secrets of this namespace, which all bridges of a cluster share",
    )
    identity.add_argument(
        "--name",
        action="append",
        metavar="HOST",
        help="where boards find the bridge, may be repeated (default: what this computer is called)",
    )
    identity.add_argument(
        "--enrol", metavar="HOST:PORT", default=ENROL_DEFAULT, help="where boards join (default %(default)s)"
    )
    identity.add_argument(
        "--certificate-life",
        type=command.duration,
        default=LIFE_DEFAULT,
        metavar="TIME",
        help="how long a board's certificate lasts (default %(default)s)",
    )
    tls = parser.add_argument_group("TLS without --state", "PEM or DER; all three are needed")
    tls.add_argument("--cert", type=Path, metavar="FILE", help="certificate of the bridge")
    tls.add_argument("--key", type=Path, metavar="FILE", help="its private key")
    tls.add_argument(
        "--client-ca", type=Path, metavar="FILE", help="CA that the boards' certificates are signed by"
    )
    tls.add_argument(
        "--plain",
        action="store_true",
        help="no TLS, any client may be any node: for tests, on a loopback address only",
    )


def run(args: argparse.Namespace) -> int:
    """Run the bridge; -> exit status. What is wrong with an option or a file is one line on stderr."""
    logs.configure(args.log_level, args.log_format)
    if "act" in args:
        return command.run(args)
    if "tool" in args:
        status: int = args.tool(args)
        return status
    try:
        backend = _backend(args)
        address = _address(args)
        owned = args.state is not None or args.secrets is not None
        context = None if owned or args.plain else _tls(args)
        control = args.control or (args.manifests and args.manifests / "status" / ".control")
        plan = _Plan(address, context, packages=args.packages, control=control)
        http = None if args.http is None else _host_port("--http", args.http)
        asyncio.run(_run(args, backend, plan, http) if owned else _bridge(backend, plan, http))
    except (OptionError, BackendError) as error:
        print(f"motelet bridge: {error}", file=sys.stderr)
        return EXIT_USAGE if isinstance(error, OptionError) else EXIT_FAILURE
    return 0


def _backend(args: argparse.Namespace) -> Backend:
    """The one backend that the options name."""
    named = (args.manifests is not None, args.kubernetes, args.cloudcore is not None)
    if sum(named) > 1:
        raise OptionError("--manifests, --kubernetes and --cloudcore: a bridge has one backend")
    if args.kubernetes:
        return kubernetes.make(args)
    if args.cloudcore is not None:
        return cloudcore.make(args)
    if args.manifests is None:
        raise OptionError("--manifests is missing: the folder to serve (or --kubernetes, or --cloudcore)")
    return Manifests(args.manifests)


@dataclass(frozen=True)
class _Joining:
    """What is there when the bridge is its own CA."""

    identity: Identity
    follow: Callable[[], Coroutine[Any, Any, None]] | None
    names: Sequence[str]
    address: tuple[str, int]
    context: ssl.SSLContext


@dataclass(frozen=True)
class _Plan:
    """Where to listen, and how."""

    address: tuple[str, int]
    context: ssl.SSLContext | None
    joining: _Joining | None = None
    packages: str | None = None
    control: Path | None = None


async def _run(args: argparse.Namespace, backend: Backend, plan: _Plan, http: tuple[str, int] | None) -> None:
    """Serve as the CA that the options name."""
    for option in ("cert", "key", "client_ca", "plain"):
        if getattr(args, option):
            owner = "--state" if args.state is not None else "--secrets"
            raise OptionError(f"--{option.replace('_', '-')} does not go together with {owner}")
    async with AsyncExitStack() as stack:
        try:
            store = await stack.enter_async_context(stores.opened(args, made=True))
            plan = await _joining(args, store, plan)
        except (AuthorityError, RegistryError, ValueError) as error:
            raise OptionError(str(error)) from error
        except OSError as error:
            raise OptionError(f"--state {args.state}: {error.filename}: {error.strerror}") from error
        await _bridge(backend, plan, http)


async def _joining(args: argparse.Namespace, store: Folder | SecretStore, plan: _Plan) -> _Plan:
    """The plan with what boards join by."""
    names = args.name or sorted(
        {socket.gethostname().lower(), socket.getfqdn().lower(), "localhost", "127.0.0.1"}
    )
    address = _host_port("--enrol", args.enrol)
    identity = await Identity.open(store, timedelta(seconds=args.certificate_life))
    pair = await identity.server(names)
    follow = store.run if isinstance(store, SecretStore) else None
    joining = _Joining(identity, follow, names, address, context_of(pair, None))
    return replace(plan, context=context_of(pair, identity.authority.der), joining=joining)


async def _bridge(backend: Backend, plan: _Plan, http: tuple[str, int] | None) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await backend.start()
    devices, pods = DeviceController(backend), EdgeController(backend, plan.packages)
    devices.start()
    pods.start()
    controller = Router(Controllers(devices, pods), backend)
    controller.start()
    joining = plan.joining
    guard = joining.identity if joining else None
    hub = CloudHub(controller, backend.nodes, plan.context, guard, tell=backend.tell)
    if isinstance(backend, CloudCore):
        backend.publish_by(hub.publish)
    servers: list[tuple[CloudHub | Enrolment | Probes, tuple[str, int]]] = [(hub, plan.address)]
    if http is not None:
        servers.append((Probes(lambda: None if backend.synced() else "not every list could be read"), http))
    if joining is not None:
        servers.append((Enrolment(joining.identity, joining.context), joining.address))
    control = Control(plan.control, lambda *what: _pod_log(pods, hub, *what)) if plan.control else None
    try:
        if control is not None:
            try:
                await control.start()
            except OSError as error:
                _log.error("no logs of pods, cannot listen", file=plan.control, error=error.strerror or error)
        for server, (host, port) in servers:
            try:
                await server.start(host, port)
            except OSError as error:
                raise OptionError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
        async with asyncio.TaskGroup() as tasks:
            # If one of them ends by an error, that ends the bridge: whoever started it starts it again.
            running = [tasks.create_task(part.run()) for part in (backend, devices, pods, hub)]
            if joining is not None and plan.context is not None:
                running.append(tasks.create_task(_keep_certificate(joining, plan.context)))
            if joining is not None and joining.follow is not None:
                running.append(tasks.create_task(joining.follow()))
            await stop.wait()
            _log.info("stopping")
            for task in running:
                task.cancel()
        await _stop(*(server.stop for server, _ in servers), devices.flush, pods.flush)
    finally:
        if control is not None:
            await control.stop()
        await backend.stop()
    _log.info("stopped")


async def _stop(*steps: Callable[[], Awaitable[object]]) -> None:
    """Do each step of stopping, for as long as it may take: what is acknowledged is durable without them."""
    for step in steps:
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await step()
        except TimeoutError:
            _log.warning("stopping without waiting any longer", step=step.__qualname__, seconds=STOP_SECONDS)


async def _pod_log(pods: EdgeController, hub: CloudHub, *what: Any) -> str:
    """The log of a container, for `Control`."""
    namespace, name, container, lines = what
    node, resource = pods.log_of(namespace, name, container)
    return await hub.log(node, resource, lines)


async def _keep_certificate(joining: _Joining, context: ssl.SSLContext) -> None:
    """Have new connections get a certificate of the bridge that lasts, until cancelled."""
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        try:
            pair = await joining.identity.server(joining.names)
        except BackendError as error:
            _log.error("the bridge's certificate was not looked at", error=error)
            continue
        for each in (context, joining.context):
            load_pair(each, *pair)


def _host_port(option: str, text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise OptionError(f"{option} {text}: expected HOST:PORT")
    return host, int(port)


def _address(args: argparse.Namespace) -> tuple[str, int]:
    text = args.listen or (LISTEN_PLAIN_DEFAULT if args.plain else LISTEN_DEFAULT)
    host, port = _host_port("--listen", text)
    if args.plain and not _is_loopback(host):
        raise OptionError(f"--plain listens on a loopback address only, not on {host}")
    return host, port


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _tls(args: argparse.Namespace) -> ssl.SSLContext:
    for option in ("--cert", "--key", "--client-ca"):
        if getattr(args, option[2:].replace("-", "_")) is None:
            raise OptionError(f"{option} is missing: boards connect over TLS with certificates")
    try:
        return server_context(args.cert, args.key, args.client_ca)
    except OSError as error:
        raise OptionError(f"cannot read {error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise OptionError(str(error)) from error
