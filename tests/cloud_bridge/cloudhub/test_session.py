"""One session without I/O, against a simulated board and against messages no board should send."""

import itertools
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_bridge.cloudhub import session as session_module
from cloud_bridge.cloudhub.delivery import PUBLICATIONS_MAX
from cloud_bridge.cloudhub.session import CLOSE_MALFORMED, Delivered, Opened, Refused, Session
from cloud_bridge.resources import Content, Desired, Event, Refusal, Report, State
from motelet import protocol as p
from motelet.tools.load.board import SimulatedBoard, digest

NOW = 1_795_000_000_000
LAMP = "default/device/lamp"
PUMP = "default/device/pump"


def content(text: str, size: int = 0) -> Content:
    return Content(text, cbor2.dumps(text.ljust(size, ".")))


def desired(synced: bool = True, kept: tuple[str, ...] = (), **versions: str) -> Desired:
    return Desired({f"default/device/{k}": content(v) for k, v in versions.items()}, kept, synced)


def new_session(wanted: Desired | None = None) -> Session:
    session = Session(lambda: NOW)
    if wanted is not None:
        session.desire(wanted)
    return session


def drain(session: Session) -> list[list[Any]]:
    """All that the session has to send now, decoded."""
    return [cbor2.loads(data) for data in iter(session.data_to_send, None)]


def tell(session: Session, *fields: Any) -> list[Any]:
    return session.receive(cbor2.dumps(list(fields)))


def opened(wanted: Desired | None = None, held: dict[str, str] | None = None, **info: Any) -> Session:
    """A session that has been said hello to, by a board that holds `held`; what it answered is gone."""
    session = new_session(wanted)
    tell(session, p.HELLO, 1, 1, digest(held or {}), info)
    drain(session)
    return session


def run(session: Session, board: SimulatedBoard, settle: bool = True) -> list[Any]:
    """Carry messages both ways until neither has any; -> what the session said."""
    outputs = []
    while True:
        sent = [data for data in iter(session.data_to_send, None)]
        for data in sent:
            board.receive(data)
        received = board.take_out()
        for data in received:
            outputs += session.receive(data)
        for output in outputs:
            if settle and isinstance(output, Report | State | Event) and output.seq in session._intake._open:
                session.settle(output.seq)
        if not sent and not received:
            return outputs


# -- hello ------------------------------------------------------------------------------------


def test_welcome_is_the_first_message_and_has_the_time():
    session = new_session()
    assert tell(session, p.HELLO, 1, 1, bytes(8), {"software": "x"}) == [Opened({"software": "x"})]
    assert drain(session) == [[p.WELCOME, 1, NOW, p.WINDOW_MAX]]


@pytest.mark.parametrize(("low", "high", "version"), [(1, 9, 1), (1, 1, 1), (1, 255, 1)])
def test_the_highest_version_in_common_is_chosen(low, high, version):
    session = new_session()
    tell(session, p.HELLO, low, high, bytes(8), {})
    assert drain(session)[0][:2] == [p.WELCOME, version]
    assert session.closing is None


@pytest.mark.parametrize(("low", "high"), [(2, 9), (255, 255), (5, 1)])
def test_no_version_in_common_ends_the_session_after_saying_so(low, high):
    session = new_session(desired(lamp="v1"))
    assert tell(session, p.HELLO, low, high, bytes(8), {}) == []
    assert drain(session) == [[p.WELCOME, 0, NOW, p.WINDOW_MAX]]
    assert session.closing is not None
    assert session.closing.code == p.CLOSE_VERSION


def test_nothing_is_sent_before_hello():
    session = new_session(desired(lamp="v1"))
    session.tell_time()
    assert drain(session) == []


@pytest.mark.parametrize("item", [[p.ACK, 1], [p.REPORT, 1, 1, 1, 1], [99, 1]])
def test_the_first_message_has_to_be_hello(item):
    session = new_session()
    assert tell(session, *item) == []
    assert session.closing is not None
    assert session.closing.code == CLOSE_MALFORMED


def test_a_second_hello_ends_the_session():
    session = opened()
    tell(session, p.HELLO, 1, 1, bytes(8), {})
    assert session.closing is not None


