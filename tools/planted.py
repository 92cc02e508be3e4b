"""Counts the defects that are planted on purpose and found: one test each, marked `planted`.

Run by `make torture`, whose figures `planted.caught` and `planted.total` it adds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from motelet.tools.bench.figures import Figure, append

TESTS = ("tests/store", "tests/simulate", "tests/edged")


def count(tests: tuple[str, ...]) -> tuple[int, int]:
    """Run the marked tests below these folders: how many passed, and how many there are."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "planted", "--show-capture=no"]
        subprocess.run([*command, f"--junit-xml={report}", *tests])
        cases = ET.parse(report).findall(".//testcase")
    caught = [case for case in cases if case.find("failure") is None and case.find("error") is None]
    return len(caught), len(cases)


def main() -> int:
    """Exit status 1 when one is not found, or there is none."""
    parser = argparse.ArgumentParser(prog="planted", description="Count the planted defects that are found.")
    parser.add_argument("--output", type=Path, default=Path("build/torture.jsonl"), help="where figures go")
    args = parser.parse_args()
    caught, total = count(TESTS)
    print(f"{caught} of {total} planted defects found")
    append(args.output, (Figure("planted.caught", caught, "count"), Figure("planted.total", total, "count")))
    return 0 if caught == total > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
