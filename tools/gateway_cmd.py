"""`motelet gateway`: run the edge runtime on this Linux machine, under CPython or real MicroPython."""

import argparse
import importlib
import os
import signal
import sys

PORTS = ("unix", "rpi")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `motelet gateway`."""
    parser.add_argument(
        "config", metavar="CONFIG.json", help="node name, bridge, certificates (DER) and store"
    )
    parser.add_argument(
        "--port",
        choices=PORTS,
        default=PORTS[0],
        help="what the computer is: rpi has I2C, pins and systemd, and needs motelet[rpi] (default: unix)",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted or told to end; -> exit status, 2 for a configuration that cannot be used."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    module = importlib.import_module(f"motelet.ports.{args.port}.run")
    return int(module.main([os.path.basename(sys.argv[0]), args.config]))
