"""The tests of the bridge find what they are there to find: each fault planted here fails one of them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cloud_bridge

TESTS = Path(__file__).parent
ROOT = TESTS.parent.parent
SOURCE = Path(cloud_bridge.__file__).parent

SESSION = "cloudhub/test_session.py"
UPSTREAM = "devicecontroller/test_upstream.py"
DOWNSTREAM = "devicecontroller/test_downstream.py"
STATUS = "backends/test_status.py"
MANIFESTS = "backends/test_manifests.py"
FOLDER = "backends/test_folder.py"
FAULTS = {
    "acknowledged before the backend took it": (
        "cloudhub/intake.py",
        "settled = next(iter(self._open)) - 1 if self._open else self._seq",
        "settled = self._seq",
        SESSION + "::test_nothing_is_acknowledged_before_it_is_settled",
    ),
    "version not compared": (
        "cloudhub/delivery.py",
        "if self._held.get(resource) == version:",
        "if resource in self._held:",
        SESSION + "::test_a_board_that_differs_is_asked_and_gets_the_difference",
    ),
    "deleted before every list has synced": (
        "cloudhub/delivery.py",
        "not self._desired.synced or resource",
        "resource",
        SESSION + "::test_nothing_is_deleted_before_every_list_is_synced",
    ),
    "what is not valid deleted": (
        "cloudhub/delivery.py",
        "or resource in self._desired.kept",
        "",
        SESSION + "::test_what_is_kept_is_neither_changed_nor_deleted",
    ),
    "a blob acknowledged by what follows it": (
        "cloudhub/delivery.py",
        "each <= seq and not sent.blob",
        "each <= seq",
        SESSION + "::test_content_that_fits_no_message_goes_as_a_blob",
    ),
    "one message more than the window": (
        "cloudhub/delivery.py",
        "len(self._published) >= self._window",
        "len(self._published) > self._window",
        SESSION + "::test_the_boards_window_is_kept_and_moves_with_each_acknowledgement",
    ),
    "two messages about a resource at a time": (
        "cloudhub/delivery.py",
        "        if resource in self._busy:\n            return False\n",
        "",
        SESSION + "::test_a_board_that_differs_is_asked_and_gets_the_difference",
    ),
    "a number left out": (
        "cloudhub/intake.py",
        "seq != self._seq + 1",
        "seq <= self._seq",
        SESSION + "::test_a_number_out_of_order_ends_the_session",
    ),
    "a write that failed taken for done": (
        "devicecontroller/upstream.py",
        "if isinstance(failure, BackendError):",
        "if False:",
        UPSTREAM + "::test_a_write_that_fails_acknowledges_nothing_and_is_tried_again_with_what_came_since",
    ),
    "a report for another node's device taken": (
        "devicecontroller/upstream.py",
        "self._downstream.owner(key) != node",
        "self._downstream.owner(key) is None",
        UPSTREAM + "::test_a_board_reports_for_its_own_devices_only",
    ),
    "an older value lands after a newer one": (
        "devicecontroller/upstream.py",
        "{**other.twins, **newer}",
        "{**newer, **other.twins}",
        UPSTREAM + "::test_an_older_write_that_fails_does_not_undo_what_came_during_it",
    ),
    "the last good version forgotten": (
        "devicecontroller/downstream.py",
        "            self._kept.add(key)\n",
        "",
        DOWNSTREAM + "::test_after_a_restart_what_is_not_valid_is_kept_as_the_board_has_it",
    ),
    "names not made durable": (
        "backends/status.py",
        "        for folder in folders:\n            try:",
        "        for folder in ():\n            try:",
        STATUS + "::test_a_name_that_is_not_durable_is_a_failure_of_all_in_its_folder",
    ),
    "contents not made durable": (
        "backends/files.py",
        "            if durable:\n                os.fsync(descriptor)\n",
        "",
        STATUS + "::test_a_write_that_fails_leaves_the_old_file_and_is_not_remembered_as_done",
    ),
    "status not merged after a restart": (
        "backends/status.py",
        "stored = self._load(key)",
        "stored = self._stored.get(key)",
        STATUS + "::test_any_text_is_read_back_as_it_was",
    ),
    "a folder that cannot be read taken for an empty one": (
        "backends/manifests.py",
        "not self._folder_error and not self._unknown",
        "not self._unknown",
        MANIFESTS + "::test_a_folder_that_vanishes_deletes_nothing",
    ),
    "a file that cannot be read taken for an empty one": (
        "backends/manifests.py",
        "not self._folder_error and not self._unknown",
        "not self._folder_error",
        MANIFESTS + "::test_a_file_that_was_never_good_stops_all_deletions_until_it_is",
    ),
    "half a file read": (
        "backends/folder.py",
        "first or stamp == self._seen.get(name)",
        "True",
        FOLDER + "::test_a_change_is_told_when_two_looks_found_it_the_same",
    ),
    "a file gone at first sight": (
        "backends/folder.py",
        "name not in found and name not in self._seen",
        "name not in found",
        FOLDER + "::test_a_file_is_gone_when_two_looks_missed_it",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(tmp_path, fault):
    file, right, wrong, tests = FAULTS[fault]
    copy = tmp_path / "cloud_bridge"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    text = (copy / file).read_text()
    assert text.count(right) == 1
    (copy / file).write_text(text.replace(right, wrong))
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    command += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), str(TESTS / tests)]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stdout
    assert "1 failed" in done.stdout
