"""The real server with a real WebSocket client, over real TLS where that is what matters."""

import asyncio
import logging
import ssl

import cbor2
import pytest
from board_client import client_context, identity_in, server_files, server_of, until
from bridge_world import Bridge
from certificates import Authority as AnyAuthority
from certificates import new_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from memory_backend import MemoryBackend, device, model
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from cloud_bridge import metrics
from cloud_bridge.backends.base import DEVICE, BackendError, Key
from cloud_bridge.cloudhub import server as server_module
from cloud_bridge.cloudhub.server import CloudHub, PublishError
from cloud_bridge.cloudhub.session import CLOSE_MALFORMED
from cloud_bridge.cloudhub.tls import server_context
from cloud_bridge.devicecontroller.controller import DeviceController
from cloud_bridge.identity.folder import at_once
from motelet import protocol as p
from motelet.tools.load.board import SimulatedBoard

RESOURCE = "default/device/lamp"


def scenario(function):
    """Run an async test with all logs of the bridge."""

    def run(caplog):
        caplog.set_level(logging.DEBUG, "cloud_bridge")
        asyncio.run(function(caplog))

    run.__name__ = function.__name__
    return run


def logged(caplog, text):
    return [each.pairs for each in caplog.records if text in each.getMessage()]


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    return identity_in(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def context(identity):
    return server_of(identity)


# -- over TLS ---------------------------------------------------------------------------------


def test_down_up_and_acknowledged_over_tls(identity, context):
    async def run():
        async with Bridge(context) as bridge:
            board = SimulatedBoard()
            async with bridge.board(board, context=client_context(identity, "board-1")) as client:
                await client.until(lambda: board.synced)
                assert list(board.flash) == [RESOURCE]
                tls = client.socket.transport.get_extra_info("ssl_object")
                assert tls.version() in ("TLSv1.2", "TLSv1.3")
                assert client.socket.protocol.extensions == []
                bridge.backend.hold = asyncio.Event()
                seq = board.report(RESOURCE, "level", 41, 5, "40")
                await client.flush()
                await until(lambda: bridge.link().session._intake._open)
                assert board.acked == 0
                bridge.backend.hold.set()
                await client.until(lambda: board.acked == seq)
                twins = bridge.backend.status[Key(DEVICE, "default", "lamp")]["twins"]
                assert twins[0]["reported"]["value"] == "41"
                bridge.backend.put(device(properties=[]))
                version = next(iter(bridge.controller.desired("board-1").items.values())).version
                await client.until(lambda: board.held == {RESOURCE: version})

    asyncio.run(run())


def test_the_node_is_that_of_the_certificate_whatever_the_board_says(identity, context):
    async def run():
        async with Bridge(context) as bridge:
            board = SimulatedBoard()
            async with bridge.board(board, context=client_context(identity, "board-2")) as client:
                board.out.clear()
                board.hello(node="board-1", name="system:node:board-1")
                await client.until(lambda: board.synced)
                assert bridge.hub.nodes == ["board-2"]
                assert board.flash == {}
                board.report(RESOURCE, "level", 41, 5)
                await client.until(lambda: board.nacks)
                assert board.nacks[1][0] == p.NOT_YOURS

    asyncio.run(run())


async def refused(bridge, context, **options):
    with pytest.raises((OSError, ConnectionClosed, InvalidHandshake)) as caught:
        async with bridge.board(context=context, **options) as client:
            await client.until(lambda: client.board.connected)
    return caught.value


def write_pair(folder, authority, key, name, **options):
    certificate = authority.issue(key, name, **options)
    (folder / "c.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "k.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "c.pem", folder / "k.pem"


def test_without_a_certificate_of_our_ca_nobody_gets_in(identity, context, tmp_path):
    async def run():
        async with Bridge(context) as bridge:
            nobody = client_context(identity, None)
            await refused(bridge, nobody)
            stranger = client_context(identity, None)
            stranger.load_cert_chain(
                *write_pair(tmp_path, AnyAuthority("other"), new_key("ec"), "system:node:board-1")
            )
            await refused(bridge, stranger)
            assert bridge.hub.nodes == []
            async with bridge.board(context=client_context(identity, "board-1")) as client:
                await client.until(lambda: client.board.synced)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("name", "days"),
    [
        ("system:node:board-1", -1),  # expired
        ("board-1", 1),
        ("system:node:", 1),
        ("system:node:../x", 1),
        ("system:node:board-1\n", 1),
        ("system:node:Board-1", 1),
        ("system:nodes:board-1", 1),
        ("admin", 1),
    ],
)
def test_a_certificate_that_names_no_node_or_is_over_gets_nobody_in(tmp_path, name, days):
    from certificates import DAY

    ca = AnyAuthority("ca")
    (tmp_path / "ca.der").write_bytes(ca.der)
    (tmp_path / "server").mkdir()
    pair = write_pair(tmp_path / "server", ca, new_key("ec"), "localhost", hosts=("localhost",))
    client = ssl.create_default_context(cadata=ca.der)
    client.load_cert_chain(*write_pair(tmp_path, ca, new_key("ec"), name, ends_in=days * DAY))

    async def run():
        async with Bridge(server_context(*pair, tmp_path / "ca.der")) as bridge:
            error = await refused(bridge, client)
            assert bridge.hub.nodes == []
            if isinstance(error, InvalidStatus):
                assert error.response.status_code == 403

    asyncio.run(run())


def test_tls_older_than_1_2_is_refused(identity, context):
    old = client_context(identity, "board-1")
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    old.maximum_version = ssl.TLSVersion.TLSv1_1

    async def run():
        async with Bridge(context) as bridge:
            await refused(bridge, old)

    asyncio.run(run())


def test_over_tls_the_path_names_no_node(identity, context):
    async def run():
        async with Bridge(context) as bridge:
            tls = client_context(identity, "board-1")
            for path in (f"{p.PATH}/board-2", "/", "/motelet/v2", f"{p.PATH}?x=1"):
                error = await refused(bridge, tls, path=path)
                assert error.response.status_code == 404

    asyncio.run(run())


def test_pem_and_der_of_every_form(identity, tmp_path):
    certificate, key, _ = server_files(identity)
    ca = AnyAuthority("ca")
    (tmp_path / "ca.der").write_bytes(ca.der)
    server_context(certificate, key, tmp_path / "ca.der")
    for kind in ("ec", "rsa"):
        private = new_key(kind)
        (tmp_path / "c.der").write_bytes(ca.issue(private, "localhost").public_bytes(Encoding.DER))
        for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
            (tmp_path / "k.der").write_bytes(private.private_bytes(Encoding.DER, form, NoEncryption()))
            server_context(tmp_path / "c.der", tmp_path / "k.der", tmp_path / "ca.der")


def test_files_that_are_no_certificates_are_named(identity, tmp_path):
    certificate, key, good_ca = server_files(identity)
    junk = tmp_path / "junk"
    junk.write_bytes(b"0\x03junk")
    other = tmp_path / "other.der"
    other.write_bytes(at_once(identity.create_pair("board-1"))[1])
    for cert, private in ((junk, key), (certificate, junk), (certificate, other), (key, key)):
        with pytest.raises(ValueError, match="not a certificate and its private key"):
            server_context(cert, private, good_ca)
    for content in (
        b"",
        b"junk",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN \xff",
    ):
        junk.write_bytes(content)
        with pytest.raises(ValueError, match="junk: not a certificate in PEM or DER"):
            server_context(certificate, key, junk)


# -- who gets in, plain -----------------------------------------------------------------------


@scenario
async def test_upgrades_that_are_refused(caplog):
    async with Bridge() as bridge:
        for path, status in (
            (p.PATH, 404),
            ("/", 404),
            (f"{p.PATH}/", 403),
            (f"{p.PATH}/Board", 403),
            (f"{p.PATH}/..", 403),
            (f"{p.PATH}/a/b", 404),
            (f"{p.PATH}/{'x' * 254}", 403),
        ):
            error = await refused(bridge, None, path=path)
            assert error.response.status_code == status, path
        error = await refused(bridge, None, origin="https://example.com")
        assert error.response.status_code == 403
        for offered in ([], ["mqtt"]):
            with pytest.raises(InvalidHandshake):
                await connect(
                    f"ws://localhost:{bridge.port}{p.PATH}/board-1", subprotocols=offered, proxy=None
                )
        assert bridge.hub.nodes == []


@scenario
async def test_a_log_line_cannot_be_made_by_a_peer(caplog):
    async with Bridge() as bridge:
        await refused(bridge, None, path=f"{p.PATH}/%0alevel=error%20node=x")
    assert all("\n" not in str(value) for each in caplog.records for value in each.pairs.values())


@scenario
async def test_no_more_boards_than_the_limit(caplog):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_module, "CONNECTIONS_MAX", 2)
        async with Bridge() as bridge, bridge.board(node="a") as a, bridge.board(node="b"):
            await until(lambda: len(bridge.hub.nodes) == 2)
            error = await refused(bridge, None, path=f"{p.PATH}/c")
            assert error.response.status_code == 503
            assert logged(caplog, "too many boards") == [{"node": "c", "limit": 2}]
            async with bridge.board(node="a") as again:  # takes the place of the one before
                await again.until(lambda: again.board.synced)
                assert await a.closed() == server_module.CLOSE_REPLACED


