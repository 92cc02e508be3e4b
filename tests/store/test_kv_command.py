"""`motelet kv` on the image of a store."""

import json

import pytest

from motelet.kvlog import Store
from motelet.ports.unix import Port
from motelet.ports.unix.flash import FileFlash
from motelet.tools import cli, kv


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "flash.img"
    store = Store(FileFlash(str(path), 12 * 4096, prog_size=64))
    store.mount()
    for key, value in {
        "default/device/lamp": b"on",
        "default/device/lamp/below": b"a name that is a folder too",
        "default/configmap/large": bytes(range(256)) * 8,
        "../out": b"climbs",
        ".boot": b"7",
    }.items():
        store.put(key, value)
    store.flash.close()
    return path


def test_inspect(image, capsys):
    before = image.read_bytes()
    assert cli.main(["kv", "inspect", str(image)]) == 0
    out = capsys.readouterr().out
    assert "default/configmap/large        2048" in out and "5 keys;" in out and "0 records damaged" in out
    assert cli.main(["kv", "inspect", str(image), "--prefix", "default/device/", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["key"], row["size"]) for row in rows] == [
        ("default/device/lamp", 2),
        ("default/device/lamp/below", 27),
    ]
    assert image.read_bytes() == before


def test_verify(image, capsys):
    assert cli.main(["kv", "verify", str(image)]) == 0
    content = bytearray(image.read_bytes())
    content[content.index(b"a name that is")] ^= 1
    image.write_bytes(content)
    assert cli.main(["kv", "verify", str(image)]) == 1
    assert "damaged: block 0, page" in capsys.readouterr().out


def test_export(image, tmp_path, capsysbinary):
    assert cli.main(["kv", "export", str(image), "--key", "default/device/lamp"]) == 0
    assert capsysbinary.readouterr().out == b"on"
    assert cli.main(["kv", "export", str(image), "--key", ".boot", "--to", str(tmp_path / "boot")]) == 0
    assert (tmp_path / "boot").read_bytes() == b"7"
    folder = tmp_path / "out"
    assert cli.main(["kv", "export", str(image), "--to", str(folder)]) == 0
    assert (folder / "default/configmap/large").read_bytes() == bytes(range(256)) * 8
    assert (folder / "default/device/lamp").read_bytes() == b"on"
    assert (folder / ".boot").read_bytes() == b"7"
    numbered = [path.read_bytes() for path in folder.glob("key-*")]
    assert sorted(numbered) == [b"a name that is a folder too", b"climbs"]
    assert not (tmp_path / "climbs").exists()


def test_secrets_need_the_key(image, tmp_path, capsysbinary):
    key_file = tmp_path / "gateway.json.key"
    store = Store(FileFlash(str(image), 12 * 4096, prog_size=64))
    store.vault = Port(str(key_file))
    store.mount()
    store.put("default/secret/wifi", b"hunter2")
    store.flash.close()
    one = ["kv", "export", str(image), "--key", "default/secret/wifi"]
    assert cli.main(["kv", "inspect", str(image)]) == 0
    assert b"default/secret/wifi               7  encrypted" in capsysbinary.readouterr().out
    assert cli.main(one) == 1
    assert b"holds encrypted or damaged: default/secret/wifi" in capsysbinary.readouterr().err
    assert cli.main(["kv", "verify", str(image)]) == 0
    capsysbinary.readouterr()
    assert cli.main([*one, "--key-file", str(key_file)]) == 0
    assert capsysbinary.readouterr().out == b"hunter2"
    (tmp_path / "wrong").write_bytes(b"k" * 31)
    assert cli.main([*one, "--key-file", str(tmp_path / "wrong")]) == 1
    assert b"is no key of 32 bytes" in capsysbinary.readouterr().err
    assert cli.main(["kv", "export", str(image), "--to", str(tmp_path / "out")]) == 0
    assert not (tmp_path / "out/default/secret").exists()


def test_mistakes(image, tmp_path, capsys):
    assert cli.main(["kv", "export", str(image)]) == 1
    assert cli.main(["kv", "export", str(image), "--key", "none"]) == 1
    assert cli.main(["kv", "inspect", str(tmp_path / "missing")]) == 1
    (tmp_path / "noise").write_bytes(b"\0" * 8192)
    assert cli.main(["kv", "verify", str(tmp_path / "noise")]) == 1
    assert "is not an image of a motelet store" in capsys.readouterr().err


def test_geometry_is_found_whatever_the_block_size(tmp_path):
    path = tmp_path / "flash.img"
    store = Store(FileFlash(str(path), 10 * 8192, 8192, 256))
    store.mount()
    assert kv.geometry(path.read_bytes(), path) == (8192, 256)
