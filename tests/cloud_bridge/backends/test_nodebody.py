"""What a board looks like as a Node, from what it says of itself."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from board_client import until

from cloud_bridge.backends import nodebody
from cloud_bridge.backends.nodefolder import NodeFolder

NOW = 1_790_000_000_000
THEN = nodebody.rfc3339(NOW - 60_000)
INFO = {"platform": "esp32", "boot": 3, "software": "motelet 0.1.0", "window": 8}


def board(**fields: Any) -> nodebody.Board:
    return nodebody.Board(INFO, "192.0.2.7", NOW - 1000, fields)


def conditions(stored: Any = (), **fields: Any) -> dict[str, dict[str, Any]]:
    return {each["type"]: each for each in nodebody.conditions(board(**fields), stored, NOW)}


def test_a_board_is_never_linux() -> None:
    labels = nodebody.labels("b1", board())
    assert labels["kubernetes.io/os"] == "micropython" and labels["kubernetes.io/arch"] == "xtensa"
    assert labels["node-role.kubernetes.io/edge"] == "" and labels["kubernetes.io/hostname"] == "b1"
    assert nodebody.status("b1", board(), {}, NOW)["nodeInfo"]["operatingSystem"] == "micropython"
    assert "kubernetes.io/hostname" not in nodebody.labels("b" * 64, board())


def test_capacity_is_what_the_board_has() -> None:
    assert nodebody.capacity(board(heap=65536, flash=1 << 20)) == {
        "cpu": "1",
        "pods": "0",
        "memory": "65536",
        "ephemeral-storage": "1048576",
    }
    assert nodebody.capacity(board(pods=3, heap=True)) == {"cpu": "1", "pods": "3"}


@pytest.mark.parametrize(
    ("fields", "peer", "expected"),
    [
        ({}, "192.0.2.7", ["192.0.2.7"]),
        ({"address": "10.1.2.3"}, "192.0.2.7", ["10.1.2.3"]),
        ({"address": "board.local"}, "192.0.2.7", ["192.0.2.7"]),
        ({"address": "127.0.0.1"}, "::1", []),
        ({}, "fe80::1", []),
        ({}, "", []),
    ],
)
def test_addresses_are_those_others_can_reach(fields: Any, peer: str, expected: list[str]) -> None:
    found = nodebody.addresses(nodebody.Board(INFO, peer, NOW, fields))
    assert found == [{"type": "InternalIP", "address": each} for each in expected]


def test_conditions_follow_what_the_board_says() -> None:
    found = conditions(heap=1000, heap_free=99, flash=1000, flash_free=100, reset="power", crash="boom")
    assert found["Ready"]["status"] == "True" and "power" in found["Ready"]["message"]
    assert found["Ready"]["lastHeartbeatTime"] == nodebody.rfc3339(NOW - 1000)
    assert found["MemoryPressure"]["status"] == "True" and found["DiskPressure"]["status"] == "False"
    assert found["Crashed"]["status"] == "True" and found["Crashed"]["message"] == "boom"
    assert found["Sleeping"]["status"] == "False"
    assert conditions()["MemoryPressure"]["status"] == "Unknown"
    asleep = conditions(sleep_until=NOW + 5000)["Sleeping"]
    assert asleep["status"] == "True" and nodebody.rfc3339(NOW + 5000) in asleep["message"]
    assert conditions(sleep_until=NOW)["Sleeping"]["status"] == "False"
    assert len(conditions(crash="x" * 9999)["Crashed"]["message"]) == nodebody.TEXT_MAX


def test_a_transition_has_the_time_of_the_change() -> None:
    stored = [
        {"type": "Ready", "status": "True", "lastTransitionTime": THEN},
        {"type": "Crashed", "status": "True", "lastTransitionTime": THEN},
    ]
    found = conditions(stored)
    assert found["Ready"]["lastTransitionTime"] == THEN
    assert found["Crashed"]["lastTransitionTime"] == nodebody.rfc3339(NOW)


def test_of_a_board_that_has_gone_only_its_sleep_is_known() -> None:
    status = nodebody.gone("b1", board(sleep_until=NOW + 9000, crash="x"), {}, NOW)
    found = {each["type"]: each["status"] for each in status["conditions"]}
    assert found.pop("Sleeping") == "True"
    assert set(found.values()) == {"Unknown"} and len(found) == 6


def test_a_file_for_each_board(tmp_path: Path) -> None:
    def read() -> Any:
        return yaml.safe_load((tmp_path / "_nodes" / "b1.yaml").read_text(encoding="utf-8"))

    def ready() -> str:
        return next(each["status"] for each in read()["status"]["conditions"] if each["type"] == "Ready")

    async def run() -> None:
        nodes = NodeFolder(tmp_path)
        await nodes.connect("b1", INFO, "192.0.2.7", print)
        assert read()["kind"] == "Node" and ready() == "True"
        nodes.status("b1", {"heap": 4096, "heap_free": 1})
        await until(lambda: read()["status"]["capacity"].get("memory") == "4096")
        nodes.heard("b1", NOW)
        nodes.status("b1", {"heap": 8192})  # is not to come after what follows
        await nodes.disconnect("b1")
        await asyncio.sleep(0.05)
        assert ready() == "Unknown"
        assert read()["status"]["conditions"][0]["lastHeartbeatTime"] == nodebody.rfc3339(NOW)
        await nodes.disconnect("b1")

    asyncio.run(run())


def test_a_folder_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "_nodes").write_text("in the way")
    asyncio.run(NodeFolder(tmp_path).connect("b1", INFO, "", print))
