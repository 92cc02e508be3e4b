"""The enrolment server over real TLS: what it gives to whom, and what it takes from nobody."""

import asyncio
import logging
import re
import ssl
from contextlib import suppress

import pytest
from board_client import identity_in
from certificates import new_key
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from cloud_bridge import gate
from cloud_bridge.cloudhub.tls import context_of
from cloud_bridge.identity import enrolment as enrolment_module
from cloud_bridge.identity.enrolment import Enrolment, Head, HttpError, parse_head
from cloud_bridge.identity.folder import at_once
from cloud_bridge.logs import Logfmt

NODE = "board-1"
SECONDS_MAX = 90


def request_for(key, node=NODE):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{node}")])
    builder = x509.CertificateSigningRequestBuilder(subject)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


class Server:
    def __init__(self, folder):
        self.identity = identity_in(folder)
        self.context = context_of(at_once(self.identity.server(["localhost"])), None)
        self.enrolment = Enrolment(self.identity, self.context)
        self.client = ssl.create_default_context(cadata=self.identity.authority.der)

    async def __aenter__(self):
        self.port = await self.enrolment.start("localhost", 0)
        return self

    async def __aexit__(self, *_):
        await self.enrolment.stop()

    async def connect(self):
        return await asyncio.open_connection("localhost", self.port, ssl=self.client)

    async def send(self, data):
        """-> the whole answer to these bytes, which may be none."""
        async with asyncio.timeout(SECONDS_MAX):
            reader, writer = await self.connect()
            writer.write(data)
            answer = await reader.read()
            writer.close()
            return answer

    async def ask(self, line, body=b"", **headers):
        """-> (status, body)"""
        lines = [
            line,
            f"Content-Length: {len(body)}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        answer = await self.send("\r\n".join([*lines, "\r\n"]).encode() + body)
        head, _, content = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), content

    def token(self, node=NODE, ttl=60, reusable=False):
        return at_once(self.identity.create_token(node, ttl, reusable)).partition(".")[2]

    async def join(self, token, request, node=NODE, method="GET"):
        headers = {"NodeName": node, "Authorization": f"Bearer {token}"}
        return await self.ask(f"{method} /edge.crt HTTP/1.1", request, **headers)


@pytest.fixture
def run(tmp_path, caplog):
    caplog.set_level(logging.DEBUG, "cloud_bridge")

    def start(scenario):
        async def whole():
            async with Server(tmp_path / "state") as server:
                await scenario(server)

        asyncio.run(whole())

    return start


def logged(caplog, text):
    return [each.pairs for each in caplog.records if text in each.getMessage()]


def test_a_board_gets_the_ca_and_its_certificate(run, caplog):
    async def scenario(server):
        assert await server.ask("GET /ca.crt HTTP/1.1") == (200, server.identity.authority.der)
        for method in ("GET", "POST"):
            key = new_key("ec")
            status, der = await server.join(server.token(), request_for(key), method=method)
            certificate = x509.load_der_x509_certificate(der)
            assert status == 200 and certificate.public_key() == key.public_key()
            assert f"{certificate.serial_number:x}" in [
                each.serial for each in server.identity.registry.issued()
            ]

    run(scenario)
    assert [each["node"] for each in logged(caplog, "board enrolled")] == [NODE, NODE]


def test_a_replayed_token(run, caplog):
    async def scenario(server):
        token, request = server.token(), request_for(new_key("ec"))
        assert (await server.join(token, request))[0] == 200
        assert (await server.join(token, request))[0] == 200  # the same key: the board lost the first answer
        assert await server.join(token, request_for(new_key("ec"))) == (401, b"the token is not good\n")

    run(scenario)
    assert [str(each["error"]) for each in logged(caplog, "token refused")] == [
        "used before, for another key"
    ]


