"""`motelet provision`: tell a board its name, its bridge, its networks and its secrets, over mpremote.

The settings go into the board's NVS one by one, the one that makes the board a provisioned one last. Each is
read back as a digest; one that is there already is not written again, so a run that broke off goes on where
it was. Secrets are asked for or read from files; they are in no argument, no message and no traceback.
"""

from __future__ import annotations

import argparse
import getpass
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from motelet.ports import der
from motelet.tools.cli import UserError
from motelet.tools.lint import ROOT
from motelet.tools.setup import ports

NAMES = ("secrets", "ca", "cert", "key", "config")  # as ports/esp32/settings.py has them; "config" last
SIZE_MAX = 3000  # bytes of one, there too
STORE_BYTES = 131072  # of a store in a folder; a partition is taken whole
NODE_MAX = 52  # characters: what a certificate's common name leaves


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `motelet provision`."""
    parser.add_argument("--node", required=True, help="the board's name in the cluster")
    parser.add_argument("--bridge", required=True, metavar="HOST:PORT", help="where motelet bridge listens")
    parser.add_argument(
        "--wifi", action="append", default=[], metavar="SSID", help="a network; twice for two"
    )
    parser.add_argument(
        "--secrets", type=Path, metavar="FILE", help='JSON {"token": .., "wifi": {ssid: key}}; else asked for'
    )
    parser.add_argument(
        "--ca", type=Path, metavar="FILE", help="the bridge's CA, DER; not needed with a token"
    )
    parser.add_argument("--cert", type=Path, metavar="FILE", help="the board's certificate, DER")
    parser.add_argument("--key", type=Path, metavar="FILE", help="its private key, DER")
    parser.add_argument(
        "--settings", type=Path, metavar="FILE", help="JSON with further settings (boards/README)"
    )
    parser.add_argument("--board", help="take the pins of boards/BOARD/pins.json")
    parser.add_argument("--files", type=Path, metavar="DIR", help="also copy the code, build/image/BOARD/lib")
    parser.add_argument("--port", help="serial port (default: the one board on USB)")


def run(args: argparse.Namespace) -> int:
    """Provision; returns 0 when the board holds what was asked for, read back."""
    values = settings(args)
    from motelet.tools.setup.install import install
    from motelet.tools.setup.remote import Remote

    began = time.monotonic()
    remote = Remote(ports.find(args.port))
    try:
        if args.files is not None:
            install(remote, args.files)
        version = remote.call(lambda: remote.exec("import motelet\nprint(motelet.__version__)"))
        remote.call(lambda: _choose_store(remote, values))
        written = remote.call(lambda: write(remote, values))
    finally:
        remote.close()
    took = time.monotonic() - began
    print(f"{args.node}: provisioned in {took:.1f} s, motelet {version}; {written} written anew")
    return 0


def settings(args: argparse.Namespace) -> dict[str, bytes]:
    """What is to be in the board's NVS, by name. UserError for what cannot be."""
    if not 0 < len(args.node) <= NODE_MAX:
        raise UserError(f"--node: 1 to {NODE_MAX} characters")
    host, _, port = args.bridge.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(f"--bridge: {args.bridge} is not HOST:PORT")
    config: dict[str, Any] = {}
    if args.board is not None:
        config |= _json(ROOT / "boards" / args.board / "pins.json")
    if args.settings is not None:
        config |= _json(args.settings)
    config["node"] = args.node
    config["bridge"] = {**config.get("bridge", {}), "host": host, "port": int(port)}
    if args.wifi:
        config["network"] = {**config.get("network", {}), "wifi": [{"ssid": ssid} for ssid in args.wifi]}
    networks = config.get("network", {})
    if len(networks.get("wifi", [])) > 2 or not (networks.get("wifi") or networks.get("ethernet")):
        raise UserError("--wifi: one or two networks, unless the settings have network.ethernet")
    values = {name: _der(name, getattr(args, name)) for name in ("ca", "cert", "key") if getattr(args, name)}
    if ("cert" in values) != ("key" in values) or ("cert" in values and "ca" not in values):
        raise UserError("--ca, --cert and --key go together; with a token none of them is needed")
    secrets = _secrets(args, [each["ssid"] for each in networks.get("wifi", [])], "cert" not in values)
    values["secrets"] = _text(secrets)
    values["config"] = _text(config)
    for name, value in values.items():
        if len(value) > SIZE_MAX:
            raise UserError(f"{name}: {len(value)} bytes, a board keeps {SIZE_MAX}")
    return values


