"""The boards of a load: a bridge that loses, doubles or invents something is found out."""

import asyncio
import resource

import cbor2
import pytest
from websockets.asyncio.server import ServerConnection, serve

from motelet import protocol as p
from motelet.tools.cli import UserError
from motelet.tools.load import run as run_module
from motelet.tools.load.client import BoardClient
from motelet.tools.load.fleet import SAMPLES_MAX, Fleet, Goal, Tally
from motelet.tools.load.run import Reporting, load, need_files

LAMP = "default/device/lamp"
DEVICE = {"protocol": {}, "properties": [{"name": name, "type": "INT"} for name in "abc"]}
GREETING = [[p.WELCOME, 1, 0, 2], [p.PUT, 1, LAMP, "v", cbor2.dumps(DEVICE)], [p.SYNCED]]


class Bridge:
    """Says GREETING and takes reports; `answers` makes the answer to a report of its number."""

    def __init__(self, answers, greeting=GREETING) -> None:
        self.answers = answers
        self.greeting = greeting
        self.reports: list[list[object]] = []

    async def serve(self, connection: ServerConnection) -> None:
        async for data in connection:
            message = cbor2.loads(data)
            replies = self.greeting if message[0] == p.HELLO else []
            if message[0] == p.REPORT:
                self.reports.append(message)
                replies = self.answers(message[1])
            for each in replies:
                await connection.send(cbor2.dumps(each))

    def load(self, seconds: float = 0.2, nodes: int = 1) -> dict[str, float]:
        """Put a load on it; -> the figures."""
        figures = {}

        async def run() -> None:
            server = await serve(self.serve, "127.0.0.1", 0, subprotocols=[p.SUBPROTOCOL])
            port = server.sockets[0].getsockname()[1]
            names = [f"board-{number}" for number in range(nodes)]
            fleet = Fleet(names, lambda _, board: BoardClient(board, port, host="127.0.0.1"))
            try:
                await load(fleet, None, Reporting(0, seconds), lambda each: figures.update({each.name: each}))
            finally:
                server.close()
                await server.wait_closed()

        asyncio.run(run())
        return {name: figure.value for name, figure in figures.items()}


def test_each_property_has_one_report_under_way_and_the_window_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_module, "FIRST_SECONDS_MAX", 0.4)
    open_reports: list[int] = []

    def answers(seq: int) -> list[list[object]]:
        open_reports.append(seq)
        if len(open_reports) < 2:
            return []
        assert len(open_reports) == 2  # the window of GREETING
        del open_reports[:]
        return [[p.ACK, seq]]

    bridge = Bridge(answers)
    with pytest.raises(UserError, match="1 of 3 properties were not acknowledged within 0 s"):
        bridge.load()
    assert [each[1] for each in bridge.reports] == [1, 2, 3]
    assert len({each[2] for each in bridge.reports}) == 3


def test_what_is_acknowledged_is_counted_once() -> None:
    bridge = Bridge(lambda seq: [[p.ACK, seq]])
    figures = bridge.load(nodes=2)
    counted = figures["load.reports_per_s"] * 0.2 + 6
    assert 0 < counted <= len(bridge.reports)


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        (lambda seq: [[p.ACK, seq], [p.ACK, seq]], "ACK of 1 after 1"),
        (lambda seq: [[p.ACK, seq + 1]], "ACK of 2 after 0 of 1"),
        (lambda seq: [[p.PUT, 9, LAMP, "v", b"\xa0"]], "message 9 after 1"),
        (lambda seq: [[99]], "a message of the kind 99"),
    ],
)
def test_a_bridge_that_breaks_the_protocol_ends_the_load(answers, text: str) -> None:
    bridge = Bridge(answers, [[p.WELCOME, 1, 0, 1], *GREETING[1:]])
    with pytest.raises(UserError, match=f"board-0: the bridge sent {text}"):
        bridge.load()


def test_refused_reports_are_no_success() -> None:
    first = set(range(1, 4))

    def answers(seq: int) -> list[list[object]]:
        refusal = [] if seq in first else [[p.NACK, seq, p.INVALID, "too cold"]]
        return [*refusal, [p.ACK, seq]]

    with pytest.raises(UserError, match=r"reports were refused; board-0: too cold"):
        Bridge(answers).load()


def test_a_bridge_that_never_says_synced_is_waited_for_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "CONNECT_SECONDS_MAX", 0.3)
    with pytest.raises(UserError, match="1 of 1 boards are not in step within 0 s, such as board-0"):
        Bridge(lambda seq: [], GREETING[:1]).load()


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "CONNECT_SECONDS_MAX", 0.3)
    fleet = Fleet(["board-0"], lambda _, board: BoardClient(board, 1, host="127.0.0.1"))
    with pytest.raises(UserError, match=r"such as board-0; board-0: .*Connect call failed"):
        asyncio.run(load(fleet, None, Reporting(0, 1), lambda _: None))


def test_latencies_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motelet.tools.load.fleet.SAMPLES_MAX", 10)
    tally = Tally()
    for number in range(1000):
        tally.take(number)
    assert (tally.acked, len(tally.latencies)) == (1000, 10)
    assert max(tally.latencies) > 10  # the newer have their chance
    assert SAMPLES_MAX > 10


def test_a_goal_names_what_is_missing() -> None:
    async def run() -> None:
        goal = Goal("lamps are out", ["a", "b", "c", "d", "e"])
        goal.reach("a")
        goal.reach("a")
        with pytest.raises(UserError, match="4 of 5 lamps are out within 0 s, such as b, c, d; dark"):
            await goal.wait(0.01, lambda: "; dark")

    asyncio.run(run())


def test_too_many_connections_for_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 256))
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    need_files(100)
    assert asked == [(200, 256)]
    with pytest.raises(UserError, match=r"1000 boards need 1100 open files, the system allows 256"):
        need_files(1000)