def test_tokens_that_are_not_good_are_told_apart_in_the_log_only(run, caplog, tmp_path):
    async def scenario(server):
        request = request_for(new_key("ec"))
        other = at_once(identity_in(tmp_path / "other").create_token(NODE, 60, False)).partition(".")[2]
        revoked = server.token()
        await server.identity.registry.revoke_token(server.identity.registry.tokens()[0].id)
        for token in (other, revoked, "", "a.b.c", server.token("board-2"), server.token()[:-3]):
            assert await server.join(token, request) == (401, b"the token is not good\n")
        for value in ("Basic abc", f"bearer {server.token()}", ""):
            status, _ = await server.ask(
                "GET /edge.crt HTTP/1.1", request, NodeName=NODE, Authorization=value
            )
            assert status == 401

    run(scenario)
    errors = [str(each["error"]) for each in logged(caplog, "token refused")]
    assert errors[:5] == [
        "signature of another installation",
        "revoked",
        "not a JWT",
        "not base64url",
        "token of the node board-2",
    ]


def test_a_request_that_cannot_be_signed_spends_no_token(run):
    async def scenario(server):
        token, good = server.token(), request_for(new_key("ec"))
        for bad in (b"", good[:-1], request_for(new_key("ec"), "board-2"), request_for(new_key("rsa"))):
            assert (await server.join(token, bad))[0] == 400
        assert (await server.join(token, good))[0] == 200

    run(scenario)


def test_node_names_that_are_none(run):
    async def scenario(server):
        request = request_for(new_key("ec"))
        for node in ("", "..", "../../etc/passwd", "Board-1", "a/b", "n" * 300, "x%0a", "-"):
            assert (await server.join(server.token(), request, node=node))[0] == 401, node

    run(scenario)


def test_a_log_line_cannot_be_made_by_a_stranger(run, caplog):
    async def scenario(server):
        await server.join("a\x1b[31m.b.c", b"", node="x level=error\x1b]0;")
        await server.send(b"GET /\xff\nlevel=error HTTP/1.1\r\n\r\n")

    run(scenario)
    lines = [Logfmt().format(each) for each in caplog.records]
    assert lines and all(line.isprintable() for line in lines)
    for line in lines:
        keys = re.findall(r'(\w+)=(?:"(?:[^"\\]|\\.)*"|[^\s"]+)', line)
        assert keys.count("level") == 1, line


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /ca.crt/../x HTTP/1.1\r\n\r\n", 404),
        (b"POST /ca.crt HTTP/1.1\r\n\r\n", 405),
        (b"DELETE /edge.crt HTTP/1.1\r\n\r\n", 405),
        (b"GET /ca.crt HTTP/2\r\n\r\n", 400),
        (b"GET /ca.crt\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET /ca.crt HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /ca.crt HTTP/1.1\r\nA: 1\r\na: 2\r\n\r\n", 400),
        (b"GET /ca.crt HTTP/1.1\r\nContent-Length: 5\r\ncontent-length: 0\r\n\r\n", 400),
        (b"GET /ca.crt HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"POST /edge.crt HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 411),
        (b"POST /edge.crt HTTP/1.1\r\nContent-Length: 1e9\r\n\r\n", 411),
        (b"POST /edge.crt HTTP/1.1\r\nContent-Length: 9999999999999999999\r\n\r\n", 411),
        (b"POST /edge.crt HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n", 413),
        (b"POST /edge.crt HTTP/1.1\r\nContent-Length: 2049\r\n\r\n", 413),
        (b"GET /ca.crt HTTP/1.1\r\nX: " + b"x" * 4096 + b"\r\n\r\n", 431),
        (b"x" * 100000, 431),
    ],
)
def test_what_is_no_request(run, data, status):
    async def scenario(server):
        assert int((await server.send(data)).split()[1]) == status

    run(scenario)


def test_heads():
    assert parse_head(b"GET /x HTTP/1.0\r\nA:  b \r\n\r\n") == Head("GET", "/x", {"a": "b"})
    with pytest.raises(HttpError):
        parse_head(b"GET /\xc3\xa4 HTTP/1.1\r\n\r\n")


