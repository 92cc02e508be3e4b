"""How fast the Kubernetes backend is, and what it asks of the API server.

Its world (the rights of the bridge, boards that report) is that of the tests, and nothing here may import
it; so the measuring is a program among them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from motelet.tools.bench.figures import Figure
from motelet.tools.cli import UserError

PROGRAM = Path(__file__).resolve().parents[2] / "tests" / "kubernetes" / "measure.py"
SECONDS_MAX = 1200


def measure() -> Iterator[Figure]:
    """`k8s.patch_to_edge_ms`, `.report_to_status_ms`, the API's writes, and `bridge.connects_per_s`."""
    if not PROGRAM.exists():
        raise UserError(f"{PROGRAM} is missing: these figures need the source tree")
    done = subprocess.run([sys.executable, str(PROGRAM)], capture_output=True, text=True, timeout=SECONDS_MAX)
    if done.returncode:
        raise UserError(f"{PROGRAM.name} failed: {done.stderr.strip()[-500:]}")
    for line in done.stdout.splitlines():
        yield Figure(**json.loads(line))
