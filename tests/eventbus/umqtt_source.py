"""umqtt.simple for the tests. PyPI has it as a source without a build: pip unpacks it and then gives up."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from motelet.tools import fetch

REQUIREMENT = "micropython-umqtt.simple==1.3.4"
TIMEOUT_S = 120


def folder() -> Path:
    """The folder of the package `umqtt`; RuntimeError, with pip's own words, when it cannot be had."""
    target = fetch.cache_folder() / "umqtt-1.3.4"
    if not (target / "umqtt" / "simple.py").exists():
        with tempfile.TemporaryDirectory() as scratch:
            done = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "pip",
                    "download",
                    "--no-clean",
                    "--no-deps",
                    "--no-binary",
                    ":all:",
                    "--dest",
                    scratch,
                    REQUIREMENT,
                ],
                env={**os.environ, "TMPDIR": scratch},
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
            found = sorted(Path(scratch).rglob("umqtt/simple.py"))
            if not found:
                raise RuntimeError(done.stdout + done.stderr)
            partial = Path(tempfile.mkdtemp(dir=_made(fetch.cache_folder())))
            shutil.copytree(found[0].parent, partial / "umqtt")
            try:
                partial.rename(target)
            except OSError:  # another run was first
                shutil.rmtree(partial)
    return target


def _made(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path
