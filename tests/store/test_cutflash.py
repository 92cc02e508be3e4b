"""The flash that the torture plays: its rules, its ways to be cut; and how the torture reports a failure."""

import pytest

from motelet.tools import torture
from motelet.tools.cutflash import FILE_MODES, NOR_MODES, CutFlash, FlashRuleError, PowerCutError


def make(as_file=False):
    return CutFlash(4, 32, as_file=as_file)


def read(flash, offset, size):
    buf = bytearray(size)
    flash.read(offset, buf)
    return bytes(buf)


@pytest.mark.parametrize(
    "misuse",
    [
        lambda flash: flash.prog(16, b"x" * 32),
        lambda flash: flash.prog(0, b"x" * 31),
        lambda flash: flash.prog(0, b""),
        lambda flash: flash.prog(4064, b"x" * 64),
        lambda flash: flash.prog(64, b"x" * 32),
        lambda flash: flash.erase(4),
        lambda flash: read(flash, 4 * 4096 - 1, 2),
    ],
)
def test_what_a_flash_does_not_allow(misuse):
    flash = make()
    flash.prog(64, b"x" * 32)
    with pytest.raises(FlashRuleError):
        misuse(flash)


def test_half_programmed_bytes_must_not_be_programmed():
    flash = make()
    flash.arm(0, "weak", "seed")
    with pytest.raises(PowerCutError):
        flash.prog(0, b"\xff" * 32)
    with pytest.raises(FlashRuleError, match="half-programmed"):
        flash.prog(0, b"x" * 32)
    flash.erase(0)
    flash.prog(0, b"x" * 32)
    assert read(flash, 0, 32) == b"x" * 32


@pytest.mark.parametrize("mode", NOR_MODES)
def test_a_program_that_is_cut(mode):
    flash = make()
    flash.arm(1, mode, "seed")
    flash.prog(0, b"a" * 32)
    with pytest.raises(PowerCutError):
        flash.prog(32, b"\0" * 64)
    seen = {read(flash, 32, 64) for _ in range(20)}
    assert (len(seen) > 1) == mode.endswith("weak")
    assert read(flash, 0, 32) == b"a" * 32
    zeros = {"lost": 0, "done": 64, "first": 1, "last": 63, "half": 32}
    if mode in zeros:
        assert seen == {b"\0" * zeros[mode] + b"\xff" * (64 - zeros[mode])}


@pytest.mark.parametrize("mode", FILE_MODES)
def test_a_file_that_is_cut_keeps_what_was_synced(mode):
    flash = make(as_file=True)
    flash.prog(0, b"a" * 32)
    flash.sync()
    flash.arm(2, mode, "seed")
    flash.prog(32, b"b" * 32)
    flash.prog(1024, b"c" * 32)
    with pytest.raises(PowerCutError):
        flash.sync()
    assert read(flash, 0, 32) == b"a" * 32
    for offset, new in ((32, b"b" * 32), (1024, b"c" * 32)):
        assert read(flash, offset, 32) in (b"\xff" * 32, new)
    if mode == "unsynced-lost":
        assert read(flash, 32, 32) == b"\xff" * 32


def test_a_failure_is_reported_with_its_id(tmp_path, monkeypatch, capsys):
    run = torture.Run("put", "nor32", 0, cuts_max=1)
    monkeypatch.setattr(torture.Machine, "found", lambda self: {})
    count, failure = torture.work(run)
    assert count == 1 and failure.startswith("put/nor32/0:0:0.lost: what was written after the mount")
    monkeypatch.setattr(torture, "plan", lambda seeds: [run])
    assert torture.main(["--processes", "1", "--output", str(tmp_path / "figures")]) == 1
    assert '"kv.lost", "value": 1' in (tmp_path / "figures").read_text()
    assert torture.main(["--replay", "put/nor32/0:0:0.lost"]) == 1
    assert "FAILED: what was written after the mount is not there" in capsys.readouterr().out