def test_an_ended_session_takes_and_says_nothing_more():
    session = opened(desired(lamp="v1"), window=1)
    session.end(4003, "replaced")
    session.fail("later")
    session.tell_time()
    assert (session.closing.code, session.closing.reason) == (4003, "replaced")
    assert tell(session, p.NAME, 1, LAMP, None) == []
    session.desire(desired(lamp="v2"))
    assert drain(session) == []


# -- what it holds ----------------------------------------------------------------------------


def test_an_empty_board_is_not_asked_and_gets_everything():
    board = SimulatedBoard()
    session = new_session(desired(lamp="v1", pump="v1"))
    board.hello()
    outputs = run(session, board)
    assert board.held == {LAMP: "v1", PUMP: "v1"}
    assert p.LIST not in board.kinds()
    assert board.synced
    assert outputs[1:] == [Delivered(LAMP, "v1"), Delivered(PUMP, "v1")]


def test_a_board_that_holds_everything_is_sent_nothing_and_not_asked():
    board = SimulatedBoard()
    board.flash = {LAMP: ("v1", b"")}
    board.hello()
    run(new_session(desired(lamp="v1")), board)
    assert board.kinds() == [p.WELCOME, p.SYNCED]


def test_a_board_that_differs_is_asked_and_gets_the_difference():
    board = SimulatedBoard(page=2)
    board.flash = {f"default/device/d{i}": ("v1", b"") for i in range(7)}
    wanted = {f"d{i}": "v1" for i in range(6)} | {"d2": "v2", "new": "v1"}
    board.hello()
    run(new_session(desired(**wanted)), board)
    assert board.held == {f"default/device/{k}": v for k, v in wanted.items()}
    assert sorted(m[0] for m in board.log) == sorted([p.WELCOME, p.LIST, p.DELETE, p.PUT, p.PUT, p.SYNCED])


def test_what_is_to_go_goes_first_and_makes_room():
    session = opened(desired(lamp="v1"), {PUMP: "v1"})
    tell(session, p.HAVE, False, {PUMP: "v1"})
    assert [each[0] for each in drain(session)] == [p.DELETE, p.PUT]


def test_a_board_waits_for_a_bridge_that_knows_nothing_yet():
    board = SimulatedBoard()
    board.flash = {PUMP: ("v1", b"")}
    board.hello()
    session = new_session()
    run(session, board)
    assert board.kinds() == [p.WELCOME]
    session.desire(desired(pump="v1"))
    run(session, board)
    assert board.kinds() == [p.WELCOME, p.SYNCED]


@pytest.mark.parametrize("have", [[p.HAVE, False, {}], [p.HAVE, True, {LAMP: "v1"}]])
def test_a_list_that_was_not_asked_for_ends_the_session(have):
    session = opened(desired(lamp="v1"))
    tell(session, *have)
    assert session.closing is not None


def test_a_list_has_a_limit_over_all_its_parts(monkeypatch):
    monkeypatch.setattr(session_module, "HELD_MAX", 4)
    session = opened(desired(), {"a": "1"})
    tell(session, p.HAVE, True, {"a": "1", "b": "1", "c": "1"})
    assert session.closing is None
    tell(session, p.HAVE, True, {"d": "1", "e": "1"})
    assert "more than 4" in session.closing.reason


def test_nothing_is_deleted_before_every_list_is_synced():
    board = SimulatedBoard()
    board.flash = {PUMP: ("v1", b"")}
    session = new_session(desired(synced=False, lamp="v1"))
    board.hello()
    run(session, board)
    assert board.held == {PUMP: "v1", LAMP: "v1"}
    assert not board.synced
    session.desire(desired(lamp="v1"))
    run(session, board)
    assert board.held == {LAMP: "v1"}
    assert board.synced


def test_what_is_kept_is_neither_changed_nor_deleted():
    board = SimulatedBoard()
    board.flash = {PUMP: ("old", b""), LAMP: ("v1", b"")}
    session = new_session(desired(kept=(PUMP,)))
    board.hello()
    run(session, board)
    assert board.held == {PUMP: "old"}
    assert board.synced


# -- level-triggered --------------------------------------------------------------------------


