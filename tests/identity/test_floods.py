"""Strangers who come in numbers, write slowly or lie about lengths: what they cost a real bridge in memory.

Linux tells how much memory the process has; an honest board joins while all of it goes on.
"""

import socket
import ssl
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from installation import HOST, installation

from cloud_bridge import gate
from cloud_bridge.identity import enrolment

NODE = "board-1"
ATTEMPTS = 2000
GROWTH_MAX_KIB = 64 * 1024
"""HANDSHAKES_MAX and COLLECT_AFTER connections of some 70 KiB at each of two ports, and twice that for
fragmentation. Without the gate it is 140 MiB."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path("/proc/self/status").exists(), reason="only Linux tells the memory of others"
    ),
]


@pytest.fixture
def bridge(tmp_path):
    with installation(tmp_path) as running:
        board = running.board("first", "board-0", token=running.token("board-0"))
        board.start()  # so that what is loaded once is there
        board.wait("synced")
        yield running


def resident_kib(bridge):
    status = Path(f"/proc/{bridge.bridge.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1])


def joins(bridge):
    """An honest board gets in, however many others are at the door."""
    board = bridge.board(NODE, token=bridge.token(NODE))
    board.start()
    board.wait("synced")
    assert not bridge.boards[0].lines("link down")


def opened(stack, port):
    made = socket.create_connection((HOST, port))
    stack.callback(made.close)
    return made


def say(sock, data):
    with suppress(OSError):  # it may have been dropped already
        sock.sendall(data)


HELLO_START = b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03"
"""A TLS record that claims 16 KiB, of which this is all that ever comes."""


@pytest.mark.parametrize(
    "start", [b"", HELLO_START, b"\x16\x03\x01\xff\xff" + b"\x01" * 100, b"GET / HTTP/1.1\r\n"]
)
def test_connections_that_never_become_tls(bridge, start):
    before = resident_kib(bridge)
    with ExitStack() as stack:
        for number in range(ATTEMPTS):
            say(opened(stack, bridge.port if number % 2 else bridge.enrol_port), start)
        grown = resident_kib(bridge) - before
        joins(bridge)
    print(f"{ATTEMPTS} connections: {grown} KiB")
    assert grown < GROWTH_MAX_KIB
    assert bridge.bridge.lines("connection dropped")


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"GET /ca.crt HTTP/1.1\r\nX: " + b"x" * 4000,
        b"POST /edge.crt HTTP/1.1\r\nContent-Length: 2048\r\n\r\n" + b"x" * 2047,
        b"POST /edge.crt HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n" + b"x" * 60000,
    ],
)
def test_enrolments_that_never_end(bridge, start):
    context = ssl.create_default_context(cafile=bridge.state / "ca.pem")
    before = resident_kib(bridge)
    with ExitStack() as stack:
        for _ in range(2 * enrolment.CONNECTIONS_MAX):
            with suppress(OSError):
                made = context.wrap_socket(opened(stack, bridge.enrol_port), server_hostname="localhost")
                stack.callback(made.close)
                say(made, start)
        grown = resident_kib(bridge) - before
        print(f"{2 * enrolment.CONNECTIONS_MAX} enrolments: {grown} KiB")
        assert grown < GROWTH_MAX_KIB
        # The places are free again after REQUEST_SECONDS at the latest.
        joins(bridge)


def test_connections_one_after_the_other_leave_nothing(bridge):
    def some():
        with ExitStack() as stack:
            for _ in range(50):
                say(opened(stack, bridge.enrol_port), HELLO_START)
        time.sleep(50 / gate.CONNECTIONS_PER_SECOND)

    for _ in range(6):
        some()
    before = resident_kib(bridge)
    for _ in range(12):
        some()
    grown = resident_kib(bridge) - before
    print(f"600 connections more: {grown} KiB")
    assert grown < 600 * 70 // 2  # what they took was used again
    joins(bridge)
