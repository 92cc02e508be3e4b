"""The probes measure the real thing, and one that is shown an allocation says so."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from motelet.tools import cli, mpy
from motelet.tools.bench import broker, interpreters, ledger, memory, store, twin

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        mpy.interpreter() is None and not mpy.interpreter_published(),
        reason="PyPI has no MicroPython for this computer to measure",
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For what the tests of this module build: most of it is the same."""
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Keep what the tests build away from what the bench builds."""
    monkeypatch.setattr(interpreters, "ROOT", folder)


def test_the_ledger_has_three_lines_a_module() -> None:
    figures = {figure.name: figure.value for figure in ledger.measure()}
    for prefix in ("core.size", "core.heap", "core.heap32"):
        assert figures[f"{prefix}.cbor"] > 1000
        parts = [value for name, value in figures.items() if name.startswith(f"{prefix}.")]
        assert sum(parts) == 2 * figures[f"{prefix}.total"]
    assert figures["core.heap32.total"] < figures["core.heap.total"]


def test_import_order_puts_what_is_imported_first(tmp_path: Path) -> None:
    sources = {
        "m": "",
        "m.top": "from m import low\n",
        "m.low": "import json\n",
        "m.p": "from m.p import q\n",
        "m.p.q": "",
    }
    paths = {}
    for name, text in sources.items():
        paths[name] = tmp_path / f"{name}.py"
        paths[name].write_text(text)
    order = ledger._import_order(paths)
    assert order.index("m") < order.index("m.low") < order.index("m.top")
    assert order.index("m.p") < order.index("m.p.q")


def test_the_store_stays_within_its_budget_of_flash_and_memory() -> None:
    figures = {figure.name: figure.value for figure in store.measure()}
    assert 100 < figures["kv.bytes_per_update"] <= 140
    assert 0 < figures["kv.erases_per_update"] <= 0.036
    assert 5 < figures["kv.index_bytes_per_key"] <= 8
    assert 0 < figures["kv.put_us.p50"] <= figures["kv.put_us.p99"] and figures["kv.mount_ms"] > 0


def test_the_internal_broker_has_its_price_at_a_boards_sizes() -> None:
    figures = {figure.name: figure.value for figure in broker._heap()}
    assert 5000 < figures["broker.heap_bytes.empty"] < figures["broker.heap_bytes"] < 32000


def test_an_update_over_mqtt_leaves_little_garbage() -> None:
    with twin._world("twin-garbage", "internal") as (port, config, _):
        figure = twin._garbage(port, config)
    assert (figure.name, figure.unit) == ("twin.alloc_update_bytes", "bytes")
    assert 0 < figure.value <= 400


def test_a_planted_allocation_is_caught(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd) -> None:
    step = "        ran = 0\n"
    original = mpy.sources

    def with_plant(ports: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
        for source, inner in original(ports):
            if inner == "motelet/loop.py":
                text = source.read_text()
                assert text.count(step) == 1
                source = tmp_path / "loop.py"
                source.write_text(text.replace(step, step + "        bytearray(1)\n"))
            yield source, inner

    monkeypatch.setattr(mpy, "sources", with_plant)
    with pytest.raises(cli.UserError, match="the probe ended"):
        list(memory._run("", tls=True))
    assert "MemoryError" in capfd.readouterr().err
