"""What tests of the CloudCore backend have in common."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    """The bridge configures logging for its whole process, which here is that of all tests."""
    loggers = [logging.getLogger(name) for name in (None, "cloud_bridge", "websockets")]
    before = [(each, each.level, each.handlers[:]) for each in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers
