"""`motelet names`: put the names of the source back into what a board says.

A board runs code whose names are others (`shorten`), and its tracebacks have those.
"""

import argparse
import json
import sys
from pathlib import Path

from motelet.tools import shorten


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `motelet names`."""
    parser.add_argument("names", metavar="NAMES.json", type=Path, help="made beside what the board was given")
    parser.epilog = "Reads log lines or tracebacks from standard input."


def run(args: argparse.Namespace) -> int:
    """Copy standard input to standard output with the names of the source; -> exit status."""
    names = json.loads(args.names.read_text(encoding="utf-8"))
    for line in sys.stdin:
        sys.stdout.write(shorten.translate(line, names))
    return 0
