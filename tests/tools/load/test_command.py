"""`motelet load` against real bridges: what it measures happened, and what is wrong is said."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from motelet.tools import cli
from motelet.tools.load import command
from motelet.tools.load.bridge import NAME, BridgeProcess
from motelet.tools.load.identities import Pairs, make

SMALL = ["--nodes", "3", "--devices", "2", "--properties", "2"]
FIGURES = [
    "load.connects_per_s",
    "load.fanout_s",
    "load.first_reports_s",
    "load.reports_per_s",
    "load.report_to_ack_ms.p50",
    "load.report_to_ack_ms.p99",
]


@pytest.fixture
def load(capsys: pytest.CaptureFixture[str]):
    """Runs `motelet load` in this process; -> (exit status, figures by name, what it says on stderr)."""

    def run(*arguments: str) -> tuple[int, dict[str, float], str]:
        status = cli.main(["load", "--json", *arguments])
        said = capsys.readouterr()
        figures = [json.loads(line) for line in said.out.splitlines()]
        return status, {each["name"]: each["value"] for each in figures}, said.err

    return run


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory):
    """A bridge with TLS on a folder of YAML, and the options by which the load finds it."""
    folder = tmp_path_factory.mktemp("bridge")
    manifests = folder / "manifests"
    manifests.mkdir()
    with BridgeProcess(folder, ["--manifests", str(manifests)]) as running:
        running.manifests = manifests
        running.options = ["--bridge", f"127.0.0.1:{running.port}", "--server-name", NAME]
        yield running


def statuses(manifests: Path) -> dict[str, dict[str, int]]:
    """Device to property to what was reported, as the bridge has written it down."""
    found = {}
    for path in (manifests / "status" / "default").glob("*.yaml"):
        twins = yaml.safe_load(path.read_text())["status"]["twins"]
        found[path.stem] = {each["propertyName"]: int(each["reported"]["value"]) for each in twins}
    return found


def test_a_bridge_is_started_and_measured(load) -> None:
    status, figures, _ = load(*SMALL, "--duration", "0.5")
    assert status == 0
    assert list(figures) == FIGURES
    assert figures["load.reports_per_s"] > 0


def test_reports_reach_the_status_of_a_bridge_that_runs(load, bridge, tmp_path: Path) -> None:
    """With the CA of its folder first, then with the pairs that were made then and no CA."""
    manifests, pairs = bridge.manifests, tmp_path / "pairs"
    kept = manifests / "mine.yaml"
    kept.write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: mine}\n")
    seen = {}

    def remember(self, *_: object, done=command.Folder.remove):
        seen.update(statuses(manifests))
        return done(self)

    where = [*bridge.options, "--manifests", str(manifests), "--pairs", str(pairs)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command.Folder, "remove", remember)
        status, figures, _ = load(*SMALL, *where, "--state", str(bridge.state), "--duration", "0.3")
    assert status == 0
    assert list(figures) == FIGURES
    assert seen.keys() == {f"load-{node}-{device}" for node in range(3) for device in range(2)}
    assert all(each.keys() == {"p0", "p1"} for each in seen.values())
    # What was acknowledged is in the status: each board counts its reports up, over all its properties.
    reports = sum(max(seen[f"load-{node}-0"]["p0"], seen[f"load-{node}-1"]["p1"]) for node in range(3))
    assert reports >= figures["load.reports_per_s"] * 0.3
    assert [path.name for path in manifests.glob("*.yaml")] == ["mine.yaml"]
    status, figures, _ = load(*SMALL, *where, "--rate", "20", "--duration", "0.5")
    assert status == 0
    assert figures["load.reports_per_s"] <= 3 * 20 * 1.5
    kept.unlink()


def test_boards_join_with_tokens(load, bridge, tmp_path: Path) -> None:
    create = [sys.executable, "-m", "motelet.tools.cli", "bridge", "token", "create", "--state"]
    tokens = [
        subprocess.run(
            [*create, str(bridge.state), f"load-{node}"],
            env=bridge.environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for node in range(2)
    ]
    (tmp_path / "tokens").write_text("".join(tokens))
    where = [*bridge.options, "--pairs", str(tmp_path / "pairs"), "--tokens", str(tmp_path / "tokens")]
    where += ["--enrol", f"127.0.0.1:{bridge.enrol_port}", "--nodes", "2", "--duration", "0"]
    assert load(*where)[0] == 0
    key = tmp_path / "pairs" / "load-1" / "node-key.der"
    assert key.stat().st_mode & 0o777 == 0o600
    # The pairs are there now, and the tokens, good for one key, are not used again.
    before = key.read_bytes()
    assert load(*where)[0] == 0
    assert key.read_bytes() == before
    # A token of another bridge: its CA is not believed.
    (tmp_path / "tokens").write_text("0" * 64 + tokens[0][64:])
    key.parent.rename(tmp_path / "gone")
    (tmp_path / "pairs" / "load-0").rename(tmp_path / "gone too")
    status, _, error = load(*where)
    assert status == cli.EXIT_FAILURE
    assert "its CA is not that of the token of load-0" in error


def test_what_is_not_the_loads_is_left_alone(load, bridge, tmp_path: Path) -> None:
    mine = tmp_path / "motelet-load-load-1.yaml"
    mine.write_text("# mine\n")
    where = [*bridge.options, "--manifests", str(tmp_path), "--state", str(bridge.state)]
    status, _, error = load(*SMALL, *where)
    assert status == cli.EXIT_FAILURE
    assert f"{mine} is there already" in error
    assert mine.read_text() == "# mine\n"
    assert [path.name for path in mine.parent.glob("*.yaml")] == [mine.name]


def test_a_bridge_that_refuses_a_board_ends_the_load(load, bridge, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs"
    make(Pairs(pairs), ["load-0", "load-1"], bridge.state)
    revoke = [sys.executable, "-m", "motelet.tools.cli", "bridge", "cert", "revoke", "load-1"]
    subprocess.run([*revoke, "--state", str(bridge.state)], env=bridge.environment, check=True)
    status, _, error = load(*bridge.options, "--pairs", str(pairs), "--nodes", "2", "--duration", "0")
    assert status == cli.EXIT_FAILURE
    assert "the bridge refuses load-1" in error
    assert "revoked" in error


def test_without_devices_there_is_nothing_to_report(load, bridge) -> None:
    status, figures, error = load(*bridge.options, "--state", str(bridge.state), "--nodes", "1")
    assert status == cli.EXIT_FAILURE
    assert list(figures) == FIGURES[:1]
    assert "no board holds a device" in error


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--nodes", "10000", "--devices", "11"], "110000 devices in all, at most 100000"),
        (["--prefix", "x" * 60], "no name of a node"),
        (["--prefix", "../x"], "no name of a node"),
        (["--namespace", "A"], "no name of a namespace"),
        (["--kubeconfig", "x"], "--kubeconfig does not go without --kubernetes"),
        (["--pairs", "x"], "--pairs does not go without --bridge"),
        (["--bridge", "127.0.0.1:1"], "boards need certificates"),
        (["--bridge", "127.0.0.1:1", "--plain", "--state", "x"], "--state does not go together with --plain"),
        (["--bridge", "192.0.2.1:1", "--plain"], "--plain goes to a loopback address only"),
        (["--bridge", "127.0.0.1", "--plain"], "--bridge 127.0.0.1: expected HOST:PORT"),
        (["--bridge", "127.0.0.1:1", "--tokens", "x"], "--tokens needs --pairs"),
        (["--bridge", "127.0.0.1:1", "--state", "/nowhere"], "--state /nowhere: there is no CA"),
        (["--bridge", "127.0.0.1:1", "--pairs", "/nowhere"], "make that of load-0 with: motelet bridge cert"),
        (["--bridge", "x:1", "--plain", "--kubernetes", "--manifests", "x"], "a bridge has one backend"),
        (["--kubernetes", "--kubeconfig", "/nowhere"], "kubeconfig /nowhere"),
    ],
)
def test_options_that_cannot_be(load, arguments: list[str], text: str) -> None:
    status, figures, error = load(*arguments)
    assert (status, figures) == (cli.EXIT_FAILURE, {})
    assert text in error


@pytest.mark.parametrize(
    "arguments",
    [
        ["--nodes", "0"],
        ["--nodes", "10001"],
        ["--devices", "257"],
        ["--properties", "257"],
        ["--rate", "10001"],
        ["--rate", "nan"],
        ["--duration", "3601"],
        ["--duration", "-1"],
    ],
)
def test_limits(load, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        load(*arguments)
    assert stop.value.code == cli.EXIT_USAGE


@pytest.mark.parametrize("line", ["nonsense", "a.b.c.d", "0.e30.bm9uZQ.x", "0.e30.eyJzdWIiOiAiLi4veCJ9.x"])
def test_what_is_no_token_is_named_by_its_line(load, tmp_path: Path, line: str) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"\n{line}\n")
    status, _, error = load("--bridge", "127.0.0.1:1", "--pairs", str(tmp_path), "--tokens", str(tokens))
    assert status == cli.EXIT_FAILURE
    assert f"{tokens}, line 2: not a token" in error