def test_of_many_versions_a_busy_board_gets_the_newest():
    board = SimulatedBoard()
    session = new_session(desired(lamp="v1"))
    board.hello()
    run(session, board)
    first = cbor2.dumps([p.PUT, 2, LAMP, "v2", content("v2").data])
    session.desire(desired(lamp="v2"))
    assert session.data_to_send() == first
    for version in ("v3", "v4", "v5"):
        session.desire(desired(lamp=version))
    assert session.data_to_send() is None  # one message about it is under way
    board.receive(first)
    run(session, board)
    assert [m[3] for m in board.log if m[0] == p.PUT] == ["v1", "v2", "v5"]


def test_a_change_undone_before_its_turn_is_not_sent():
    session = opened(desired(lamp="v1"), window=1)
    session.desire(desired(lamp="v1", pump="v1"))
    session.desire(desired(lamp="v1"))
    tell(session, p.ACK, 1)
    assert drain(session) == [[p.SYNCED]]


def test_deletion_then_creation_while_a_message_is_under_way():
    session = new_session(desired(lamp="v1"))
    tell(session, p.HELLO, 1, 1, bytes(8), {})
    assert drain(session)[1][:4] == [p.PUT, 1, LAMP, "v1"]
    session.desire(desired())
    assert drain(session) == []
    tell(session, p.ACK, 1)
    assert drain(session) == [[p.DELETE, 2, LAMP]]
    session.desire(desired(lamp="v1"))
    tell(session, p.ACK, 2)
    assert drain(session)[0][:4] == [p.PUT, 3, LAMP, "v1"]


def test_doing_it_twice_sends_nothing():
    board = SimulatedBoard()
    session = new_session(desired(lamp="v1"))
    board.hello()
    run(session, board)
    before = len(board.log)
    for _ in range(3):
        session.desire(desired(lamp="v1"))
        run(session, board)
    assert len(board.log) == before


# -- window -----------------------------------------------------------------------------------


def test_the_boards_window_is_kept_and_moves_with_each_acknowledgement():
    wanted = desired(**{f"d{i}": "v1" for i in range(6)})
    session = new_session(wanted)
    tell(session, p.HELLO, 1, 1, bytes(8), {"window": 2})
    assert [m[1] for m in drain(session)[1:]] == [1, 2]
    tell(session, p.ACK, 1)
    assert [m[1] for m in drain(session)] == [3]
    tell(session, p.ACK, 3)
    assert [m[1] for m in drain(session)] == [4, 5]
    tell(session, p.ACK, 5)
    assert [m[1] for m in drain(session)] == [6]
    tell(session, p.ACK, 6)
    assert drain(session) == [[p.SYNCED]]


def test_a_board_that_names_no_window_gets_the_default():
    session = new_session(desired(**{f"d{i}": "v1" for i in range(20)}))
    tell(session, p.HELLO, 1, 1, bytes(8), {})
    assert len(drain(session)) == 1 + session_module.WINDOW_DEFAULT


def test_an_acknowledgement_twice_or_of_the_past_changes_nothing():
    session = new_session(desired(lamp="v1"))
    tell(session, p.HELLO, 1, 1, bytes(8), {})
    drain(session)
    assert tell(session, p.ACK, 1) == [Delivered(LAMP, "v1")]
    assert tell(session, p.ACK, 1) == []
    assert tell(session, p.ACK, 1, True) == []
    assert tell(session, p.NACK, 1, p.INVALID, "late") == []
    assert session.closing is None


@pytest.mark.parametrize("item", [[p.ACK, 0], [p.ACK, 2], [p.NACK, 2, 1, ""], [p.ACK, 2, True]])
def test_an_answer_to_what_was_never_sent_ends_the_session(item):
    session = opened(desired(lamp="v1"))
    tell(session, *item)
    assert session.closing is not None
    assert session.closing.code == CLOSE_MALFORMED


# -- refusals by the board --------------------------------------------------------------------


def test_what_a_board_refuses_stalls_nothing_and_is_not_sent_again():
    board = SimulatedBoard(window=1)
    board.accept = lambda resource, data: (p.INVALID, "no such register") if resource == LAMP else None
    session = new_session(desired(lamp="v1", pump="v1"))
    board.hello()
    outputs = run(session, board)
    assert Refused(LAMP, "v1", Refusal(p.INVALID, "no such register")) in outputs
    assert board.held == {PUMP: "v1"}
    assert board.synced
    session.desire(desired(lamp="v1", pump="v2"))
    run(session, board)
    assert [m[2:4] for m in board.log if m[0] == p.PUT] == [[LAMP, "v1"], [PUMP, "v1"], [PUMP, "v2"]]