# -- sessions ---------------------------------------------------------------------------------


@scenario
async def test_a_node_that_connects_again_takes_over(caplog):
    async with Bridge() as bridge:
        first, second = SimulatedBoard(), SimulatedBoard()
        async with bridge.board(first) as one:
            await one.until(lambda: first.synced)
            async with bridge.board(second) as two:
                await two.until(lambda: second.synced)
                assert await one.closed() == server_module.CLOSE_REPLACED
                bridge.backend.put(device(properties=[]))
                version = next(iter(bridge.controller.desired("board-1").items.values())).version
                await two.until(lambda: second.held == {RESOURCE: version})
                assert bridge.hub.nodes == ["board-1"]
        await until(lambda: bridge.hub.nodes == [])
    assert logged(caplog, "connected again") == [{"node": "board-1"}]


@scenario
async def test_a_board_that_breaks_the_protocol_is_closed_and_others_go_on(caplog):
    async with Bridge() as bridge, bridge.board(node="good") as good:
        for data in (b"\xff", cbor2.dumps([99]), cbor2.dumps([p.ACK, 5]), "a text", b"\x81" * 1000):
            async with bridge.board() as bad:
                await bad.until(lambda bad=bad: bad.board.synced)
                await bad.socket.send(data)
                assert await bad.closed() == CLOSE_MALFORMED
        async with bridge.board() as bad:
            await bad.socket.send(bytes(p.MESSAGE_SIZE_MAX + 1))
            assert await bad.closed() == 1009
        await good.until(lambda: good.board.synced)
        assert bridge.hub.nodes == ["good"]


