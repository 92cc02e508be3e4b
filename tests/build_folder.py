"""Where tests keep what they compile, from one run to the next."""

import os
from pathlib import Path


def build_folder(name: str) -> Path:
    """The folder `name` of this process: two that run tests at a time must not write to one."""
    return Path(__file__).parent.parent / "build" / os.environ.get("PYTEST_XDIST_WORKER", "") / name