def test_another_version_of_what_was_refused_is_sent():
    board = SimulatedBoard()
    board.accept = lambda resource, data: (p.INVALID, "bad") if b"v1" in data else None
    session = new_session(desired(lamp="v1"))
    board.hello()
    run(session, board)
    session.desire(desired(lamp="v2"))
    run(session, board)
    assert board.held == {LAMP: "v2"}


def test_what_found_no_room_is_offered_again_when_asked_to():
    board = SimulatedBoard()
    board.accept = lambda resource, data: (p.STORAGE_FULL, "full")
    session = new_session(desired(lamp="v1"))
    board.hello()
    run(session, board)
    board.accept = lambda resource, data: None
    run(session, board)
    assert board.held == {}
    assert session.offer_again()
    run(session, board)
    assert board.held == {LAMP: "v1"}
    assert not session.offer_again()


def test_synced_is_said_again_after_a_report_of_what_was_not_known():
    session = opened(desired())
    tell(session, p.NAME, 1, LAMP, None)
    tell(session, p.STATE, 1, 1, "online", NOW, "")
    session.settle(1, Refusal(p.NOT_YOURS, "not a device of this node"))
    assert [each[0] for each in drain(session)] == [p.NACK, p.ACK]
    session.desire(desired())
    assert drain(session) == [[p.SYNCED]]
    session.desire(desired())
    assert drain(session) == []


def test_what_found_no_room_is_tried_again_once_there_may_be_some():
    board = SimulatedBoard()
    board.flash = {PUMP: ("v1", b"")}
    board.accept = lambda resource, data: (p.STORAGE_FULL, "full") if PUMP in board.flash else None
    session = new_session(desired(lamp="v1", pump="v1"))
    board.hello()
    run(session, board)
    assert board.held == {PUMP: "v1"}
    session.desire(desired(lamp="v1"))
    run(session, board)
    assert board.held == {LAMP: "v1"}


def test_a_deletion_that_is_refused_is_not_tried_again():
    session = opened(desired(), {PUMP: "v1"})
    tell(session, p.HAVE, False, {PUMP: "v1"})
    assert drain(session) == [[p.DELETE, 1, PUMP]]
    assert tell(session, p.NACK, 1, p.UNSUPPORTED, "no") == [
        Refused(PUMP, None, Refusal(p.UNSUPPORTED, "no"))
    ]
    session.desire(desired())
    assert drain(session) == [[p.SYNCED]]


# -- blobs ------------------------------------------------------------------------------------


def test_content_that_fits_no_message_goes_as_a_blob():
    board = SimulatedBoard(max_message=p.MESSAGE_SIZE_MIN + 2048)
    big = content("v1", 10_000)
    session = new_session(Desired({LAMP: big}))
    board.hello()
    outputs = run(session, board)
    assert board.flash[LAMP] == ("v1", big.data)
    assert outputs[-1] == Delivered(LAMP, "v1")
    assert board.synced


def test_a_message_is_never_larger_than_the_board_takes():
    for size in range(p.MESSAGE_SIZE_MIN - 60, p.MESSAGE_SIZE_MIN + 10):
        session = new_session(Desired({LAMP: Content("v1", bytes(size))}))
        tell(session, p.HELLO, 1, 1, bytes(8), {"max_message": p.MESSAGE_SIZE_MIN})
        sent = list(iter(session.data_to_send, None))
        assert all(len(data) <= p.MESSAGE_SIZE_MIN for data in sent)
        assert cbor2.loads(sent[-1])[0] in (p.PUT, p.PUTBLOB)


def test_the_largest_message_of_the_bridge_is_not_exceeded():
    session = new_session(Desired({LAMP: Content("v1", bytes(p.MESSAGE_SIZE_MAX))}))
    tell(session, p.HELLO, 1, 1, bytes(8), {"max_message": 2**20})
    assert drain(session)[-1][0] == p.PUTBLOB


