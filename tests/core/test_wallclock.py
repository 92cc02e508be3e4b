"""wallclock: what a board without a clock takes for the time, and what it keeps of it."""

from link_world import World

from motelet import protocol, wallclock

BUILT = 1750000000000
TOLD = 1800000000000  # what the cloud of link_world says


class Board:
    """A platform whose clock starts in 2000, and its log."""

    def __init__(self, built_ms=BUILT):
        self.built_ms = built_ms
        self.now = 946684800000
        self.lines = []

    def epoch_ms(self):
        return self.now

    def set_time(self, epoch_ms):
        self.now = epoch_ms

    def info(self, module, text, *pairs):
        self.lines.append((text, pairs[1]))

    def get(self, key):
        return self.saved

    saved = None


def test_a_board_starts_at_the_later_of_image_and_saved_time():
    for saved, then in ((None, BUILT), (b"1740000000000", BUILT), (b"1760000000000", 1760000000000)):
        board = Board()
        board.saved = saved
        assert wallclock.start(board, board, board)
        assert board.now == then
        assert board.lines == [("clock set", "stored")]


def test_a_clock_that_runs_is_left_alone():
    board = Board()
    board.now = BUILT + 5
    assert not wallclock.start(board, board, board)
    assert board.now == BUILT + 5 and not board.lines
    board = Board(0)  # a platform that keeps the time
    assert not wallclock.start(board, board, board)
    assert board.now == 946684800000 and not board.lines


def test_the_bridge_sets_the_clock_and_it_is_saved():
    world = World()
    world.built_ms = BUILT
    cloud = world.connect()
    assert world.times == [TOLD]
    assert world.store.data[".time"] == b"1800000000000"
    cloud.say([protocol.TIME, TOLD + 5000])
    world.run()
    assert world.times == [TOLD, TOLD + 5000]
    assert world.store.data[".time"] == b"1800000005000"
    steps = [line for line in world.lines if "clock set" in line]
    assert len(steps) == 2 and "step=" in steps[0]


def test_drift_is_no_step():
    world = World()
    world.built_ms = BUILT
    world.epoch_ms = lambda: TOLD - 400
    world.connect()
    assert world.times == []
    assert world.store.data[".time"] == b"1800000000000"


def test_a_step_moves_no_deadline():
    world = World()
    world.built_ms = BUILT
    cloud = world.connect()
    cloud.say([protocol.TIME, TOLD + 10**9])
    world.run()
    world.run(protocol.PING_MS)
    assert world.hub.connected
    cloud.heard()
    assert cloud.pings == 1


def test_a_full_flash_is_no_reason_to_lose_the_link():
    world = World()
    world.built_ms = BUILT
    world.store.full = True
    world.connect()
    assert world.hub.connected and not world.errors
    assert [line for line in world.lines if "time not saved" in line]
