"""DeviceStatus files: merged, atomic, durable before they count."""

import errno
import json
import os

import pytest
import yaml

from cloud_bridge.backends import files, status
from cloud_bridge.backends.base import BackendError, EdgeEvent, Key, StateChange, StatusChange, TwinChange
from cloud_bridge.backends.status import StatusFolder

LAMP = Key("Device", "default", "lamp")
PUMP = Key("Device", "hall", "pump")


def change(state=None, properties=None, **values):
    twins = {name: TwinChange(value, "string", "5") for name, value in values.items()}
    return StatusChange(twins, state, properties)


def read(folder, key=LAMP):
    return yaml.safe_load((folder / key.namespace / f"{key.name}.yaml").read_text())


def values(folder, key=LAMP):
    return {each["propertyName"]: each["reported"]["value"] for each in read(folder, key)["status"]["twins"]}


def test_the_file_is_a_device_status_that_kubectl_would_take(tmp_path):
    assert (
        StatusFolder(tmp_path).write(
            {LAMP: change(StateChange("online", "", "6", "2026-11-22T00:00:00Z"), power="on")}
        )
        == {}
    )
    assert read(tmp_path) == {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "DeviceStatus",
        "metadata": {"name": "lamp", "namespace": "default"},
        "spec": {},
        "status": {
            "twins": [
                {
                    "propertyName": "power",
                    "reported": {"value": "on", "metadata": {"timestamp": "5", "type": "string"}},
                }
            ],
            "state": "online",
            "lastOnlineTime": "2026-11-22T00:00:00Z",
            "extensions": {"stateReason": "", "stateTimestamp": "6"},
        },
    }


@pytest.mark.parametrize(
    "value",
    [
        "yes",
        "1e3",
        "0x10",
        "~",
        "",
        " a ",
        "a: b",
        "- x",
        "é\u0085\u2028😀",
        "\x00\x1b[2J\n",
        "# no",
        "'\"",
        "on",
        "NULL",
        "0o7",
        "1_0",
        "=",
        "<<",
        "2026-11-22",
        "12:30:45",
        ".5",
        "default/x-1",
    ],
)
def test_any_text_is_read_back_as_it_was(tmp_path, value):
    StatusFolder(tmp_path).write({LAMP: change(power=value)})
    assert values(tmp_path) == {"power": value}
    text = (tmp_path / "default/lamp.yaml").read_text()
    assert len(text.split("\n")) == len(text.splitlines()) + 1, "a break that only some readers see"
    again = StatusFolder(tmp_path)
    again.write({LAMP: change(other="x")})
    assert values(tmp_path) == {"power": value, "other": "x"}


def test_what_is_stored_stays_across_a_restart(tmp_path):
    first = StatusFolder(tmp_path)
    first.write({LAMP: change(StateChange("online", "", "1"), a="1", b="2", c="3")})
    again = StatusFolder(tmp_path)
    again.write({LAMP: change(b="9")})
    assert values(tmp_path) == {"a": "1", "b": "9", "c": "3"}
    assert read(tmp_path)["status"]["state"] == "online"


def test_doing_it_twice_writes_nothing(tmp_path):
    folder = StatusFolder(tmp_path)
    folder.write({LAMP: change(a="1")})
    before = (tmp_path / "default/lamp.yaml").stat()
    folder.write({LAMP: change(a="1")})
    StatusFolder(tmp_path).write({LAMP: change(a="1")})
    assert (tmp_path / "default/lamp.yaml").stat() == before


def test_many_devices_in_one_write_and_no_temporary_file_stays(tmp_path):
    StatusFolder(tmp_path).write({LAMP: change(a="1"), PUMP: change(a="2")})
    assert values(tmp_path, PUMP) == {"a": "2"}
    assert sorted(str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*")) == [
        "default",
        "default/lamp.yaml",
        "hall",
        "hall/pump.yaml",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "status: 5\n",
        "[]",
        "{status: {twins: 7}}",
        "a: [",
        "\x00",
        "status: {twins: [5, {propertyName: 5}]}",
    ],
)
def test_a_stored_status_in_pieces_begins_anew(tmp_path, text):
    (tmp_path / "default").mkdir()
    (tmp_path / "default/lamp.yaml").write_text(text)
    assert StatusFolder(tmp_path).write({LAMP: change(a="1")}) == {}
    assert values(tmp_path) == {"a": "1"}