def test_one_blob_at_a_time_and_other_messages_meanwhile():
    board = SimulatedBoard(max_message=4096, window=4)
    big = {f"default/device/big{i}": content(f"b{i}", 9000) for i in range(3)}
    wanted = Desired({**big, LAMP: content("v1")})
    session = new_session(wanted)
    board.hello()
    run(session, board)
    assert board.held == {**{k: c.version for k, c in big.items()}, LAMP: "v1"}
    kinds = board.kinds()
    assert kinds.index(p.PUT) < kinds.index(p.BLOB)
    assert kinds.count(p.PUTBLOB) == 3
    assert board.synced


def test_a_cumulative_acknowledgement_does_not_cover_a_blob_under_way():
    session = new_session(Desired({LAMP: content("v1", 9000), PUMP: content("v1")}))
    tell(session, p.HELLO, 1, 1, bytes(8), {"max_message": 4096})
    drain(session)
    assert tell(session, p.ACK, 2) == [Delivered(PUMP, "v1")]
    assert tell(session, p.ACK, 1, True) == [Delivered(LAMP, "v1")]


def test_a_blob_that_is_refused_makes_way_for_the_next():
    board = SimulatedBoard(max_message=4096)
    board.accept = lambda resource, data: (p.INVALID, "no") if resource == LAMP else None
    session = new_session(Desired({LAMP: content("v1", 9000), PUMP: content("v2", 9000)}))
    board.hello()
    run(session, board)
    assert board.held == {PUMP: "v2"}


def test_a_blob_can_be_had_from_any_offset_and_only_while_it_is_under_way():
    big = content("v1", 9000)
    session = new_session(Desired({LAMP: big}))
    tell(session, p.HELLO, 1, 1, bytes(8), {})
    sha = drain(session)[1][-1]
    for offset, count in ((0, 10), (8999, 2048), (9003, 1), (2**32 - 1, 1)):
        tell(session, p.BLOBGET, sha, offset, count)
        expected = [p.BLOB, sha, offset, len(big.data), big.data[offset : offset + count]]
        assert drain(session) == [expected]
    tell(session, p.BLOBGET, bytes(32), 0, 10)
    assert drain(session) == [[p.BLOB, bytes(32), 0, 0, b""]]
    tell(session, p.ACK, 1, True)
    tell(session, p.BLOBGET, sha, 0, 10)
    assert drain(session)[0] == [p.BLOB, sha, 0, 0, b""]


def test_who_asks_on_without_reading_is_cut_off():
    session = opened()
    for _ in range(session_module.OUTPUT_QUEUE_MAX + 1):
        assert session.closing is None
        tell(session, p.BLOBGET, bytes(32), 0, 2048)
    assert "not read" in session.closing.reason
    assert drain(session) == []


# -- reports ----------------------------------------------------------------------------------


def test_reports_come_out_with_their_names():
    session = opened(desired())
    drain(session)
    tell(session, p.NAME, 1, LAMP, "power")
    tell(session, p.NAME, 2, LAMP, None)
    assert tell(session, p.REPORT, 1, 1, True, 5, "true") == [Report(1, LAMP, "power", True, 5, "true")]
    assert tell(session, p.REPORT, 2, 1, False, 6) == [Report(2, LAMP, "power", False, 6, None)]
    assert tell(session, p.STATE, 3, 2, "online", 7, "") == [State(3, LAMP, "online", 7, "")]
    assert tell(session, p.EVENT, 4, "t", 8, b"x") == [Event(4, "t", 8, b"x")]
    tell(session, p.NAME, 1, PUMP, "flow")  # a number may be given anew
    assert tell(session, p.REPORT, 5, 1, 1, 9) == [Report(5, PUMP, "flow", 1, 9, None)]


def with_reports(count: int) -> Session:
    session = opened(desired())
    drain(session)
    tell(session, p.NAME, 1, LAMP, "power")
    for seq in range(1, count + 1):
        tell(session, p.REPORT, seq, 1, seq, 5)
    return session


def test_nothing_is_acknowledged_before_it_is_settled():
    session = with_reports(3)
    assert drain(session) == []
    session.settle(1)
    assert drain(session) == [[p.ACK, 1]]


