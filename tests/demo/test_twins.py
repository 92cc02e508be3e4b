"""What the demo reads from the folder of manifests."""

import os
import time
from pathlib import Path

import pytest

from motelet.tools.demo.system import MANIFESTS
from motelet.tools.demo.twins import Reader, Twin

STATUS = """\
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceStatus
metadata: {name: thermostat, namespace: default}
status:
  state: online
  twins:
  - propertyName: setpoint
    reported: {value: "21.0", metadata: {timestamp: "%d", type: float}}
    observedDesired: {value: "21.0"}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path in MANIFESTS.glob("*.yaml"):
        (tmp_path / path.name).write_text(path.read_text())
    return tmp_path


def test_the_shipped_manifests_say_what_the_table_shows(folder: Path) -> None:
    twins, problems = Reader(folder).read()
    assert problems == []
    assert [(twin.name, twin.type, twin.desired) for twin in twins] == [
        ("temperature", "FLOAT", None),
        ("setpoint", "FLOAT", "21.0"),
        ("heater", "BOOLEAN", None),
    ]
    assert twins[1] == Twin("demo-gateway", "thermostat", "setpoint", "FLOAT", "21.0", None, None, "")


def test_the_status_is_joined(folder: Path) -> None:
    (folder / "status").mkdir()
    (folder / "status/thermostat.yaml").write_text(STATUS % (time.time() * 1000 - 5000))
    setpoint = Reader(folder).read()[0][1]
    assert (setpoint.reported, setpoint.state) == ("21.0", "online")
    assert setpoint.age == pytest.approx(5, abs=4)


def test_a_broken_file_is_named_and_its_last_good_state_shown(folder: Path) -> None:
    reader = Reader(folder)
    path = folder / "thermostat.yaml"
    before = reader.read()
    path.write_text(path.read_text().replace('"21.0"', '"21.0'))
    for _ in range(2):
        twins, problems = reader.read()
        assert twins == before[0]
        assert len(problems) == 1
        assert problems[0].startswith("thermostat.yaml, line ")
    path.unlink()
    assert reader.read() == ([], [])


def test_a_file_that_cannot_be_decoded_is_named(folder: Path) -> None:
    (folder / "binary.yaml").write_bytes(b"\xff\xfe\xff")
    twins, problems = Reader(folder).read()
    assert len(twins) == 3
    assert [problem.split(":")[0] for problem in problems] == ["binary.yaml"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "just text",
        "- a list",
        "kind: Device",
        "{kind: Device, spec: [1]}",
        "{kind: Device, metadata: 1, spec: {properties: 2}}",
        "{kind: Device, metadata: {name: x}, spec: {deviceModelRef: 3, properties: [1, {}, {name: 4}]}}",
        "{kind: DeviceStatus, metadata: {name: thermostat}, status: {twins: [{propertyName: setpoint}, 1]}}",
        "{kind: DeviceStatus, metadata: {name: thermostat}, status: 5}",
    ],
)
def test_half_an_edit_breaks_nothing(folder: Path, content: str) -> None:
    (folder / "other.yaml").write_text(content)
    twins, problems = Reader(folder).read()
    assert [twin.name for twin in twins] == ["temperature", "setpoint", "heater"]
    assert problems == []


def test_hidden_files_are_not_read(folder: Path) -> None:
    (folder / ".thermostat.yaml.123").write_text("kind: [")
    (folder / ".hidden.yaml").write_text("kind: [")
    assert Reader(folder).read()[1] == []


def test_a_file_that_did_not_change_is_not_parsed_again(folder: Path) -> None:
    reader = Reader(folder)
    path = folder / "thermostat.yaml"
    reader.read()
    stamp = path.stat()
    # Same length, same inode, same time: only one who parses it again would see this.
    with path.open("r+") as file:
        file.write("#")
        file.seek(0)
        text = file.read().replace("setpoint", "SETPOINT")
        file.seek(0)
        file.write(text)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert reader.read()[0][1].name == "setpoint"
    os.utime(path)
    assert reader.read()[0][1].name == "SETPOINT"