@scenario
async def test_no_common_version(caplog):
    async with Bridge() as bridge, bridge.board() as client:
        client.board.out.clear()
        client.board.send(p.HELLO, 7, 9, bytes(8), {})
        await client.until(lambda: client.board.log)
        assert client.board.log[0][:2] == [p.WELCOME, 0]
        assert await client.closed() == p.CLOSE_VERSION


@scenario
async def test_a_refusal_of_the_board_is_told_to_the_owner(caplog):
    async with Bridge() as bridge:
        board = SimulatedBoard()
        board.accept = lambda resource, content: (p.INVALID, "no such\nregister")
        async with bridge.board(board) as client:
            await client.until(lambda: board.synced)
        assert "no such" in str(bridge.backend.complaints[Key(DEVICE, "default", "lamp")][0])
    (line,) = logged(caplog, "board refused")
    assert (line["node"], line["resource"], line["code"]) == ("board-1", RESOURCE, p.INVALID)


@scenario
async def test_who_is_silent_is_cut_off_and_who_pings_is_not(caplog):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_module, "SILENCE_SECONDS", 0.5)
        patch.setattr(server_module, "SWEEP_SECONDS", 0.05)
        async with (
            Bridge() as bridge,
            bridge.board(node="pings") as pings,
            bridge.board(node="silent") as silent,
        ):
            await pings.until(lambda: pings.board.synced)
            closing = asyncio.create_task(silent.closed())
            while not closing.done():
                await pings.socket.ping()
                await asyncio.sleep(0.05)
            assert await closing == 1006
            await (await pings.socket.ping())
            assert bridge.hub.nodes == ["pings"]
    assert [each["node"] for each in logged(caplog, "board is silent")] == ["silent"]


@scenario
async def test_boards_are_told_the_time_now_and_then(caplog):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_module, "TIME_SECONDS", 0.05)
        patch.setattr(server_module, "SWEEP_SECONDS", 0.02)
        async with Bridge() as bridge, bridge.board() as client:
            await client.until(lambda: client.board.kinds().count(p.TIME) == 3)