def test_acknowledgements_are_cumulative_and_in_order():
    session = with_reports(5)
    session.settle(2)
    session.settle(4)
    assert drain(session) == []
    session.settle(1)
    assert drain(session) == [[p.ACK, 2]]
    session.settle(3)
    session.settle(5)
    assert drain(session) == [[p.ACK, 5]]


def test_a_refusal_goes_out_at_once_and_before_what_covers_it():
    session = with_reports(3)
    session.settle(2, Refusal(p.NOT_YOURS, "no"))
    assert drain(session) == [[p.NACK, 2, p.NOT_YOURS, "no"]]
    session.settle(3, Refusal(p.INVALID, "é" * 200))
    session.settle(1)
    assert drain(session) == [[p.NACK, 3, p.INVALID, "é" * 100], [p.ACK, 3]]


@pytest.mark.parametrize("seq", [0, 2, 4])
def test_settling_what_is_not_open_is_a_mistake_of_the_caller(seq):
    session = with_reports(3)
    session.settle(2)
    with pytest.raises(ValueError, match="not open"):
        session.settle(seq)


@pytest.mark.parametrize("seq", [0, 1, 3, 2**63])
def test_a_number_out_of_order_ends_the_session(seq):
    session = with_reports(1)
    tell(session, p.REPORT, seq, 1, 1, 5)
    assert session.closing is not None
    assert session.closing.code == CLOSE_MALFORMED


def test_who_exceeds_the_window_is_cut_off():
    session = with_reports(p.WINDOW_MAX)
    assert session.closing is None
    tell(session, p.REPORT, p.WINDOW_MAX + 1, 1, 1, 5)
    assert "not acknowledged" in session.closing.reason


def test_who_sends_what_is_refused_without_reading_is_cut_off():
    session = opened(desired())
    for seq in range(1, p.WINDOW_MAX + 2):
        tell(session, 99, seq)
    assert session.closing is not None


def test_a_bad_message_is_refused_by_number_and_the_rest_goes_on():
    session = with_reports(1)
    tell(session, p.REPORT, 2, 1, None, 5)
    tell(session, 99, 3, "what is this")
    tell(session, p.REPORT, 4, 77, 1, 5)  # names nothing
    tell(session, p.STATE, 5, 1, "online", 5, "")  # names a property
    tell(session, p.NAME, 2, LAMP, None)
    tell(session, p.REPORT, 6, 2, 1, 5)  # names a device
    assert tell(session, p.REPORT, 7, 1, 7, 5) == [Report(7, LAMP, "power", 7, 5, None)]
    session.settle(1)
    session.settle(7)
    answers = drain(session)
    assert [each[:3] for each in answers] == [
        [p.NACK, 2, p.MALFORMED],
        [p.NACK, 3, p.UNKNOWN],
        [p.NACK, 4, p.UNKNOWN],
        [p.NACK, 5, p.UNKNOWN],
        [p.NACK, 6, p.UNKNOWN],
        [p.ACK, 7],
    ]


@pytest.mark.parametrize("seq", [1, 3])
def test_a_bad_message_with_a_bad_number_ends_the_session(seq):
    session = with_reports(1)
    tell(session, 99, seq)
    assert session.closing is not None


def test_the_time_is_told_when_asked_to():
    session = opened(desired())
    drain(session)
    session.tell_time()
    assert drain(session) == [[p.TIME, NOW]]


# -- random boards ----------------------------------------------------------------------------

