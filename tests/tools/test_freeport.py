"""Ports for servers that start later."""

import socket

import pytest

from motelet.tools import freeport


def test_they_differ_and_lie_below_those_of_outgoing_connections() -> None:
    ports = freeport.free_ports(50)
    assert len(set(ports)) == 50
    assert all(freeport.FIRST <= port <= freeport.LAST < 32768 for port in ports)


def test_one_that_is_taken_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = freeport.free_ports(1)
    with socket.create_server(("127.0.0.1", first)):
        monkeypatch.setattr(freeport, "FIRST", first)
        monkeypatch.setattr(freeport, "LAST", first)
        with pytest.raises(OSError, match=f"1 free TCP ports .* between {first} and {first}; 0 are"):
            freeport.free_port()
