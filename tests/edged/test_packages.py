"""Packages from an index in mip's format, served over HTTP: what they bring, and indexes that are wrong."""

import json
import threading
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pod_world import PodWorld, pod, wait_for

from cloud_bridge.edgecontroller.packages import FILES_MAX, PACKAGE_SIZE_MAX, PackageError, fetch


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None: ...


class Index:
    """A static index in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(
        self, name: str, files: dict[str, bytes], deps: list[list[str]] | None = None, **listing: Any
    ) -> None:
        hashes = []
        for path, data in files.items():
            digest = sha256(data).hexdigest()[:8]
            where = self.folder / "file" / digest[:2] / digest
            where.parent.mkdir(parents=True, exist_ok=True)
            where.write_bytes(data)
            hashes.append([path, digest])
        target = self.folder / "package" / "py" / name / "1.0.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(
            json.dumps({"v": 1, "version": "1.0", "hashes": hashes, "deps": deps or [], **listing})
        )


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    found = Index(tmp_path / "index")
    yield found
    found.close()


def refused(index: Index, name: str) -> str:
    with pytest.raises(PackageError) as error:
        fetch(index.url, name, "1.0")
    return str(error.value)


def test_a_package_brings_what_it_depends_on(index: Index) -> None:
    index.add("app", {"app/__init__.py": b"x = 1\n"}, [["base", "1.0"]])
    index.add("base", {"base.py": b"y = 2\n"}, [["app", "1.0"]])
    assert fetch(index.url, "app", "1.0") == {"app/__init__.py": b"x = 1\n", "base.py": b"y = 2\n"}


@pytest.mark.parametrize("path", ["../etc/passwd", "/etc/passwd", "a/../../b", "", "a//b", "./a"])
def test_a_path_that_leaves_the_package_is_refused(index: Index, path: str) -> None:
    index.add("app", {path: b"x"})
    assert "leaves the package" in refused(index, "app")


def test_a_wrong_digest_is_refused(index: Index) -> None:
    index.add("app", {"app.py": b"good"})
    for file in (index.folder / "file").rglob("*"):
        if file.is_file():
            file.write_bytes(b"evil")
    assert "the digest of what the index gave differs" in refused(index, "app")


def test_what_is_too_much_is_refused(index: Index) -> None:
    index.add("big", {"big.py": bytes(PACKAGE_SIZE_MAX + 1)})
    assert "more than" in refused(index, "big")
    index.add("many", {f"{n}.py": b"%d" % n for n in range(FILES_MAX + 1)})
    assert "no list of at most" in refused(index, "many")
    for number in range(20):
        index.add(f"p{number}", {f"{number}.py": b"%d" % number}, [[f"p{number + 1}", "1.0"]])
    assert "that it depends on" in refused(index, "p0")


def test_what_is_no_index_is_refused(index: Index) -> None:
    assert "404" in refused(index, "none")
    index.add("elsewhere", {"a.py": b"x"}, urls=[["b.py", "http://example.invalid/b.py"]])
    assert "not all in the index" in refused(index, "elsewhere")
    index.add("odd", {"a.py": b"x"}, [["../up", "1.0"]])
    assert "no name of a package" in refused(index, "odd")
    index.add("short", {"a.py": b"x"}, hashes=[["a.py", "12"]])
    assert "no digest" in refused(index, "short")


def test_a_pod_runs_a_package(index: Index, tmp_path: Path) -> None:
    program = b"import helper\nasync def main(context):\n    print(helper.word, context.args)\n"
    index.add("blinky", {"blinky.py": program}, [["helper", "1.0"]])
    index.add("helper", {"helper.py": b"word = 'from a package'\n"})
    world = PodWorld(tmp_path / "world")
    world.bridge_options = ["--packages", index.url]
    try:
        world.start()
        world.apply(
            *pod("packaged", container={"image": "blinky:1.0", "args": ["a"]}, restartPolicy="Never"),
            *pod("wrong", container={"image": "blinky:2.0"}),
        )
        wait_for("it has ended", lambda: world.status("packaged").get("phase") == "Succeeded")
        assert world.logs("packaged") == "from a package ['a']\n"
        state = wait_for("refused", lambda: world.container("wrong").get("state"))
        assert state["waiting"]["reason"] == "InvalidImageName"
    finally:
        world.stop()