ITEMS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 70)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
FIELDS = {
    "seq": st.integers(0, 6),
    "ref": st.integers(0, 4),
    "resource": st.sampled_from([LAMP, PUMP, "", "a/b", "../..", "x" * 400]),
    "value": ITEMS,
    "text": st.text(max_size=8),
}
INFO = st.dictionaries(st.sampled_from(["window", "max_message", "x"]), ITEMS)
SHA = st.binary(min_size=32, max_size=32)
SMALL = st.integers(0, 9)
NEARLY = st.one_of(
    st.tuples(
        st.just(p.HELLO), st.integers(0, 3), st.integers(0, 3), st.binary(min_size=8, max_size=8), INFO
    ),
    st.tuples(st.just(p.HAVE), st.booleans(), st.dictionaries(FIELDS["resource"], FIELDS["text"])),
    st.tuples(st.just(p.ACK), FIELDS["seq"]),
    st.tuples(st.just(p.ACK), FIELDS["seq"], st.just(True)),
    st.tuples(st.just(p.NACK), FIELDS["seq"], st.integers(0, 300), FIELDS["text"]),
    st.tuples(st.just(p.BLOBGET), SHA, SMALL, SMALL),
    st.tuples(st.just(p.NAME), FIELDS["ref"], FIELDS["resource"], st.none() | FIELDS["text"]),
    st.tuples(st.just(p.REPORT), FIELDS["seq"], FIELDS["ref"], FIELDS["value"], SMALL),
    st.tuples(st.just(p.STATE), FIELDS["seq"], FIELDS["ref"], FIELDS["text"], SMALL, st.just("")),
    st.tuples(st.just(p.EVENT), FIELDS["seq"], st.just("t"), SMALL, FIELDS["value"]),
    st.tuples(st.integers(0, 30), FIELDS["seq"], FIELDS["value"]),
    st.lists(ITEMS, max_size=6),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=60) | NEARLY.map(cbor2.dumps), max_size=20), st.booleans())
def test_no_board_can_make_a_session_raise_or_grow_without_bound(received, polite):
    session = new_session(desired(lamp="v1", pump="v2"))
    if polite:
        tell(session, p.HELLO, 1, 1, bytes(8), {})
    for data in received:
        outputs = session.receive(data)
        for output in outputs:
            if isinstance(output, Report | State | Event):
                session.settle(output.seq)
        sent = list(itertools.islice(iter(session.data_to_send, None), 100))
        assert len(sent) < 100
        for each in sent:
            assert isinstance(cbor2.loads(each), list)