@scenario
async def test_who_does_not_read_is_not_heard_and_costs_no_memory(caplog):
    async with Bridge() as bridge:
        big = "x" * 400
        listed = [{"name": "power", "visitors": {"configData": {f"k{i}": big for i in range(30)}}}]
        bridge.backend.put(device(properties=listed))
        board = SimulatedBoard()
        async with bridge.board(board, write_limit=1024) as client:
            await client.until(lambda: p.PUTBLOB in board.kinds())
            sha = next(m for m in board.log if m[0] == p.PUTBLOB)[-1]
            request = cbor2.dumps([p.BLOBGET, sha, 0, p.CHUNK_SIZE_MAX])
            count = 8000

            async def ask():
                for _ in range(count):
                    await client.socket.send(request)

            asking = asyncio.create_task(ask())
            transport = bridge.link().connection.transport
            await until(lambda: transport.get_write_buffer_size() > server_module.WRITE_BYTES_MAX)
            for _ in range(50):
                await asyncio.sleep(0.002)
                assert transport.get_write_buffer_size() < server_module.WRITE_BYTES_MAX + 2 * 4096
                assert len(bridge.link().session._output) <= 2
            answers = 0
            while answers < count:
                answers += cbor2.loads(await client.socket.recv())[0] == p.BLOB
            await asking


@scenario
async def test_a_fault_of_ours_ends_one_connection_and_is_told(caplog):
    async with Bridge() as bridge, bridge.board(node="good") as good, bridge.board() as client:
        await client.until(lambda: client.board.synced)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bridge.controller, "take", lambda *_: 1 / 0)
            client.board.report(RESOURCE, "level", 1, 1)
            await client.flush()
            assert await client.closed() == 1011
        await good.until(lambda: good.board.synced)
    (failed,) = logged(caplog, "session failed")
    assert "ZeroDivisionError" in failed["error"]


@scenario
async def test_the_bridge_says_so_when_it_stops(caplog):
    async with Bridge() as bridge, bridge.board() as client:
        await client.until(lambda: client.board.synced)
        stopping = asyncio.create_task(bridge.hub.stop())
        assert await client.closed() == server_module.CLOSE_GOING_AWAY
        await stopping
        with pytest.raises(OSError, match="Connect call failed|Multiple exceptions"):
            async with bridge.board():
                pass


@scenario
async def test_a_connection_that_is_cut_leaves_nothing_behind(caplog):
    async with Bridge() as bridge:
        async with bridge.board() as client:
            await client.until(lambda: client.board.synced)
            bridge.backend.hold = asyncio.Event()
            client.board.report(RESOURCE, "level", 1, 1)
            await client.flush()
            link = bridge.link()
            await until(lambda: link.session._intake._open)
            client.socket.transport.abort()
            await until(lambda: bridge.hub.nodes == [])
            bridge.backend.hold.set()  # its acknowledgement has nobody to go to any more
            await until(lambda: not link.session._intake._open)
        bridge.backend.put(device(properties=[]))
        async with bridge.board(client.board) as again:
            await again.until(lambda: again.board.synced)
            assert p.LIST in again.board.kinds()


def test_stopping_what_was_never_started():
    backend = MemoryBackend()
    asyncio.run(CloudHub(DeviceController(backend), backend.nodes, None).stop())


@scenario
async def test_a_thousand_changes_in_a_row_end_with_the_last(caplog):
    async with Bridge() as bridge, bridge.board() as client:
        for cycle in range(1000):
            bridge.backend.put(device(properties=[{"name": "level", "collectCycle": cycle + 1}]))
            if cycle % 100 == 0:
                await asyncio.sleep(0)
        version = next(iter(bridge.controller.desired("board-1").items.values())).version
        await client.until(lambda: client.board.held == {RESOURCE: version})
        assert client.board.kinds().count(p.PUT) < 100


# -- boards as nodes ----------------------------------------------------------------------------