# -- limits -------------------------------------------------------------------------------------


def test_who_writes_slowly_or_less_than_was_said_is_dropped(run, monkeypatch, caplog):
    monkeypatch.setattr(enrolment_module, "REQUEST_SECONDS", 0.3)

    async def scenario(server):
        for start in (b"", b"GET /ca.crt HT", b"POST /edge.crt HTTP/1.1\r\nContent-Length: 2000\r\n\r\nx"):
            assert await server.send(start) == b""
        assert (await server.ask("GET /ca.crt HTTP/1.1"))[0] == 200

    run(scenario)
    assert len(logged(caplog, "connection dropped")) == 3


def test_who_never_begins_tls_is_dropped(run, monkeypatch):
    monkeypatch.setattr(enrolment_module, "HANDSHAKE_SECONDS", 0.3)

    async def scenario(server):
        async with asyncio.timeout(SECONDS_MAX):
            reader, writer = await asyncio.open_connection("localhost", server.port)
            assert await reader.read() == b""
            writer.close()

    run(scenario)


def test_no_more_connections_than_the_limit(run, monkeypatch, caplog):
    monkeypatch.setattr(enrolment_module, "CONNECTIONS_MAX", 2)

    async def scenario(server):
        held = [await server.connect() for _ in range(2)]
        while len(server.enrolment._open) < 2:
            await asyncio.sleep(0.01)
        with suppress(OSError):  # whether it is a reset or just the end is a matter of timing
            assert await server.send(b"GET /ca.crt HTTP/1.1\r\n\r\n") == b""
        held[0][1].close()
        while len(server.enrolment._open) == 2:
            await asyncio.sleep(0.01)
        assert (await server.ask("GET /ca.crt HTTP/1.1"))[0] == 200
        held[1][1].close()

    run(scenario)
    assert logged(caplog, "too many")[0]["limit"] == 2


def test_no_more_connections_a_second_than_the_limit(run, monkeypatch, caplog):
    monkeypatch.setattr(gate, "CONNECTIONS_PER_SECOND", 0.001)
    monkeypatch.setattr(gate, "CONNECTIONS_BURST", 3)

    async def scenario(server):
        for _ in range(3):
            assert (await server.ask("GET /ca.crt HTTP/1.1"))[0] == 200
        for _ in range(3):
            with pytest.raises(OSError):
                await server.connect()

    run(scenario)
    (line,) = logged(caplog, "connection dropped")
    assert line["why"] == "too many connections a second" and line["dropped"] == 1


def test_of_too_many_handshakes_the_oldest_goes(run, monkeypatch, caplog):
    monkeypatch.setattr(gate, "HANDSHAKES_MAX", 3)

    async def scenario(server):
        slow = [await asyncio.open_connection("localhost", server.port) for _ in range(5)]
        async with asyncio.timeout(SECONDS_MAX):
            assert (await server.ask("GET /ca.crt HTTP/1.1"))[0] == 200
            for reader, _ in slow[:3]:
                assert await reader.read() == b""
        for _ in range(10):  # those that are over count no more
            assert (await server.ask("GET /ca.crt HTTP/1.1"))[0] == 200
        assert not slow[4][0].at_eof()
        for _, writer in slow:
            writer.close()

    run(scenario)
    assert logged(caplog, "connection dropped")[0]["why"] == "too many handshakes at a time"


def test_an_allowance():
    now = [0.0]
    allowance = gate.Allowance(10, 2, lambda: now[0])
    assert [allowance.take() for _ in range(3)] == [True, True, False]
    now[0] = 0.1
    assert [allowance.take() for _ in range(2)] == [True, False]
    assert allowance.owe(5) == pytest.approx(0.5)
    now[0] = 100.0
    assert allowance.owe(2) == 0 and not allowance.take()