class World:
    """A bridge whose desired state changes, and a board that loses power and connection at random."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.board = SimulatedBoard(window=data.draw(st.integers(1, 4)), max_message=1100, page=2)
        self.versions: dict[str, str] = {}
        self.count = 0
        self.synced = True
        self.taken: dict[str, int] = {}
        self.acked_values: dict[str, int] = {}
        self.values: dict[str, int] = {}
        self.sent_values: dict[int, tuple[str, int]] = {}
        self.open: list[Report] = []
        self.down: list[bytes] = []
        self.connect()

    def connect(self) -> None:
        self.board.power_cut()
        self.session = new_session(self.wanted())
        self.open, self.down, self.sent_values = [], [], {}
        self.board.hello()

    def wanted(self) -> Desired:
        items = {
            key: Content(version, cbor2.dumps(version * (400 if "big" in key else 1)))
            for key, version in self.versions.items()
        }
        return Desired(items, synced=self.synced)

    def change(self) -> None:
        name = f"default/device/{self.data.draw(st.sampled_from(['a', 'b', 'big-c', 'big-d']))}"
        if self.data.draw(st.booleans()):
            self.count += 1
            self.versions[name] = f"v{self.count}"
        else:
            self.versions.pop(name, None)
        self.session.desire(self.wanted())

    def lists(self) -> None:
        self.synced = not self.synced
        self.session.desire(self.wanted())

    def report(self) -> None:
        if self.board.connected and len(self.sent_values) < p.WINDOW_MAX:
            prop = self.data.draw(st.sampled_from(["x", "y"]))
            self.count += 1
            self.values[prop] = self.count
            seq = self.board.report(LAMP, prop, self.count, 1)
            self.sent_values[seq] = prop, self.count

    def up(self) -> None:
        if self.board.out:
            for output in self.session.receive(self.board.out.pop(0)):
                if isinstance(output, Report):
                    self.open.append(output)

    def settle(self) -> None:
        if self.open:
            report = self.open.pop(self.data.draw(st.integers(0, len(self.open) - 1)))
            self.taken[report.property] = max(report.value, self.taken.get(report.property, 0))
            self.session.settle(report.seq)

    def deliver(self) -> None:
        data = self.session.data_to_send()
        if data is not None:
            assert self.synced or cbor2.loads(data)[0] != p.DELETE
            self.down.append(data)

    def arrive(self) -> None:
        if self.down:
            self.board.receive(self.down.pop(0))
            for seq in [each for each in self.sent_values if each <= self.board.acked]:
                prop, value = self.sent_values.pop(seq)
                self.acked_values[prop] = max(value, self.acked_values.get(prop, 0))
                assert self.taken.get(prop, 0) >= value, "acknowledged before it was taken"

    def settle_down(self) -> None:
        """Let everything run until nothing moves, with all lists synced."""
        self.synced = True
        self.session.desire(self.wanted())
        for _ in range(3000):
            before = (len(self.board.log), len(self.board.out), len(self.open), len(self.down))
            self.up()
            self.settle()
            self.deliver()
            self.arrive()
            if before == (len(self.board.log), len(self.board.out), len(self.open), len(self.down)) == (
                len(self.board.log), 0, 0, 0,
            ):  # fmt: skip
                return
        raise AssertionError("never comes to rest")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_happens_on_the_way_board_and_bridge_converge(data):
    world = World(data)
    steps = [
        world.change,
        world.report,
        world.up,
        world.settle,
        world.deliver,
        world.arrive,
        world.lists,
        world.connect,
    ]
    weights = [3, 4, 8, 6, 8, 8, 1, 1]
    choices = [step for step, weight in zip(steps, weights, strict=True) for _ in range(weight)]
    for step in data.draw(st.lists(st.sampled_from(choices), max_size=80)):
        step()
        assert world.session.closing is None
    world.settle_down()
    assert world.session.closing is None
    assert world.board.held == world.versions
    assert world.board.synced
    assert not world.sent_values
    # What is there is not sent again, neither now nor on the next connection.
    world.connect()
    world.board.log.clear()
    world.settle_down()
    assert set(world.board.kinds()) <= {p.WELCOME, p.SYNCED}


# -- publications -----------------------------------------------------------------------------


def test_a_publication_is_settled_when_the_board_has_it_and_not_before():
    session = opened(desired(), window=2)
    session.desire(desired(lamp="v1"))
    fates = []
    for number in range(3):
        session.publish("a/b", b"%d" % number, fates.append)
    assert [message[:2] for message in drain(session)] == [[p.PUBLISH, 1], [p.PUBLISH, 2]]
    tell(session, p.ACK, 1)
    assert fates == [None]
    assert drain(session) == [[p.PUBLISH, 3, "a/b", b"2"]]
    tell(session, p.NACK, 2, p.INVALID, "no EventBus")
    tell(session, p.ACK, 3)
    assert fates == [None, Refusal(p.INVALID, "no EventBus"), None]
    assert drain(session)[0][0] == p.PUT
    tell(session, p.ACK, 3)
    tell(session, p.NACK, 2, p.INVALID, "again")
    assert len(fates) == 3


def test_publications_that_were_not_acknowledged_are_known_when_the_link_is_lost():
    session = opened(desired(), window=1)
    fates = []
    session.publish("a", b"under way", fates.append)
    session.publish("a", b"waits", fates.append)
    drain(session)
    session.lost()
    session.lost()
    assert len(fates) == 2
    assert all(fate is not None and "lost" in fate.reason for fate in fates)


def test_publications_are_bounded():
    session = opened(desired(), window=1, max_message=1024)
    fates = []
    session.publish("a", bytes(1024), fates.append)
    drain(session)
    assert fates[0].code == p.TOO_LARGE
    session.publish("a", b"", fates.append)
    drain(session)
    for _ in range(PUBLICATIONS_MAX):
        session.publish("a", b"", fates.append)
    assert len(fates) == 1
    session.publish("a", b"", fates.append)
    assert fates[1].code == p.STORAGE_FULL
    for topic in ("", "a/+", "#", "\0", "x" * 513, "good"):
        payload = bytes(1025) if topic == "good" else b""
        with pytest.raises(ValueError, match=r"topic|payload"):
            session.publish(topic, payload, fates.append)


def test_what_waits_for_the_board_is_counted():
    session = opened(desired(a="1", b="1"), window=1)
    assert session.waiting == 2  # one under way, one to be sent
    tell(session, p.ACK, 1)
    drain(session)
    tell(session, p.ACK, 2)
    assert session.waiting == 0
    session.publish("a/b", b"x", lambda refusal: None)
    assert session.waiting == 1
