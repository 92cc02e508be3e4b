"""The helpers that the other tests lean on, above all the virtual clock and the in-memory streams."""

from tests_util import (
    IS_MICROPYTHON,
    READ,
    WRITE,
    Clock,
    MemoryPoller,
    MemoryStream,
    allocates_nothing,
    heap_locked,
    raises,
)


def test_raises_returns_what_was_raised():
    error = raises(ValueError, int, "x")
    assert isinstance(error, ValueError)


def test_raises_refuses_silence_and_other_errors():
    raises(AssertionError, raises, ValueError, int, "1")
    raises(TypeError, raises, ValueError, int, [])


def test_heap_locked_catches_an_allocation():
    def allocate(a, b):
        return [a, b, a, b]

    if IS_MICROPYTHON:
        raises(MemoryError, heap_locked, allocate, 1, 2)
    assert heap_locked(len, "four") == 4
    assert len(allocate(1, 2)) == 4  # the lock is open again


def test_allocates_nothing_catches_garbage_of_both_kinds():
    def text(rounds):
        return str(rounds) * 40

    def caught(rounds):
        for _ in range(rounds):
            try:
                raise OSError(5)
            except OSError:
                pass

    assert allocates_nothing(len, "four")
    if IS_MICROPYTHON:
        raises(MemoryError, allocates_nothing, text, 1000)
        assert not allocates_nothing(caught, 3)  # the heap lock lets it pass


def test_clock_wraps_like_a_board():
    clock = Clock(start_ms=(1 << 30) - 5)
    before = clock.ticks_ms()
    clock.advance(10)
    assert clock.ticks_ms() == 5
    assert clock.ticks_diff(clock.ticks_ms(), before) == 10
    assert clock.ticks_diff(before, clock.ticks_ms()) == -10
    assert clock.ticks_add(before, 10) == 5
    assert clock.epoch_ms() == 1800000000010


def test_clock_has_microseconds_too():
    clock = Clock(1000)
    before = clock.ticks_us()
    clock.sleep_us(600)
    assert clock.ticks_ms() == 1000
    clock.sleep_us(600)
    assert clock.ticks_ms() == 1001 and clock.ticks_diff(clock.ticks_us(), before) == 1200


def test_stream_carries_bytes_without_allocating():
    one, other = MemoryStream.pair(capacity=8)
    buf = bytearray(8)
    assert other.readinto(buf) is None
    assert heap_locked(one.write, b"abcdef", 1, 3) == 3
    assert heap_locked(other.readinto, buf) == 3 and buf[:3] == b"bcd"
    assert one.write(b"0123456789") == 8 and one.write(b"x") is None  # wraps, then is full
    assert other.readinto(buf) == 8 and buf == b"01234567"


def test_stream_is_cut_closed_and_broken_on_request():
    one, other = MemoryStream.pair()
    one.chunk_max = 2
    buf = bytearray(8)
    assert one.write(b"abc") == 2
    one.close()
    assert other.readinto(buf) == 2 and other.readinto(buf) == 0
    raises(OSError, other.write, b"x")
    raises(OSError, one.write, b"x")
    other.error = OSError(104)
    assert raises(OSError, other.readinto, buf).args[0] == 104


def test_poller_reports_readiness_or_lets_time_pass():
    clock = Clock()
    poller = MemoryPoller(clock)
    one, other = MemoryStream.pair()
    poller.register(one, READ)
    assert list(poller.ipoll(250)) == [] and clock.now_ms == 250
    other.write(b"x")
    assert list(poller.ipoll(250)) == [(one, READ)] and clock.now_ms == 250
    poller.modify(one, READ | WRITE)
    assert list(poller.ipoll(0)) == [(one, READ | WRITE)]
    poller.unregister(one)
    assert list(poller.ipoll(0)) == []
    raises(OSError, poller.unregister, one)
