"""Editing one scalar of a YAML file in place."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from motelet.tools.demo.edit import Step, edit_file, replace_scalar

TEXT = """\
# two documents
kind: DeviceModel
metadata: {name: thermostat}
---
kind: Device   # this one
metadata:
  name: thermostat
spec:
  port: 5020
  quoted: 'single'   # stays
  block: |
    text
  properties:
    - type: none of them has a name
    - name: temperature
      desired: {value: "1"}
    - name: setpoint   # ü before it: the place is counted in characters
      desired:
        value: "21.0"  # edit me
"""
SETPOINT: list[Step] = ["spec", "properties", ("name", "setpoint"), "desired", "value"]


def test_one_value_changes_and_no_other_byte() -> None:
    changed = replace_scalar(TEXT, "Device", "thermostat", SETPOINT, '"24.5"')
    assert changed == TEXT.replace('"21.0"', '"24.5"')


@pytest.mark.parametrize(("key", "old"), [("port", "5020"), ("quoted", "'single'")])
def test_plain_and_quoted_scalars_are_replaced(key: str, old: str) -> None:
    assert replace_scalar(TEXT, "Device", "thermostat", ["spec", key], "1") == TEXT.replace(old, "1")


@given(st.text(max_size=20))
def test_any_text_can_be_put_there(value: str) -> None:
    scalar = yaml.safe_dump(value, default_style='"', width=10**6).strip()
    changed = replace_scalar(TEXT, "Device", "thermostat", SETPOINT, scalar)
    _, device = yaml.safe_load_all(changed)
    assert device["spec"]["properties"][2]["desired"]["value"] == value
    assert replace_scalar(changed, "Device", "thermostat", SETPOINT, '"21.0"') == TEXT


@pytest.mark.parametrize("name", ["spec", "nothing"])
def test_a_place_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(KeyError, match="lamp"):
        replace_scalar(TEXT, "Device", "lamp", SETPOINT, "1")
    with pytest.raises(KeyError, match=name):
        replace_scalar(TEXT, "DeviceModel", "thermostat", [name, "x"], "1")
    with pytest.raises(KeyError, match="name"):
        replace_scalar(TEXT, "Device", "thermostat", ["spec", "properties", ("name", name)], "1")


@pytest.mark.parametrize("place", [["spec"], ["spec", "block"], ["spec", "properties"]])
def test_only_a_scalar_on_one_line_is_replaced(place: list[Step]) -> None:
    with pytest.raises(ValueError, match="no scalar on one line"):
        replace_scalar(TEXT, "Device", "thermostat", place, "1")


def test_broken_yaml_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "device.yaml"
    path.write_text("kind: [")
    with pytest.raises(yaml.YAMLError):
        edit_file(path, "Device", "thermostat", SETPOINT, "1")
    assert path.read_text() == "kind: ["


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "device.yaml"
    path.write_text(TEXT)
    before = path.stat().st_ino
    with path.open() as old:
        edit_file(path, "Device", "thermostat", SETPOINT, '"24.5"')
        # Whoever had it open reads the old text to its end, so nobody ever sees half of each.
        assert old.read() == TEXT
    assert path.stat().st_ino != before
    assert [each.name for each in tmp_path.iterdir()] == ["device.yaml"]
