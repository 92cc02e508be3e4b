"""Secrets in the store: what flash holds of them, who can read them, and what happens to those who cannot."""

import os

from nor import Nor

from motelet import kvseal
from motelet.kvlog import Store, StoreError
from motelet.ports.unix import Port
from tests_util import raises

SECRET = "default/secret/wifi"


class Vault:
    """AES of the platform, a key and noise of the test's own."""

    def __init__(self, key=b"k" * 32):
        self.key = key
        self.noise = 0
        self.aes = Port().aes

    def secret_key(self):
        return self.key

    def random(self, n):
        self.noise += 1
        return bytes([self.noise]) * n


def make(vault, flash=None):
    store = Store(flash or Nor(10))
    store.vault = vault
    store.mount()
    return store


def again(store, vault=None):
    other = make(vault or store.vault, store.flash)
    assert other.damaged == 0
    return other


def holds(flash, text):
    """Is `text` anywhere on flash?"""
    buf = bytearray(4096)
    for block in range(flash.blocks):
        for at in range(0, 4096, 512):
            flash.read(block * 4096 + at, memoryview(buf)[at : at + 512])
        if buf.find(text) >= 0:
            return True
    return False


def flash_end(store):
    """Where the last record of the log ends, in bytes."""
    return (store._head * store._per + store._end) * store._unit


def test_a_secret_is_read_back_and_not_on_flash():
    store = make(Vault())
    values = [b"short", b"hunter2!" * 10, bytes(range(256)) * 5]
    for value in values:
        store.put(SECRET, value)
        store.put("default/configmap/wifi", value)
        for _ in range(2):
            assert store.get(SECRET) == value and store.length(SECRET) == len(value) and SECRET in store
            assert store.get("default/configmap/wifi") == value
            store = again(store)
        store.delete("default/configmap/wifi")
    store = make(Vault())
    for value in values:
        store.put(SECRET, value)
        assert not holds(store.flash, value[:16])
    store.put("default/configmap/wifi", values[1])
    assert holds(store.flash, values[1][:16])


def test_any_part_of_a_secret():
    store = make(Vault())
    value = bytes(range(250)) * 6
    writer = store.writer(SECRET, len(value))
    for at in range(0, len(value), 171):
        writer.write(value[at : at + 171])
    writer.commit()
    buf = bytearray(100)
    for offset in (0, 1, 530, 543, 544, 545, 1087, 1088, 1450, 1499, 1500):
        count = store.readinto(SECRET, offset, buf)
        assert count == min(100, 1500 - offset) and buf[:count] == value[offset : offset + 100], offset
    assert [(key, bytes(head[:count])) for key, head, count in store.heads(20)] == [(SECRET, value[:20])]


def test_secrets_in_a_batch():
    store = make(Vault())
    store.batch([(SECRET, b"one"), ("default/secret/b", b"two" * 300), ("default/device/c", b"three")])
    store = again(store)
    assert store.get(SECRET) == b"one" and store.get("default/secret/b") == b"two" * 300
    store.batch([(SECRET, None), ("default/secret/b", b"")])
    store = again(store)
    assert store.get(SECRET) is None and store.get("default/secret/b") == b""
    assert not holds(store.flash, b"twotwo")


def test_the_same_secret_twice_looks_different():
    store = make(Vault())
    ends = []
    for _ in range(2):
        store.put(SECRET, b"the same, and the same again" * 2)
        ends.append(flash_end(store))
    chunks = []
    for end in ends:
        buf = bytearray(96)
        store.flash.read(end - 32 - 96, buf)
        chunks.append(bytes(buf[8:88]))
    assert chunks[0] != chunks[1]


def test_another_key_reads_nothing_and_may_write_again():
    store = make(Vault())
    store.put(SECRET, b"old" * 300)
    other = again(store, Vault(b"x" * 32))
    assert other.get(SECRET) is None and other.damaged == 0
    raises(KeyError, other.readinto, SECRET, 0, bytearray(4))
    assert list(other.heads(8)) == []  # so the bridge is told that it is not held, and sends it again
    other.put(SECRET, b"new")
    assert other.get(SECRET) == b"new" and again(other).get(SECRET) == b"new"


def test_what_was_tampered_with_is_not_read():
    store = make(Vault())
    store.put(SECRET, b"s" * 40)
    seal = kvseal.Seal(store, SECRET, b"n" * 16, 40)
    chunk = seal.close(0, b"s" * 40)
    assert len(chunk) == 64 and seal.open(0, chunk)[:40] == b"s" * 40
    assert seal.open(1, chunk) is None  # another place
    for key, nonce, total in (
        ("default/secret/other", b"n" * 16, 40),
        (SECRET, b"m" * 16, 40),
        (SECRET, b"n" * 16, 39),
    ):
        assert kvseal.Seal(store, key, nonce, total).open(0, chunk) is None
    for at in range(0, 64, 7):
        changed = bytearray(chunk)
        changed[at] ^= 1
        assert seal.open(0, changed) is None
    assert seal.open(0, chunk[:-16]) is None and seal.open(0, b"") is None


def test_a_damaged_secret():
    store = make(Vault())
    store.put(SECRET, b"s" * 1000)
    store.flash.flip(store._streams[1][1] * 32 + 9, 1)
    assert store.get(SECRET) is None and store.damaged == 1


def test_without_a_key_secrets_are_refused_and_all_else_works():
    class NoAes(Vault):
        def __init__(self):
            self.random = os.urandom

        def secret_key(self):
            raise OSError(13, "key.file")

    sealed = make(Vault())
    sealed.put(SECRET, b"s" * 100)
    for vault in (None, NoAes()):
        store = make(vault, sealed.flash)
        for call in ((store.put, SECRET, b"x"), (store.writer, SECRET, 700), (store.get, SECRET)):
            error = raises(StoreError, *call)
            assert error.code == "seal" and SECRET in str(error)
        raises(StoreError, store.batch, [("a", b"1"), (SECRET, b"x")])
        assert "a" not in store and list(store.heads(9)) == [] and store.length(SECRET) == 100
        store.put("default/device/a", b"1")
        assert store.get("default/device/a") == b"1" and list(store.keys()) == [SECRET, "default/device/a"]
        store.delete("default/device/a")
    assert again(sealed).get(SECRET) == b"s" * 100


def test_only_secrets_are_encrypted():
    for key in (
        "default/configmap/secret",
        ".app/x/secret/y",
        "a/b/secret/c",
        "secret/x",
        "/secret/x",
        "secret",
    ):
        store = make(None)
        store.put(key, b"plain")
        assert store.get(key) == b"plain"
