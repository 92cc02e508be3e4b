"""What a measurement gives: named numbers, written as one JSON object a line."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One number. `n` samples stand behind it; `spread` is the largest less the smallest of them."""

    name: str
    value: float
    unit: str
    n: int = 1
    spread: float = 0

    def line(self) -> str:
        """The figure as a line of build/bench.jsonl."""
        return json.dumps(asdict(self))


def append(path: Path, figures: Iterable[Figure]) -> None:
    """Add the figures to a file that may not be there yet, a line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        for figure in figures:
            print(figure.line(), file=file)


def quantiles(name: str, samples: Sequence[float], unit: str) -> Iterator[Figure]:
    """The median and the 99th percentile of `samples`, as figures `<name>.p50` and `<name>.p99`."""
    cuts = statistics.quantiles(samples, n=100, method="inclusive")
    spread = max(samples) - min(samples)
    yield Figure(f"{name}.p50", cuts[49], unit, len(samples), spread)
    yield Figure(f"{name}.p99", cuts[98], unit, len(samples), spread)