def write(remote: Any, values: dict[str, bytes]) -> int:
    """Have the board hold `values` and no others; -> how many had to be written. UserError if it does not."""
    remote.exec("from motelet.ports.esp32 import settings as _s\nfrom hashlib import sha256 as _h")
    written = 0
    before = _digests(remote)
    for name in NAMES:
        value = values.get(name)
        if before[name] == _digest(value):
            continue
        if written == 0 and before["config"] and name != "config":
            # Until it is whole again it is no provisioned board: a new key with an old name would be neither.
            remote.exec("_s.put('config', None)")
            before["config"] = ""
        if value is None:
            remote.exec(f"_s.put('{name}', None)")
        else:
            remote.send("_v", value)
            remote.exec(f"_s.put('{name}', bytes(_v))\ndel _v")
        written += 1
        print(f"{name}: {'written' if value is not None else 'removed'}", file=sys.stderr)
    after = _digests(remote)
    wrong = [name for name in NAMES if after[name] != _digest(values.get(name))]
    if wrong:
        raise UserError(f"read back other than written: {', '.join(wrong)}")
    return written


def _digests(remote: Any) -> dict[str, str]:
    code = "for _n in _s.NAMES:\n _v = _s.get(_n)\n print(_n, '' if _v is None else _h(_v).digest().hex())"
    lines = [line.partition(" ") for line in remote.exec(code).splitlines()]
    return {name: digest for name, _, digest in lines}


def _digest(value: bytes | None) -> str:
    return "" if value is None else hashlib.sha256(value).hexdigest()


def _choose_store(remote: Any, values: dict[str, bytes]) -> None:
    """Have the settings name the store the board has, unless they name one."""
    config = json.loads(values["config"])
    if "store" not in config:
        code = (
            "import esp32\n_p = esp32.Partition.find(1, label='motelet')\nprint(_p[0].info()[3] if _p else 0)"
        )
        size = int(remote.exec(code))
        place = (
            {"path": "partition:motelet", "size": size} if size else {"path": "/store", "size": STORE_BYTES}
        )
        values["config"] = _text({**config, "store": place})


def _secrets(args: argparse.Namespace, networks: list[str], token: bool) -> dict[str, Any]:
    if args.secrets is not None:
        given = _json(args.secrets, secret=True)
        keys = {ssid: given.get("wifi", {}).get(ssid) for ssid in networks}
    else:
        given = {"token": getpass.getpass("join token (of motelet bridge token): ")} if token else {}
        keys = {ssid: getpass.getpass(f"key of the network {ssid}: ") or None for ssid in networks}
    if token and not given.get("token"):
        raise UserError("a board joins by a token, or with --ca, --cert and --key")
    return {**({"token": given["token"]} if token else {}), "wifi": keys}


def _json(path: Path, secret: bool = False) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        # The decoder's own text has a piece of the file.
        raise UserError(f"{path}: no JSON" + ("" if secret else f": {error}")) from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: no JSON object")
    return value


def _der(name: str, path: Path) -> bytes:
    try:
        value = path.read_bytes()
        if not der.split(value) or (name != "ca" and len(der.split(value)) != 1):
            raise ValueError("not exactly one")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"--{name}: {path} is no DER: {error}") from None
    return value


def _text(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
