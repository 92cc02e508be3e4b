"""`motelet gateway`: run the edge runtime on this Linux machine, under CPython or real MicroPython."""

import argparse
import os
import sys

from motelet.ports.unix.run import main


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `motelet gateway`."""
    parser.add_argument(
        "config", metavar="CONFIG.json", help="node name, bridge, certificates (DER) and store"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted; -> exit status, 2 for a configuration that cannot be used."""
    return int(main([os.path.basename(sys.argv[0]), args.config]))
