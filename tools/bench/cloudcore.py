"""What a node of a KubeEdge cluster costs and how fast it is, with the tests' stand-in for CloudCore.

The stand-in is the tests' own and nothing here may import it; so the measuring is a program among them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from motelet.tools.bench.figures import Figure
from motelet.tools.cli import UserError

PROGRAM = Path(__file__).resolve().parents[2] / "tests" / "cloudcore" / "measure.py"
SECONDS_MAX = 600


def measure() -> Iterator[Figure]:
    """`cloudcore.desired_to_edge_ms`, `.report_to_ack_ms`, `.kib_per_node`, `.bytes_.._per_device_update`."""
    if not PROGRAM.exists():
        raise UserError(f"{PROGRAM} is missing: these figures need the source tree")
    done = subprocess.run([sys.executable, str(PROGRAM)], capture_output=True, text=True, timeout=SECONDS_MAX)
    if done.returncode:
        raise UserError(f"{PROGRAM.name} failed: {done.stderr.strip()[-500:]}")
    for line in done.stdout.splitlines():
        yield Figure(**json.loads(line))
