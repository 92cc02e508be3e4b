"""Defects planted in the store on purpose: the torture finds each within 100 cuts, or it proves nothing."""

from functools import partial

import pytest

from motelet import kvblock, kvlog, kvmount
from motelet.kvlog import Store
from motelet.tools import torture

CUTS_MAX = 100


def caught(workload, flash, store_class, seed=0):
    """What the torture says about this store within CUTS_MAX cuts, None if nothing."""
    run = torture.Run(workload, flash, seed, store_class=store_class, cuts_max=CUTS_MAX)
    count, failure = torture.work(run)
    assert count <= CUTS_MAX
    return failure


class AcknowledgesBeforeFlush(Store):
    """A put returns at once; the next call writes it."""

    late = None

    def put(self, key, value):
        self._flush_late()
        self.late = (key, value)

    def get(self, key):
        self._flush_late()
        return super().get(key)

    def keys(self, prefix=""):
        self._flush_late()
        return super().keys(prefix)

    def _flush_late(self):
        if self.late:
            late, self.late = self.late, None
            super().put(*late)


class SkipsSync(Store):
    def _sync(self):
        self._dirty = False


class SyncsBeforeWriting(Store):
    """The sync of a put comes before its record instead of after."""

    def _begin(self):
        super()._begin()
        super()._sync()

    def _sync(self):
        if not self._torn_seq:
            super()._sync()


class BatchWithoutCommitRecord(Store):
    """Each record of a batch counts on its own."""

    def _append(self, kind, number, aux, flags, data):
        return super()._append(kind, number, aux, 3, data)


class FreesBeforeTheCopyIsDurable(Store):
    """A header moves the tail, and so lets the old block be erased, while the copies are not synced."""

    opening = False

    def _sync(self):
        if not self.opening:
            super()._sync()


class ErasesBeforeTheCopy(Store):
    """The tail block is kept in RAM while it is copied, and already erased on flash."""

    rescued = (0, b"")

    def _load(self, where):
        at = where * self._unit - self.rescued[0]
        if self.rescued[1] and 0 <= at < self.flash.block_size and self._tail != self._head:
            return self._load_rescued(at)
        return super()._load(where)

    def _load_rescued(self, at):
        size = self.rescued[1][at + 4] | self.rescued[1][at + 5] << 8
        record = self.rescued[1][at : at + size + 12]
        if not 0 < record[0] <= 6 or len(record) != size + 12 or kvlog.crc32(record) != 0x2144DF1C:
            return -1
        self._buf[: len(record)] = record
        return size


class StreamBeforeItsChunks(Store):
    """A stream record may reach the disk before the chunks it names."""

    committing = False

    def _change(self, *args):
        self.committing = True
        return super()._change(*args)

    def _room(self, *args):
        committing, self.committing = self.committing, False
        super()._room(*args)
        self.committing = committing

    def _begin(self):
        self.committing = False
        super()._begin()

    def _sync(self):
        if not self.committing:
            super()._sync()


@pytest.mark.planted
def test_acknowledge_before_flush():
    assert "put" in str(caught("put", "nor32", AcknowledgesBeforeFlush))


@pytest.mark.planted
def test_no_crc(monkeypatch):
    residue = next(value for name, value in vars(kvlog).items() if name == "_RESIDUE")
    real = kvlog.crc32
    # Everything that is compared with the residue passes; what is written is right.
    monkeypatch.setattr(kvlog, "crc32", lambda data, start=0: Lenient(real(data, start), residue))
    assert caught("put", "nor32", Store)


class Lenient(int):
    """A CRC that also equals the expected residue."""

    def __new__(cls, value, residue):
        self = super().__new__(cls, value)
        self.residue = residue
        return self

    def __eq__(self, other):
        return other == self.residue or int(self) == other

    __hash__ = int.__hash__


@pytest.mark.planted
def test_sync_skipped():
    assert caught("put", "file32", SkipsSync)


@pytest.mark.planted
def test_sync_before_the_write():
    assert caught("put", "file32", SyncsBeforeWriting)


@pytest.mark.planted
def test_batch_without_commit_record():
    assert caught("batch", "nor32", BatchWithoutCommitRecord, seed=4)


@pytest.mark.planted
def test_old_block_erased_before_the_copy_is_durable(monkeypatch):
    real = kvblock.open

    def planted(store):
        store.opening = True
        real(store)
        store.opening = False

    monkeypatch.setattr(kvblock, "open", planted)
    assert caught("mount", "file32", FreesBeforeTheCopyIsDurable)


@pytest.mark.planted
def test_old_block_erased_before_it_is_copied(monkeypatch):
    real = kvblock.compact

    def compact(store, budget):
        start = store._tail * store.flash.block_size
        if store._tail != store._head and store.rescued[0] != start:
            content = bytearray(store.flash.block_size)
            store.flash.read(start, content)
            store.rescued = (start, bytes(content))
            store.flash.erase(store._tail)
        return real(store, budget)

    monkeypatch.setattr(kvblock, "compact", compact)
    assert caught("compaction", "nor32", ErasesBeforeTheCopy)


@pytest.mark.planted
def test_stream_before_its_chunks():
    assert caught("stream", "file32", StreamBeforeItsChunks, seed=10)


@pytest.mark.planted
def test_half_programmed_end_is_trusted(monkeypatch):
    # The last record is not written again, though its bits may be unsure.
    monkeypatch.setattr(kvmount.Recovery, "_settle", lambda self, kept, void, replaced: True)
    monkeypatch.setattr(
        kvmount.Recovery, "_holds_group", partial(holds_header, kvmount.Recovery._holds_group)
    )
    assert caught("put", "nor32", Store)


def holds_header(real, self, block):
    self.held = 0
    return True


@pytest.mark.parametrize("workload", ["put", "overwrite", "batch", "stream"])
def test_the_store_itself_passes_the_same_cuts(workload):
    for flash in ("nor32", "file32"):
        assert caught(workload, flash, Store) is None


@pytest.mark.parametrize(
    ("workload", "flash", "store_class", "seed"),
    [
        ("batch", "nor32", BatchWithoutCommitRecord, 4),
        ("put", "file32", SkipsSync, 0),
        ("stream", "file32", StreamBeforeItsChunks, 10),
    ],
)
def test_the_id_of_a_failure_replays_it(workload, flash, store_class, seed):
    ident = caught(workload, flash, store_class, seed).split(": ")[0]
    with pytest.raises(torture.TortureError) as failure:
        torture.replay(ident, store_class)
    assert failure.value.ident == ident
    torture.replay(ident)  # and it is the fault that fails, not the replay
