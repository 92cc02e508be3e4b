"""nodestatus: what the hub says of the board it runs on, and when."""

from link_world import World, prop

from motelet import protocol

STATE = {"heap": 65536, "heap_free": 2048, "temperature": 41.5, "reset": "watchdog"}
STORE = {"flash": 16 * 4096, "flash_free": 3 * 4096}


class Flash:
    blocks = 16
    block_size = 4096


def world(**more):
    made = World()
    made.state = dict(STATE)
    made.state.update(more)
    made.store.flash = Flash
    made.store.spare = 3
    return made


def welcomed(board):
    """-> the bridge's end of a new connection, and what the board said after WELCOME."""
    cloud = board.connect(welcome=False)
    cloud.heard()
    cloud.say([protocol.WELCOME, 1, 1800000000000, 8])
    return cloud, cloud.heard()


def expected(**more):
    fields = dict(STATE)
    fields.update(STORE)
    fields.update(more)
    return fields


def test_a_board_says_what_it_is_like_on_each_connection():
    board = world()
    for _ in range(2):
        cloud, said = welcomed(board)
        assert said == [[protocol.NODE, 1, expected()]]
        cloud.stream.close()
        board.run(5000)


class Uploads:
    dropped = 3

    def link_lost(self):
        pass

    def next(self):
        return 0


def test_what_applications_lost_is_said():
    board = world()
    board.hub.uploads = Uploads()
    assert welcomed(board)[1] == [[protocol.NODE, 1, expected(uploads_dropped=3)]]


def test_and_again_when_it_is_told_the_time():
    board = world()
    cloud, _ = welcomed(board)
    board.state["heap_free"] = 30000
    cloud.say([protocol.ACK, 1])
    cloud.say([protocol.TIME, 1800000000000])
    board.run()
    assert cloud.heard() == [[protocol.NODE, 2, expected(heap_free=30000)]]


def test_its_number_counts_among_those_of_reports():
    board = world()
    cloud, _ = welcomed(board)
    item = prop()
    board.reports.ready.append(item)
    board.hub.task.wake()
    board.run()
    assert cloud.heard()[-1][:2] == [protocol.REPORT, 2]
    cloud.say([protocol.ACK, 2])
    board.run()
    assert ("acked", item) in board.reports.log and not board.errors


def test_a_refused_one_harms_nothing():
    board = world()
    cloud, _ = welcomed(board)
    cloud.say([protocol.NACK, 1, protocol.MALFORMED, "no"])
    cloud.say([protocol.ACK, 1])
    board.run()
    assert board.hub.connected and not board.errors and board.reports.log == []


def test_none_while_the_window_is_full():
    board = world()
    cloud, _ = welcomed(board)
    board.reports.ready += [prop("p%d" % i) for i in range(7)]
    board.hub.task.wake()
    board.run()
    cloud.heard()
    cloud.say([protocol.TIME, 1800000000000])
    board.run()
    assert cloud.heard() == []
    cloud.say([protocol.ACK, 8])
    cloud.say([protocol.TIME, 1800000000000])
    board.run()
    assert cloud.heard() == [[protocol.NODE, 9, expected()]]


def test_of_a_long_text_the_end_is_said():
    board = world(crash="x" * 5000 + "ValueError: end")
    (message,) = welcomed(board)[1]
    assert len(message[2]["crash"]) == 300 and message[2]["crash"].endswith("ValueError: end")


def test_a_platform_that_knows_nothing_says_nothing():
    assert welcomed(World())[1] == []
