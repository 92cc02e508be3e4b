"""`motelet bridge token ...` and `motelet bridge cert ...`: what an operator does with identities.

They change the state folder, or the Secrets; a bridge that runs on it notices within a second.
"""

import argparse
import asyncio
import re
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cloud_bridge import stores
from cloud_bridge.backends.base import BackendError
from cloud_bridge.identity import files
from cloud_bridge.identity.authority import AuthorityError
from cloud_bridge.identity.identity import Identity
from cloud_bridge.identity.registry import Registry, RegistryError
from cloud_bridge.identity.store import Store
from cloud_bridge.names import is_subdomain

TTL_DEFAULT = "24h"
"""KubeEdge's tokens live as long."""
EXIT_FAILURE = 1
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SERIAL = re.compile(r"[0-9a-fA-F]{20,}\Z")
"""What is taken for a serial number and not for a node: ours have 27 digits, a MAC address has 12."""
_DURATION = re.compile(r"([1-9][0-9]{0,8})([smhd])\Z")


def duration(text: str) -> int:
    """Seconds of a text like 90s, 30m, 24h or 365d. Raises ValueError."""
    match = _DURATION.match(text)
    if match is None:
        raise ValueError(f"expected a number with s, m, h or d: {text}")
    return int(match[1]) * _UNITS[match[2]]


def configure(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands to those of `motelet bridge`."""
    for name, summary, add in (
        ("token", "tokens that boards join with", _token),
        ("cert", "certificates of boards", _cert),
    ):
        parser = actions.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
        add(parser.add_subparsers(metavar="ACTION", required=True, title="actions"))


def run(args: argparse.Namespace) -> int:
    """Do what was asked; -> exit status. What cannot be done is one line on stderr."""
    try:
        asyncio.run(_run(args))
    except (AuthorityError, RegistryError, BackendError, OSError) as error:
        print(f"motelet bridge: {error}", file=sys.stderr)
        return EXIT_FAILURE
    return 0


async def _run(args: argparse.Namespace) -> None:
    # Only what makes something out of the CA makes a CA.
    async with stores.opened(args, made=args.act in (_create, _create_pair)) as store:
        await args.act(args, store)


def _token(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    create = _action(actions, "create", "print a new token for a node", _create)
    create.add_argument("node", metavar="NODE")
    create.add_argument(
        "--ttl", type=duration, default=TTL_DEFAULT, help="how long it lives (default %(default)s)"
    )
    create.add_argument("--reusable", action="store_true", help="good for several keys, until it expires")
    _action(actions, "list", "list the tokens, without their secret", _list_tokens)
    revoke = _action(actions, "revoke", "make a token worthless", _revoke_token)
    revoke.add_argument("id", metavar="ID", help="as `list` shows it")


def _cert(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    create = _action(actions, "create", "make a node's key and certificate here", _create_pair)
    create.add_argument("node", metavar="NODE")
    create.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="for ca.der, node.der and node-key.der"
    )
    _action(actions, "list", "list the certificates", _list_certificates)
    revoke = _action(actions, "revoke", "make certificates worthless, and end their sessions", _revoke)
    revoke.add_argument("what", metavar="NODE|SERIAL", help="a node, or a serial number in hex")


def _action(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    summary: str,
    act: Callable[[argparse.Namespace, Store], Awaitable[None]],
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    stores.configure(parser)
    parser.set_defaults(act=act)
    return parser


async def _create(args: argparse.Namespace, store: Store) -> None:
    print(await (await Identity.open(store)).create_token(args.node, args.ttl, args.reusable))


async def _list_tokens(args: argparse.Namespace, store: Store) -> None:
    now = time.time()
    rows = [
        (each.id, each.node, each.state(now), "reusable" if each.reusable else "once", _time(each.expires))
        for each in Registry(store).tokens()
    ]
    _print_table(("ID", "NODE", "STATE", "USE", "EXPIRES"), rows)


async def _revoke_token(args: argparse.Namespace, store: Store) -> None:
    await Registry(store).revoke_token(args.id)


async def _create_pair(args: argparse.Namespace, store: Store) -> None:
    identity = await Identity.open(store)
    certificate, key = await identity.create_pair(args.node)
    files.make_folder(args.out)
    # The key first: whoever finds the certificate finds its key.
    contents = {"node-key.der": key, "ca.der": identity.authority.der, "node.der": certificate}
    for name, content in contents.items():
        files.write(args.out / name, content)


async def _list_certificates(args: argparse.Namespace, store: Store) -> None:
    registry = Registry(store)
    rows = [
        (each.node or "-", each.serial, registry.state(each), _time(each.not_after), _time(each.connected))
        for each in registry.issued()
    ]
    _print_table(("NODE", "SERIAL", "STATE", "EXPIRES", "FIRST CONNECTED"), rows)


async def _revoke(args: argparse.Namespace, store: Store) -> None:
    registry = Registry(store)
    if is_subdomain(args.what) and not _SERIAL.match(args.what):
        count = await registry.revoke_node(args.what)
        print(f"revoked {count} certificates of node {args.what}, and all that are not on record")
    else:
        await registry.revoke_serial(args.what)
        print(f"revoked the certificate {args.what}")


def _time(seconds: int | None) -> str:
    return "-" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _print_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    widths = [max(len(str(row[column])) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        print("  ".join(f"{value!s:{width}}" for value, width in zip(row, widths, strict=True)).rstrip())
