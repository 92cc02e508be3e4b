"""`motelet bench`: take the measurements, print them and write them down."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from motelet.tools.bench.figures import Figure
from motelet.tools.cli import EXIT_FAILURE, UserError
from motelet.tools.fetch import FetchError

MEASUREMENTS = {  # module of this package: what its figures are about, in the order they are taken
    "ledger": "size and heap of each module of core",
    "wire": "bytes of a report on the wire",
    "memory": "a connected gateway's heap and allocations",
    "store": "what the store costs in flash, time and memory",
    "image": "what a board is given",
    "mapper": "what polling costs a serial bus",
    "flash": "from an empty board to a provisioned one",
    "identity": "handshakes, enrolment and memory of a bridge",
    "twin": "updates of a twin over MQTT",
    "broker": "the internal MQTT broker beside mosquitto",
    "edged": "pods: from apply to Running, and what one costs a board",
    "latency": "from YAML to register and back",
    "cloudcore": "a board as a node of a KubeEdge cluster",
    "kubernetes": "boards as nodes of any cluster",
    "bridge": "a bridge under the load of a thousand boards",
}
DEFAULT_OUTPUT = Path("build/bench.jsonl")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `motelet bench`."""
    listed = "\n".join(f"  {name:10} {about}" for name, about in MEASUREMENTS.items())
    parser.epilog = f"measurements:\n{listed}"
    parser.add_argument("measurement", nargs="*", metavar="MEASUREMENT", help="which to take (default: all)")
    parser.add_argument(
        "--output", type=Path, default=DEFAULT_OUTPUT, help=f"file to write (default {DEFAULT_OUTPUT})"
    )


def run(args: argparse.Namespace) -> int:
    """Take the measurements; returns 1 if one of them could not be taken."""
    wanted = args.measurement or list(MEASUREMENTS)
    unknown = [name for name in wanted if name not in MEASUREMENTS]
    if unknown:
        raise UserError(f"no measurement {', '.join(unknown)}; there are {', '.join(MEASUREMENTS)}")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    status = 0
    with args.output.open("w") as output:
        for name in wanted:
            print(f"measuring {MEASUREMENTS[name]} ...", file=sys.stderr, flush=True)
            try:
                for figure in importlib.import_module(f"motelet.tools.bench.{name}").measure():
                    print(figure.line(), file=output, flush=True)
                    print(_shown(figure), flush=True)
            except (UserError, FetchError) as error:
                print(f"motelet bench: {name}: {error}", file=sys.stderr)
                status = EXIT_FAILURE
    return status


def _shown(figure: Figure) -> str:
    digits = 0 if figure.value == int(figure.value) else 2 if figure.value >= 1 else 4
    value = f"{figure.value:.{digits}f}"
    return f"{figure.name:40} {value:>10} {figure.unit}"
