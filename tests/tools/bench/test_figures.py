"""The form of the figures, and the command that takes them."""

import json
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from motelet.tools import cli
from motelet.tools.bench import command
from motelet.tools.bench.figures import Figure, quantiles


def test_a_figure_is_one_json_object() -> None:
    line = Figure("core.size.cbor", 3013, "bytes").line()
    assert json.loads(line) == {"name": "core.size.cbor", "value": 3013, "unit": "bytes", "n": 1, "spread": 0}
    assert "\n" not in line


def test_quantiles_are_figures_of_their_own() -> None:
    low, high = quantiles("e2e.x_ms", [float(n) for n in range(1, 102)], "ms")
    assert (low.name, low.value, low.n, low.spread) == ("e2e.x_ms.p50", 51, 101, 100)
    assert (high.name, high.value) == ("e2e.x_ms.p99", 100)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path):
    """Runs `motelet bench` with two made-up measurements, of which one cannot be taken."""

    def good() -> Iterator[Figure]:
        yield Figure("a.b", 1, "bytes")

    def bad() -> Iterator[Figure]:
        yield Figure("c.d", 2, "bytes")
        raise cli.UserError("no such interpreter")

    modules = {f"motelet.tools.bench.{f.__name__}": SimpleNamespace(measure=f) for f in (good, bad)}
    monkeypatch.setattr(command, "MEASUREMENTS", {"good": "one", "bad": "another"})
    monkeypatch.setattr(command.importlib, "import_module", modules.__getitem__)
    output = tmp_path / "folder" / "bench.jsonl"

    def run(*names: str) -> tuple[int, list[str]]:
        status = command.run(SimpleNamespace(measurement=list(names), output=output))
        return status, [json.loads(line)["name"] for line in output.read_text().splitlines()]

    return run


def test_every_measurement_is_taken_and_one_that_fails_fails_the_bench(measured, capsys) -> None:
    assert measured() == (1, ["a.b", "c.d"])
    assert "motelet bench: bad: no such interpreter" in capsys.readouterr().err


def test_only_what_is_named_is_taken(measured) -> None:
    assert measured("good") == (0, ["a.b"])


def test_an_unknown_measurement_is_refused(measured) -> None:
    with pytest.raises(cli.UserError, match="no measurement odd; there are good, bad"):
        measured("good", "odd")