def test_the_backend_is_told_of_a_board():
    async def run():
        async with Bridge() as bridge:
            nodes = bridge.backend.nodes
            before = server_module.epoch_ms()
            async with bridge.board() as board:
                await board.until(lambda: board.board.synced and "board-1" in nodes.heard_ms)
                info, address, _ = nodes.connected["board-1"]
                assert info["window"] == 8 and address in ("127.0.0.1", "::1")
                seq = board.board.node(heap=4096, heap_free=1000, uploads_dropped=7)
                await board.until(lambda: board.board.acked == seq)
                assert nodes.said == {"board-1": {"heap": 4096, "heap_free": 1000, "uploads_dropped": 7}}
                assert metrics.uploads_dropped.labels("board-1")._value.get() == 7
                # A ping is a sign of life as good as any.
                nodes.heard_ms.clear()
                await board.socket.ping()
                await until(lambda: "board-1" in nodes.heard_ms)
                assert before <= nodes.heard_ms["board-1"] <= server_module.epoch_ms()
            await until(lambda: not nodes.connected)

    asyncio.run(run())


def test_nothing_is_sent_before_the_backend_lets_the_bridge_serve():
    async def run():
        async with Bridge() as bridge:
            nodes = bridge.backend.nodes
            nodes.hold = asyncio.Event()
            async with bridge.board() as board:
                await board.flush()
                await until(lambda: "board-1" in bridge.hub._links)
                bridge.backend.put(device(), model())
                bridge.link().refresh()
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await board.socket.recv()
                assert not nodes.heard_ms
                nodes.hold.set()
                await board.until(lambda: board.board.synced)

    asyncio.run(run())


@scenario
async def test_a_board_that_may_not_be_served_is_sent_away(caplog):
    async with Bridge() as bridge:
        nodes = bridge.backend.nodes
        nodes.refuse = BackendError("bridge b holds it")
        async with bridge.board() as board:
            await board.flush()
            assert await board.closed() == server_module.CLOSE_NOT_SERVED
            assert board.socket.close_reason == "bridge b holds it"
        assert not board.board.log
        assert not logged(caplog, "board said hello")
        nodes.refuse, nodes.hold = None, asyncio.Event()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(server_module, "CLAIM_SECONDS", 0.05)
            async with bridge.board() as board:
                await board.flush()
                assert await board.closed() == server_module.CLOSE_NOT_SERVED


def test_a_session_that_is_lost_to_another_bridge_ends():
    async def run():
        async with Bridge() as bridge:
            nodes = bridge.backend.nodes
            async with bridge.board() as board:
                await board.until(lambda: board.board.synced)
                _, _, drop = nodes.connected["board-1"]
                drop("bridge b has it now")
                assert await board.closed() == server_module.CLOSE_NOT_SERVED
                assert board.socket.close_reason == "bridge b has it now"
            await until(lambda: not nodes.connected)

    asyncio.run(run())


def test_a_newer_connection_stays_connected_when_the_older_one_ends():
    async def run():
        async with Bridge() as bridge:
            nodes = bridge.backend.nodes
            async with bridge.board() as old:
                await old.until(lambda: old.board.synced)
                async with bridge.board() as new:
                    await new.until(lambda: new.board.synced)
                    assert await old.closed() == server_module.CLOSE_REPLACED
                    assert "board-1" in nodes.connected

    asyncio.run(run())


@scenario
async def test_a_message_is_published_at_the_edge_or_who_sent_it_knows(caplog):
    async with Bridge() as bridge:
        with pytest.raises(PublishError, match="not connected"):
            await bridge.hub.publish("board-1", "a/b", b"x")
        board = SimulatedBoard()
        async with bridge.board(board) as client:
            await client.until(lambda: board.synced)
            for topic in ("a/b", "refuse/this", "c"):
                sent = asyncio.create_task(bridge.hub.publish("board-1", topic, b"\0x"))
                await client.until(sent.done)
                error = sent.exception()
                assert (error is None) == (topic != "refuse/this"), topic
                assert error is None or "no EventBus" in str(error)
            assert board.published == [("a/b", b"\0x"), ("c", b"\0x")]
            with pytest.raises(ValueError, match="cannot be published"):
                await bridge.hub.publish("board-1", "a/#", b"x")
            given_up = asyncio.create_task(bridge.hub.publish("board-1", "a/b", b"nobody waits"))
            lost = asyncio.create_task(bridge.hub.publish("board-1", "a/b", b"nobody reads"))
            await asyncio.sleep(0)
            given_up.cancel()
        with pytest.raises(PublishError, match="lost"):
            await lost
