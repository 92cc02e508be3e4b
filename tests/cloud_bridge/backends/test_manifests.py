"""The backend on a real folder: edits as editors make them, files that break, a folder that goes away."""

import asyncio
import errno
import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from memory_backend import device, model

from cloud_bridge.backends import files
from cloud_bridge.backends import manifests as manifests_module
from cloud_bridge.backends.base import (
    DEVICE,
    DEVICE_MODEL,
    BackendError,
    EdgeEvent,
    FieldError,
    Key,
    NoObjectError,
    StatusChange,
    TwinChange,
)
from cloud_bridge.backends.manifests import Manifests

LAMP = Key(DEVICE, "default", "lamp")
PUMP = Key(DEVICE, "default", "pump")
MODEL = Key(DEVICE_MODEL, "default", "lamp-model")
CHANGE = StatusChange({"level": TwinChange("1", "int", "5")})


class Run:
    """A backend that follows `folder`; `told` are the sets of keys it told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: list[frozenset[Key]] = []

    async def __aenter__(self):
        self.backend = Manifests(self.folder)
        await self.backend.start()
        self.backend.watch(self.told.append)
        self._task = asyncio.create_task(self.backend.run())
        return self

    async def __aexit__(self, *_):
        self._task.cancel()
        await asyncio.wait([self._task])
        await self.backend.stop()
        assert self._task.cancelled()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.01)

    async def looks(self, count: int = 4) -> None:
        """Wait until the folder was looked at that many times more."""
        seen = 0
        look = self.backend._folder.look

        def counted():
            nonlocal seen
            seen += 1
            return look()

        self.backend._folder.look = counted
        await self.until(lambda: seen > count)
        self.backend._folder.look = look

    def names(self, kind=DEVICE):
        return sorted(key.name for key in self.backend.keys(kind))

    def node(self, key=LAMP):
        body = self.backend.get(key)
        return body and body["spec"]["nodeName"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG, "cloud_bridge")
    monkeypatch.setattr(manifests_module, "POLL_SECONDS", 0.02)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "manifests"
    folder.mkdir()
    put(folder, "model.yaml", model())
    put(folder, "lamp.yaml", device())
    return folder


def put(folder: Path, name: str, *bodies) -> None:
    (folder / name).write_text(yaml.safe_dump_all(bodies, sort_keys=False))


def scenario(function):
    """Run an async test."""

    def run(folder, caplog):
        asyncio.run(function(folder, caplog))

    run.__name__ = function.__name__
    return run


def logged(caplog, text: str) -> list[dict]:
    return [each.pairs for each in caplog.records if text in each.getMessage()]


@scenario
async def test_add_change_and_delete(folder, caplog):
    async with Run(folder) as run:
        assert run.backend.synced()
        assert (run.names(), run.names(DEVICE_MODEL)) == (["lamp"], ["lamp-model"])
        put(folder, "more.yml", device("pump"), device("fan"))
        await run.until(lambda: run.names() == ["fan", "lamp", "pump"])
        put(folder, "lamp.yaml", device(nodeName="board-2"))
        await run.until(lambda: run.node() == "board-2")
        put(folder, "more.yml", device("fan"))
        await run.until(lambda: run.names() == ["fan", "lamp"])
        (folder / "lamp.yaml").unlink()
        await run.until(lambda: run.names() == ["fan"])
        assert run.backend.get(LAMP) is None
        assert frozenset().union(*run.told) == {LAMP, PUMP, Key(DEVICE, "default", "fan")}


@scenario
async def test_without_hints_changes_are_found_by_looking(folder, caplog):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "platform", "another")
        async with Run(folder) as run:
            assert logged(caplog, "no hints of changes")
            put(folder, "lamp.yaml", device(nodeName="board-2"))
            await run.until(lambda: run.node() == "board-2")


@scenario
async def test_a_file_renamed_over_another_and_a_file_renamed(folder, caplog):
    async with Run(folder) as run:
        put(folder, "new", device(nodeName="board-2"))
        os.replace(folder / "new", folder / "lamp.yaml")
        await run.until(lambda: run.node() == "board-2")
        run.told.clear()
        (folder / "lamp.yaml").rename(folder / "renamed.yaml")
        await run.looks()
        assert run.node() == "board-2"
        assert not logged(caplog, "object is in two files")
        (folder / "renamed.yaml").unlink()
        await run.until(lambda: run.names() == [])


@scenario
async def test_a_file_written_in_pieces_is_taken_whole(folder, caplog):
    async with Run(folder) as run:
        text = yaml.safe_dump_all([device(), device("pump"), device("fan")])
        with open(folder / "lamp.yaml", "w") as file:
            file.flush()
            for start in range(0, len(text), len(text) // 5):
                file.write(text[start : start + len(text) // 5])
                file.flush()
                assert "lamp" in run.names()
                await asyncio.sleep(0.005)
        await run.until(lambda: run.names() == ["fan", "lamp", "pump"])
        assert all(LAMP not in keys or run.backend.get(LAMP) for keys in run.told)


@pytest.mark.parametrize("text", ["a: [", "", "kind: Device", "a: 1\n---\nb: {", "\x00", "- " * 5000])
def test_a_file_that_breaks_keeps_its_objects_and_the_rest_goes_on(folder, caplog, text):
    async def run_it():
        async with Run(folder) as run:
            (folder / "lamp.yaml").write_text(text)
            await run.until(lambda: bool(logged(caplog, "file is broken, its objects stay")))
            assert run.names() == ["lamp"]
            assert run.backend.synced()
            put(folder, "pump.yaml", device("pump"))
            await run.until(lambda: run.names() == ["lamp", "pump"])
            put(folder, "lamp.yaml", device(nodeName="board-2"))
            await run.until(lambda: run.node() == "board-2")
            assert logged(caplog, "file is good again") == [{"file": "lamp.yaml"}]

    asyncio.run(run_it())
    (broken,) = [each for each in logged(caplog, "file is broken")]
    assert broken["file"] == "lamp.yaml"
    assert broken["line"] >= 1


@scenario
async def test_a_broken_file_keeps_its_objects_across_a_restart(folder, caplog):
    async with Run(folder):
        (folder / "lamp.yaml").write_text("kind: [")
    for _ in range(2):
        async with Run(folder) as run:
            assert run.names() == ["lamp"]
            assert run.backend.synced()
            assert logged(caplog, "file is broken, its objects stay")
    assert (folder / "status/.last-good/lamp.yaml.last").stat().st_mode & 0o777 == 0o600


@scenario
async def test_a_file_that_was_never_good_stops_all_deletions_until_it_is(folder, caplog):
    (folder / "pump.yaml").write_text("kind: [")
    async with Run(folder) as run:
        assert not run.backend.synced()
        assert run.names() == ["lamp"]
        assert logged(caplog, "file is broken, nothing is deleted")[0]["file"] == "pump.yaml"
        put(folder, "pump.yaml", device("pump"))
        await run.until(run.backend.synced)
        assert run.names() == ["lamp", "pump"]
        (folder / "other.yaml").write_text("kind: [")
        await run.until(lambda: not run.backend.synced())
        (folder / "other.yaml").unlink()
        await run.until(run.backend.synced)


@scenario
async def test_a_file_that_breaks_again_in_the_same_way_is_told_once(folder, caplog):
    async with Run(folder) as run:
        for text in ("kind: [", "kind:  [", "kind:   ["):
            (folder / "lamp.yaml").write_text(text)
            (folder / "notes.txt").write_text(text)
            put(folder, "pump.yaml", device("pump", nodeName=f"board-{len(text)}"))
            await run.until(lambda text=text: run.node(PUMP) == f"board-{len(text)}")
        await run.looks()
        assert len(logged(caplog, "file is broken")) == 1


@scenario
async def test_a_file_that_cannot_be_read_keeps_its_objects(folder, caplog):
    async with Run(folder) as run:
        (folder / "lamp.yaml").unlink()
        (folder / "lamp.yaml").symlink_to("lamp.yaml")
        await run.until(lambda: bool(logged(caplog, "file is broken, its objects stay")))
        assert "symbolic links" in logged(caplog, "file is broken")[0]["error"]
        assert run.names() == ["lamp"]


@scenario
async def test_a_folder_that_vanishes_deletes_nothing(folder, caplog):
    async with Run(folder) as run:
        away = folder.with_name("away")
        folder.rename(away)
        await run.until(lambda: not run.backend.synced())
        await run.looks()
        assert run.names() == ["lamp"]
        assert run.told == [frozenset()]
        assert len(logged(caplog, "cannot read the folder")) == 1
        away.rename(folder)
        await run.until(run.backend.synced)
        assert run.names() == ["lamp"]
        assert logged(caplog, "can be read again")


@scenario
async def test_an_empty_folder_in_its_place_deletes_nothing(folder, caplog):
    async with Run(folder) as run:
        folder.rename(folder.with_name("away"))
        folder.mkdir()
        await run.until(lambda: not run.backend.synced())
        await run.looks()
        assert run.names() == ["lamp"]
        shutil.rmtree(folder)
        folder.with_name("away").rename(folder)
        await run.until(run.backend.synced)
        put(folder, "lamp.yaml", device(nodeName="board-2"))
        await run.until(lambda: run.node() == "board-2")


@scenario
async def test_a_folder_that_is_not_there_at_the_start_is_an_error(folder, caplog):
    for path in (folder / "missing", folder / "lamp.yaml"):
        with pytest.raises(BackendError, match="cannot read the folder"):
            await Manifests(path).start()


@scenario
async def test_two_bridges_on_one_folder(folder, caplog):
    async with Run(folder):
        with pytest.raises(BackendError, match="another bridge serves the folder"):
            await Manifests(folder).start()
    async with Run(folder):
        pass


@scenario
async def test_the_same_object_in_two_files_is_that_of_the_first(folder, caplog):
    async with Run(folder) as run:
        put(folder, "a.yaml", device("fan"), device(nodeName="board-2"))
        await run.until(lambda: bool(logged(caplog, "object is in two files")))
        assert run.node() == "board-1"
        (double,) = logged(caplog, "object is in two files")
        assert (double["key"], double["file"]) == (LAMP, "a.yaml")
        assert "lamp.yaml" in double["error"]
        assert double["line"] > 5
        put(folder, "other.yaml", device("pump"))
        await run.until(lambda: "pump" in run.names())
        assert len(logged(caplog, "object is in two files")) == 1
        (folder / "lamp.yaml").unlink()
        await run.until(lambda: run.node() == "board-2")
        put(folder, "lamp.yaml", device())
        await run.until(lambda: len(logged(caplog, "object is in two files")) == 2)
        assert run.node() == "board-2"


@scenario
async def test_what_is_wrong_in_an_object_is_told_once_with_file_and_line(folder, caplog):
    async with Run(folder) as run:
        await run.looks(1)
        errors = [
            FieldError(("spec", "properties", 1, "desired", "value"), "too warm"),
            FieldError((), "what a thing"),
        ]
        for _ in range(3):
            run.backend.complain(LAMP, errors)
        first, second = logged(caplog, "object is not valid")
        text = (folder / "lamp.yaml").read_text().splitlines()
        assert first["line"] == next(i for i, line in enumerate(text, 1) if "'40'" in line)
        assert first | {"line": 0} == {
            "key": LAMP,
            "file": "lamp.yaml",
            "line": 0,
            "field": "spec.properties[1].desired.value",
            "error": "too warm",
        }
        assert (second["line"], second["field"]) == (1, "-")
        run.backend.complain(LAMP, ())
        run.backend.complain(LAMP, ())
        assert len(logged(caplog, "object is good again")) == 1
        gone = Key(DEVICE, "default", "gone")
        run.backend.complain(gone, errors)
        assert logged(caplog, "object is not valid")[-1]["file"] is None


@scenario
async def test_an_error_is_told_again_when_it_has_moved_to_another_line(folder, caplog):
    async with Run(folder) as run:
        error = [FieldError(("spec", "nodeName"), "no")]
        run.backend.complain(LAMP, error)
        text = (folder / "lamp.yaml").read_text()
        (folder / "lamp.yaml").write_text("# moved\n" + text)
        await run.until(lambda: run.backend._sources["lamp.yaml"].data.startswith(b"# moved"))
        run.backend.complain(LAMP, error)
        first, second = logged(caplog, "object is not valid")
        assert second["line"] == first["line"] + 1


@scenario
async def test_what_is_in_a_secret_is_not_logged(folder, caplog):
    put(
        folder,
        "secret.yaml",
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "c2VjcmV0"}},
    )
    async with Run(folder) as run:
        assert run.names("Secret") == ["s"]
    assert "c2VjcmV0" not in caplog.text


@scenario
async def test_a_thousand_files(folder, caplog):
    for number in range(1000):
        put(folder, f"d{number}.yaml", device(f"d{number}"))
    async with Run(folder) as run:
        assert len(run.names()) == 1001
        put(folder, "d500.yaml", device("d500", nodeName="board-2"))
        await run.until(lambda: run.node(Key(DEVICE, "default", "d500")) == "board-2")
        assert frozenset().union(*run.told) == {Key(DEVICE, "default", "d500")}
        for number in range(1000):
            (folder / f"d{number}.yaml").unlink()
        await run.until(lambda: run.names() == ["lamp"])
        await run.until(lambda: len(list((folder / "status/.last-good").iterdir())) == 2)


# -- status -----------------------------------------------------------------------------------


@scenario
async def test_status_is_written_for_what_is_there_and_removed_with_it(folder, caplog):
    async with Run(folder) as run:
        failures = await run.backend.write_status({LAMP: CHANGE, PUMP: CHANGE})
        assert failures.keys() == {PUMP}
        assert isinstance(failures[PUMP], NoObjectError)
        path = folder / "status/default/lamp.yaml"
        assert path.exists()
        (folder / "lamp.yaml").unlink()
        await run.until(lambda: not path.exists())


@scenario
async def test_the_status_of_what_was_deleted_while_no_bridge_ran_is_removed(folder, caplog):
    async with Run(folder) as run:
        await run.backend.write_status({LAMP: CHANGE})
    (folder / "lamp.yaml").unlink()
    (folder / "broken.yaml").write_text("kind: [")
    async with Run(folder) as run:
        assert (folder / "status/default/lamp.yaml").exists()  # nobody knows what broken.yaml has
        (folder / "broken.yaml").unlink()
        await run.until(lambda: not (folder / "status/default/lamp.yaml").exists())
    assert [each.name for each in (folder / "status/.last-good").iterdir()] == ["model.yaml.last"]


@scenario
async def test_events_are_kept_and_a_failure_is_one_that_may_pass(folder, caplog):
    async with Run(folder) as run:
        await run.backend.write_events([EdgeEvent("board-1", "t", 5, b"x")])
        path = folder / "status/events.jsonl"
        assert path.read_text().count("\n") == 1
        path.unlink()
        path.mkdir()
        with pytest.raises(BackendError, match="status"):
            await run.backend.write_events([EdgeEvent("board-1", "t", 5, b"x")])


def test_a_folder_nobody_can_write_to_is_served_all_the_same(folder, caplog, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    async def run_it():
        async with Run(folder) as run:
            assert run.names() == ["lamp"]
            put(folder, "lamp.yaml", device(nodeName="board-2"))
            await run.until(lambda: run.node() == "board-2")
            failures = await run.backend.write_status({LAMP: CHANGE})
            assert isinstance(failures[LAMP], BackendError)

    monkeypatch.setattr(files, "replace", fail)
    monkeypatch.setattr(Path, "mkdir", fail)
    asyncio.run(run_it())
    assert logged(caplog, "cannot write status, will try again")
    assert logged(caplog, "cannot write beside the manifests")[0]["error"] == "Read-only file system"
