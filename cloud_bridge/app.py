"""`motelet bridge`: reads the options, puts the bridge together and runs it until it is told to stop."""

import argparse
import asyncio
import ipaddress
import signal
import ssl
import sys
from pathlib import Path

from cloud_bridge import logs
from cloud_bridge.backends.base import Backend, BackendError
from cloud_bridge.backends.manifests import Manifests
from cloud_bridge.cloudhub.server import CloudHub
from cloud_bridge.cloudhub.tls import server_context
from cloud_bridge.devicecontroller.controller import DeviceController

LISTEN_DEFAULT = "0.0.0.0:10000"
"""KubeEdge's CloudHub has the same port. All interfaces: nobody without a certificate gets in."""
LISTEN_PLAIN_DEFAULT = "127.0.0.1:10000"
STOP_SECONDS = 10.0
"""For finishing what is under way after SIGTERM."""

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
        required=True,
        help="folder of Kubernetes YAML to serve; it is watched, and the status is written to DIR/status",
    )
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        help=f"where boards connect (default {LISTEN_DEFAULT}; with --plain {LISTEN_PLAIN_DEFAULT})",
    )
    tls = parser.add_argument_group("TLS", "PEM or DER; all three are needed")
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
    log = parser.add_argument_group("logs, on stderr")
    log.add_argument("--log-level", choices=logs.LEVELS, default="info", help="default: %(default)s")
    log.add_argument("--log-format", choices=logs.FORMATS, default="logfmt", help="default: %(default)s")


def run(args: argparse.Namespace) -> int:
    """Run the bridge; -> exit status. What is wrong with an option or a file is one line on stderr."""
    logs.configure(args.log_level, args.log_format)
    try:
        host, port = _address(args)
        context = None if args.plain else _tls(args)
        asyncio.run(_bridge(Manifests(args.manifests), context, host, port))
    except (OptionError, BackendError) as error:
        print(f"motelet bridge: {error}", file=sys.stderr)
        return EXIT_USAGE if isinstance(error, OptionError) else EXIT_FAILURE
    return 0


async def _bridge(backend: Backend, context: ssl.SSLContext | None, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await backend.start()
    controller = DeviceController(backend)
    controller.start()
    hub = CloudHub(controller, context)
    try:
        try:
            await hub.start(host, port)
        except OSError as error:
            raise OptionError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
        async with asyncio.TaskGroup() as tasks:
            # If one of them ends by an error, that ends the bridge: whoever started it starts it again.
            running = [tasks.create_task(part.run()) for part in (backend, controller, hub)]
            await stop.wait()
            _log.info("stopping")
            for task in running:
                task.cancel()
        async with asyncio.timeout(STOP_SECONDS):
            await hub.stop()
            await controller.flush()
    finally:
        backend.stop()
    _log.info("stopped")


def _address(args: argparse.Namespace) -> tuple[str, int]:
    text = args.listen or (LISTEN_PLAIN_DEFAULT if args.plain else LISTEN_DEFAULT)
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise OptionError(f"--listen {text}: expected HOST:PORT")
    if args.plain and not _is_loopback(host):
        raise OptionError(f"--plain listens on a loopback address only, not on {host}")
    return host, int(port)


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
