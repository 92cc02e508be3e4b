"""Files of a folder are told once they have come to rest; whatever cannot be read is not gone."""

import os
from pathlib import Path

import pytest

from cloud_bridge.backends import folder as folder_module
from cloud_bridge.backends.folder import Folder, Look

NOTHING = Look([], [])
OLD_NS = 1_700_000_000_000_000_000


def write(path: Path, text: str, age: int = 0) -> None:
    path.write_text(text)
    os.utime(path, ns=(OLD_NS + age, OLD_NS + age))


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "a.yaml", "a")
    write(tmp_path / "b.yml", "b")
    folder = Folder(tmp_path)
    assert sorted(folder.look().changed) == ["a.yaml", "b.yml"]
    return folder


def test_only_manifests_are_looked_at(folder):
    for name in ("c.txt", ".d.yaml", "e.yaml~", "f.yaml.swp", "yaml"):
        write(folder.path / name, "x")
    (folder.path / "dir.yaml").mkdir()
    (folder.path / "dangling.yaml").symlink_to("nowhere")
    os.mkfifo(folder.path / "pipe.yaml")
    assert [folder.look(), folder.look()] == [NOTHING, NOTHING]
    assert folder.look_at(["c.txt", ".d.yaml", "dir.yaml", "missing.yaml"]) == []


def test_a_change_is_told_when_two_looks_found_it_the_same(folder):
    path = folder.path / "a.yaml"
    write(path, "", 1)
    assert folder.look() == NOTHING
    write(path, "half", 2)
    assert folder.look() == NOTHING
    write(path, "whole", 3)
    assert folder.look() == NOTHING
    assert folder.look() == Look(["a.yaml"], [])
    assert folder.look() == NOTHING


def test_a_new_file_too(folder):
    write(folder.path / "c.yaml", "c")
    assert [folder.look(), folder.look(), folder.look()] == [NOTHING, Look(["c.yaml"], []), NOTHING]


def test_a_file_is_gone_when_two_looks_missed_it(folder):
    (folder.path / "a.yaml").unlink()
    assert [folder.look(), folder.look(), folder.look()] == [NOTHING, Look([], ["a.yaml"]), NOTHING]


def test_a_file_that_is_moved_away_and_put_back_is_not_gone(folder):
    path = folder.path / "a.yaml"
    path.rename(folder.path / "a.yaml.old")
    assert folder.look() == NOTHING
    write(path, "new", 5)
    assert [folder.look(), folder.look()] == [NOTHING, Look(["a.yaml"], [])]


def test_a_file_put_in_its_place_with_the_same_size_and_time(folder):
    write(folder.path / "new", "A")
    os.replace(folder.path / "new", folder.path / "a.yaml")
    assert [folder.look(), folder.look()] == [NOTHING, Look(["a.yaml"], [])]


def test_a_hint_is_taken_at_once(folder):
    write(folder.path / "a.yaml", "new", 1)
    assert folder.look_at(["a.yaml", "b.yml"]) == ["a.yaml"]
    assert folder.look_at(["a.yaml"]) == []
    assert [folder.look(), folder.look()] == [NOTHING, NOTHING]


def test_a_file_read_right_after_it_changed_is_read_once_more(folder):
    (folder.path / "a.yaml").write_text("now")
    assert folder.look_at(["a.yaml"]) == ["a.yaml"]
    # Its time stamp is too coarse to show another change right after.
    assert [folder.look().changed, folder.look().changed] == [[], ["a.yaml"]]


def test_a_link_to_a_file_counts_as_the_file(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write(elsewhere / "one", "1")
    write(elsewhere / "two", "22")
    (folder.path / "link.yaml").symlink_to(elsewhere / "one")
    assert [folder.look(), folder.look()] == [NOTHING, Look(["link.yaml"], [])]
    (folder.path / "new").symlink_to(elsewhere / "two")
    os.replace(folder.path / "new", folder.path / "link.yaml")
    assert [folder.look(), folder.look()] == [NOTHING, Look(["link.yaml"], [])]


def test_a_link_in_a_circle_is_there_and_not_gone(folder):
    (folder.path / "a.yaml").unlink()
    (folder.path / "a.yaml").symlink_to("a.yaml")
    assert [folder.look(), folder.look(), folder.look()] == [NOTHING, Look(["a.yaml"], []), NOTHING]


def test_a_folder_that_is_gone_or_no_folder_is_an_error_and_changes_nothing(folder):
    away = folder.path.with_name("away")
    folder.path.rename(away)
    for _ in range(3):
        with pytest.raises(FileNotFoundError):
            folder.look()
    folder.path.write_text("a file")
    with pytest.raises(NotADirectoryError):
        folder.look()
    folder.path.unlink()
    away.rename(folder.path)
    assert [folder.look(), folder.look()] == [NOTHING, NOTHING]


def test_an_empty_folder_in_the_place_of_the_folder_is_an_error(folder):
    away = folder.path.with_name("away")
    folder.path.rename(away)
    folder.path.mkdir()
    for _ in range(3):
        with pytest.raises(OSError, match="an empty one"):
            folder.look()
    write(folder.path / "a.yaml", "a")
    assert folder.look() == NOTHING  # that is another matter: somebody has put files there
    assert folder.look() == Look(["a.yaml"], ["b.yml"])


def test_a_folder_that_is_emptied_is_empty(folder):
    for path in folder.path.iterdir():
        path.unlink()
    assert [folder.look(), sorted(folder.look().gone)] == [NOTHING, ["a.yaml", "b.yml"]]


def test_too_many_files_are_an_error(folder, monkeypatch):
    monkeypatch.setattr(folder_module, "FILES_MAX", 2)
    assert folder.look() == NOTHING
    write(folder.path / "c.yaml", "c")
    with pytest.raises(OSError, match="more than 2 files"):
        folder.look()
