"""The layers hold, and a forbidden import is caught: one is planted for each contract of pyproject.toml."""

import shutil
import tomllib
from pathlib import Path

import pytest

from motelet.tools.lint import ROOT, check_chip_types, check_imports, link_tree

PLANTS = {  # identifier of the contract: what to plant, (file, line)
    "layers": [
        ("core/motelet/cbor.py", "from motelet import bus"),
        ("core/motelet/loop.py", "from motelet import edgehub"),
        ("core/motelet/metamanager.py", "from motelet import edgehub"),
        ("core/motelet/metamanager.py", "import motelet.ports.unix"),
        ("ports/unix/__init__.py", "from motelet.tools import mpy"),
        ("core/motelet/unplaced.py", ""),
    ],
    "codecs": [("core/motelet/kvlog.py", "from motelet import cbor")],
    "bridge": [("cloud_bridge/cloudhub/__init__.py", "import motelet.websocket")],
    "board": [("core/motelet/gateway.py", "import cloud_bridge")],
    "backends": [("cloud_bridge/devicecontroller/__init__.py", "import cloud_bridge.backends.manifests")],
    "tests": [("tools/mpy.py", "import tests_util")],
}
CASES = [(contract, *plant) for contract, plants in PLANTS.items() for plant in plants]


@pytest.fixture(scope="module")
def contracts() -> dict[str, str]:
    """The contracts of pyproject.toml: identifier to name."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {each["id"]: each["name"] for each in settings["tool"]["importlinter"]["contracts"]}


def test_the_layers_hold(tmp_path: Path) -> None:
    done = check_imports(link_tree(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_contract_has_a_plant(contracts: dict[str, str]) -> None:
    assert contracts.keys() == PLANTS.keys()


@pytest.mark.parametrize(("contract", "file", "line"), CASES)
def test_a_planted_import_is_caught(
    tmp_path: Path, contracts: dict[str, str], contract: str, file: str, line: str
) -> None:
    for name in ("core", "ports", "tools", "cloud_bridge"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    planted = tmp_path / file
    planted.write_text((planted.read_text() if planted.exists() else "") + f"\n{line}\n")
    done = check_imports(link_tree(tmp_path / "links", tmp_path))
    assert done.returncode == 1
    assert f"{contracts[contract]} BROKEN" in " ".join(done.stdout.split())


def test_the_chips_code_is_what_the_chips_modules_have(tmp_path: Path) -> None:
    done = check_chip_types(link_tree(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_planted_misuse_of_the_chip_is_caught(tmp_path: Path) -> None:
    for name in ("core", "ports", "tools", "cloud_bridge"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    planted = tmp_path / "ports/esp32/vitals.py"
    planted.write_text(planted.read_text() + "\n\ndef planted():\n    machine.WDT(timeout_ms=5)\n")
    done = check_chip_types(link_tree(tmp_path / "links", tmp_path))
    assert done.returncode == 1 and "timeout_ms" in done.stdout
