"""CloudHub with a guard: who gets in, what a board may touch, and what a peer can make grow."""

import asyncio
import logging
from asyncio import sslproto

import cbor2
import pytest
from board_client import BoardClient, client_context, identity_in, server_of, until
from bridge_world import Bridge
from memory_backend import device
from websockets.exceptions import InvalidStatus

from cloud_bridge import gate
from cloud_bridge.backends.base import DEVICE, NODE, Key
from cloud_bridge.cloudhub import server as server_module
from cloud_bridge.cloudhub import tls as tls_module
from cloud_bridge.cloudhub.session import CLOSE_MALFORMED, Session
from cloud_bridge.cloudhub.tls import certificate_peer
from cloud_bridge.peer import Peer, RequestError
from motelet import protocol as p
from motelet.tools.load.board import SimulatedBoard

MINE, THEIRS = "default/device/lamp", "default/device/other"
OTHERS = [device("other", nodeName="board-2")]


class Guard:
    """Says what a test wants of certificates."""

    def __init__(self):
        self.refused = {}
        self.seen = []
        self.due = False
        self.requests = []

    def refresh(self):
        return False

    def refusal(self, peer):
        return self.refused.get(peer.node)

    async def connected(self, peer):
        self.seen.append(peer)

    def renewal_due(self, peer):
        return self.due

    async def renew(self, node, request):
        if request == b"bad":
            raise RequestError("not a request in DER")
        self.requests.append((node, request))
        return Peer(node, "ff", 0, 1), b"a new certificate"


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    return identity_in(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def context(identity):
    return server_of(identity)


@pytest.fixture
def connected(identity, context, monkeypatch, caplog):
    """Runs a scenario with a bridge and board-1, in step, over TLS."""
    monkeypatch.setattr(server_module, "SWEEP_SECONDS", 0.05)
    caplog.set_level(logging.DEBUG, "cloud_bridge")

    def run(scenario, **info):
        async def whole():
            async with Bridge(context, Guard(), OTHERS) as bridge:
                board = SimulatedBoard()
                async with BoardClient(board, bridge.port, client_context(identity, "board-1")) as client:
                    board.out.clear()
                    board.hello(**info)
                    await client.until(lambda: board.synced)
                    await scenario(bridge, board, client)

        asyncio.run(whole())

    return run


# -- authorisation: each direction, each kind of resource -----------------------------------------


def test_down_a_board_gets_its_own_devices_and_none_else(connected):
    async def scenario(bridge, board, client):
        assert list(board.flash) == [MINE]
        bridge.backend.put(device("other", nodeName="board-2", properties=[]))
        bridge.backend.put(device(properties=[]))
        version = next(iter(bridge.controller.desired("board-1").items.values())).version
        await client.until(lambda: board.held == {MINE: version})
        assert not any(THEIRS in str(message) for message in board.log)

    connected(scenario)


def test_down_what_a_board_claims_to_hold_of_others_tells_it_nothing(connected):
    async def scenario(bridge, board, client):
        board.send(p.HAVE, False, {THEIRS: "1"})
        await client.flush()
        assert await client.closed() == CLOSE_MALFORMED

    connected(scenario)


def test_down_a_blob_of_another_board_is_no_blob(connected):
    from hashlib import sha256

    async def scenario(bridge, board, client):
        (content,) = bridge.controller.desired("board-2").items.values()
        await client.socket.send(cbor2.dumps([p.BLOBGET, sha256(content.data).digest(), 0, 2048]))
        answer = cbor2.loads(await client.socket.recv())
        assert (answer[0], answer[3], answer[4]) == (p.BLOB, 0, b"")

    connected(scenario)


@pytest.mark.parametrize(
    "resource",
    [THEIRS, "default/device/none", "default/device/../device/other", "default/configmap/c", "other", "/"],
)
def test_up_reports_and_states_of_others_are_refused_alike(connected, resource):
    async def scenario(bridge, board, client):
        first = board.report(resource, "level", 1, 5)
        second = board.state(resource, "offline", 5, "")
        await client.until(lambda: len(board.nacks) == 2)
        for seq in (first, second):
            code, reason = board.nacks[seq]
            assert code == p.NOT_YOURS and reason == f"{resource} is not a device of this node"
        assert Key(DEVICE, "default", "other") not in bridge.backend.status

    connected(scenario)


def test_up_an_event_is_the_nodes_that_sent_it_whatever_it_says(connected):
    async def scenario(bridge, board, client):
        board.event("$hw/events/node/board-2/membership/updated", b'{"node": "board-2"}')
        await client.until(lambda: bridge.backend.events)
        assert bridge.backend.events[0].node == "board-1"

    connected(scenario)


def test_up_a_certificate_that_was_not_offered_is_not_signed(connected):
    async def scenario(bridge, board, client):
        board.send(p.CSR, b"x")
        await client.flush()
        assert await client.closed() == CLOSE_MALFORMED
        assert not bridge.guard.requests

    connected(scenario, renew=True)


# -- certificates of live sessions ----------------------------------------------------------------


def test_a_session_ends_when_its_certificate_counts_no_more(connected, caplog):
    async def scenario(bridge, board, client):
        assert [peer.node for peer in bridge.guard.seen] == ["board-1"]
        bridge.guard.refused["board-1"] = "revoked"
        assert await client.closed() == server_module.CLOSE_CERTIFICATE
        await until(lambda: bridge.hub.nodes == [])

    connected(scenario)
    (line,) = [each for each in caplog.records if "session ended" in each.getMessage()]
    assert line.pairs["error"] == "revoked" and line.pairs["node"] == "board-1"


def renewal(bridge, board):
    return [message for message in board.log if message[0] in (p.RENEW, p.CERTIFICATE)]


def test_a_renewal_is_asked_for_once_and_answered_once(connected):
    async def scenario(bridge, board, client):
        bridge.guard.due = True
        await client.until(lambda: renewal(bridge, board))
        board.send(p.CSR, b"a request")
        await client.until(lambda: len(renewal(bridge, board)) == 2)
        assert renewal(bridge, board) == [[p.RENEW], [p.CERTIFICATE, b"a new certificate"]]
        assert bridge.guard.requests == [("board-1", b"a request")]
        board.send(p.CSR, b"another")
        await client.flush()
        assert await client.closed() == CLOSE_MALFORMED
        assert len(bridge.guard.requests) == 1

    connected(scenario, renew=True)


def test_a_request_that_cannot_be_signed_ends_the_session(connected):
    async def scenario(bridge, board, client):
        bridge.guard.due = True
        await client.until(lambda: renewal(bridge, board))
        board.send(p.CSR, b"bad")
        await client.flush()
        assert await client.closed() == CLOSE_MALFORMED

    connected(scenario, renew=True)


def test_a_board_that_cannot_renew_is_not_asked():
    session = Session(lambda: 0)
    assert not session.renew()
    session.receive(cbor2.dumps([p.HELLO, 1, 1, bytes(8), {}]))
    assert not session.renew()


def test_a_certificate_as_ssl_shows_it():
    shown = {
        "subject": ((("commonName", "system:node:board-1"),),),
        "serialNumber": "00AB",
        "notBefore": "Jan  1 00:00:00 2000 GMT",
        "notAfter": "Jan  1 00:00:10 2000 GMT",
    }
    assert certificate_peer(shown) == Peer("board-1", "ab", 946684800, 946684810)
    assert certificate_peer({}) is None


# -- limits ---------------------------------------------------------------------------------------


def test_tls_of_a_connection_has_a_bounded_buffer(connected):
    async def scenario(bridge, board, client):
        transport = bridge.hub._links["board-1"].connection.transport
        assert len(transport._ssl_protocol._ssl_buffer) == tls_module.READ_BUFFER_SIZE

    connected(scenario)
    assert sslproto.SSLProtocol.max_size == tls_module.READ_BUFFER_SIZE


def test_of_two_boards_with_one_name_the_newer_certificate_wins_and_an_event_says_so(identity, context):
    older, newer = (client_context(identity, "board-1") for _ in range(2))

    async def run():
        async with Bridge(context, Guard(), OTHERS) as bridge:
            async with BoardClient(SimulatedBoard(), bridge.port, older) as first:
                await first.until(lambda: first.board.synced)
                async with BoardClient(SimulatedBoard(), bridge.port, newer) as second:
                    await second.until(lambda: second.board.synced)
                    assert await first.closed() == server_module.CLOSE_REPLACED
                    with pytest.raises(InvalidStatus) as refused:
                        async with BoardClient(SimulatedBoard(), bridge.port, older):
                            pass
                    assert refused.value.response.status_code == 403
            return bridge.backend.told

    told = asyncio.run(run())
    assert [(key, reason, warning) for key, reason, _, warning in told] == [
        (Key(NODE, "", "board-1"), "TwoCertificates", True)
    ] * 2
    assert "is connected now" in told[0][2] and "stays connected" in told[1][2]


def test_who_sends_more_than_its_share_waits_and_loses_nothing(connected, monkeypatch):
    rate, burst = 10**6, 100
    sizes, naps = [], []
    sleep = asyncio.sleep

    async def scenario(bridge, board, client):
        link = bridge.hub._links["board-1"]
        link._allowance = gate.Allowance(rate, burst, lambda: 0.0)
        owe = link._allowance.owe
        link._allowance.owe = lambda count: sizes.append(count) or owe(count)
        monkeypatch.setattr(
            server_module.asyncio, "sleep", lambda seconds: naps.append(seconds) or sleep(seconds)
        )
        last = [board.report(MINE, "level", number, 5) for number in range(8)][-1]
        await client.until(lambda: board.acked == last)

    connected(scenario)
    assert len(sizes) >= 8 and all(size > server_module.MESSAGE_COST for size in sizes)
    # On a clock that stands still nothing is given back: each message waits for all before it.
    owed = [max(0.0, (sum(sizes[: at + 1]) - burst) / rate) for at in range(len(sizes))]
    assert owed[-1] > 0 and [each for each in naps if each in owed] == [each for each in owed if each]


def test_who_pings_and_never_reads_is_cut_off(connected, monkeypatch, caplog):
    monkeypatch.setattr(server_module, "CONTROL_BYTES_MAX", 0)

    async def scenario(bridge, board, client):
        transport = bridge.hub._links["board-1"].connection.transport
        monkeypatch.setattr(type(transport), "get_write_buffer_size", lambda self: 1)
        await client.socket.ping()
        assert await client.closed() == 1006

    connected(scenario)
    assert any("reads nothing" in each.getMessage() for each in caplog.records)