def test_extensions_of_others_stay(tmp_path):
    (tmp_path / "default").mkdir()
    (tmp_path / "default/lamp.yaml").write_text("status: {extensions: {mine: 1}}")
    StatusFolder(tmp_path).write({LAMP: change(StateChange("offline", "why", "1"))})
    assert read(tmp_path)["status"]["extensions"] == {"mine": 1, "stateReason": "why", "stateTimestamp": "1"}


def fail(number):
    def raises(*_, **__):
        raise OSError(number, os.strerror(number))

    return raises


@pytest.mark.parametrize("call", ["write", "fsync", "replace", "open"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_a_write_that_fails_leaves_the_old_file_and_is_not_remembered_as_done(
    tmp_path, monkeypatch, call, number
):
    folder = StatusFolder(tmp_path)
    folder.write({LAMP: change(a="1")})
    with monkeypatch.context() as patch:
        if call == "write":
            patch.setattr(status.files, "replace", fail(number))
        else:
            patch.setattr(files.os, call, fail(number))
        failures = folder.write({LAMP: change(a="2")})
    assert isinstance(failures[LAMP], BackendError)
    assert os.strerror(number) in str(failures[LAMP])
    assert values(tmp_path) == {"a": "1"}
    assert list(tmp_path.rglob("*.new")) == []
    assert folder.write({LAMP: change(a="2")}) == {}
    assert values(tmp_path) == {"a": "2"}


def test_a_name_that_is_not_durable_is_a_failure_of_all_in_its_folder(tmp_path, monkeypatch):
    folder = StatusFolder(tmp_path)
    with monkeypatch.context() as patch:
        sync = files.sync_folder
        patch.setattr(
            files, "sync_folder", lambda path: fail(errno.EIO)() if path.name == "default" else sync(path)
        )
        failures = folder.write({LAMP: change(a="1"), PUMP: change(a="1")})
    assert failures.keys() == {LAMP}
    assert folder.write({LAMP: change(a="1")}) == {}


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "default").write_text("not a folder")
    failures = StatusFolder(tmp_path).write({LAMP: change(a="1"), PUMP: change(a="1")})
    assert failures.keys() == {LAMP}


def test_the_status_of_what_is_gone_is_removed_and_begins_anew(tmp_path):
    folder = StatusFolder(tmp_path)
    folder.write({LAMP: change(a="1"), PUMP: change(a="1")})
    folder.prune({PUMP})
    assert not (tmp_path / "default/lamp.yaml").exists()
    assert values(tmp_path, PUMP) == {"a": "1"}
    folder.write({LAMP: change(b="2")})
    assert values(tmp_path) == {"b": "2"}
    StatusFolder(tmp_path / "missing").prune(set())


def event(payload, topic="t"):
    return EdgeEvent("board-1", topic, 5, payload)


def test_events_are_lines_of_json(tmp_path):
    folder = StatusFolder(tmp_path / "status")
    folder.append([event(b"one\n", "a\nb"), event(b"\xff")])
    folder.append([event(b"two")])
    lines = [json.loads(line) for line in (tmp_path / "status/events.jsonl").read_text().splitlines()]
    assert lines == [
        {"node": "board-1", "topic": "a\nb", "timestamp": 5, "payload": "one\n"},
        {"node": "board-1", "topic": "t", "timestamp": 5, "payloadHex": "ff"},
        {"node": "board-1", "topic": "t", "timestamp": 5, "payload": "two"},
    ]


def test_the_file_of_events_has_a_limit_and_one_predecessor(tmp_path, monkeypatch):
    monkeypatch.setattr(status, "EVENTS_SIZE_MAX", 200)
    folder = StatusFolder(tmp_path)
    for number in range(10):
        folder.append([event(str(number).encode())])
    assert sorted(each.name for each in tmp_path.iterdir()) == ["events.jsonl", "events.jsonl.1"]
    lines = []
    for name in ("events.jsonl.1", "events.jsonl"):
        assert (tmp_path / name).stat().st_size <= 200
        lines += (tmp_path / name).read_text().splitlines()
    payloads = [json.loads(line)["payload"] for line in lines]
    assert payloads == [str(number) for number in range(10)][-len(payloads) :]


def test_of_events_that_cannot_be_written_nothing_stays(tmp_path, monkeypatch):
    folder = StatusFolder(tmp_path)
    folder.append([event(b"one")])
    before = (tmp_path / "events.jsonl").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(status.os, "fsync", fail(errno.ENOSPC))
        with pytest.raises(OSError, match="No space"):
            folder.append([event(b"two")])
    assert (tmp_path / "events.jsonl").read_bytes() == before
