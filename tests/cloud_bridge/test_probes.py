"""/healthz, /readyz and /metrics as a cluster asks for them, and what is counted on the way."""

import asyncio
import urllib.error
import urllib.request

from board_client import BoardClient
from memory_backend import MemoryBackend, device, model
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from cloud_bridge import metrics
from cloud_bridge.cloudhub.server import CloudHub
from cloud_bridge.devicecontroller.controller import DeviceController
from cloud_bridge.probes import Probes
from motelet import protocol as p
from motelet.tools.load.board import SimulatedBoard

RESOURCE = "default/device/lamp"


def ask(port, path, method="GET"):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode(), answer.headers["Content-Type"]
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers["Content-Type"]


def asked(*paths, unready=lambda: None):
    async def run():
        probes = Probes(unready)
        port = await probes.start("127.0.0.1", 0)
        answers = [await asyncio.to_thread(ask, port, path) for path in paths]
        await probes.stop()
        return answers

    return asyncio.run(run())


def test_alive_and_ready():
    assert [answer[:2] for answer in asked("/healthz", "/readyz")] == [(200, "ok\n"), (200, "ok\n")]


def test_not_ready_says_why_and_stays_alive():
    answers = asked("/readyz", "/healthz", unready=lambda: "no list yet")
    assert [answer[:2] for answer in answers] == [(503, "no list yet\n"), (200, "ok\n")]


def test_another_path_is_not_found():
    ((status, text, _),) = asked("/secret")
    assert status == 404 and "/metrics" in text


def test_what_is_no_http_is_closed_and_harms_nobody():
    async def run():
        probes = Probes(lambda: None)
        port = await probes.start("127.0.0.1", 0)
        for junk in (
            b"\x16\x03\x01\x00",
            b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
            b"x" * 100_000,
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(junk + b"\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), 20)
            assert not answer.startswith(b"HTTP/1.1 200")
            writer.close()
        assert (await asyncio.to_thread(ask, port, "/healthz"))[0] == 200
        await probes.stop()

    asyncio.run(run())


def test_metrics_are_prometheus_text():
    ((status, text, content_type),) = asked("/metrics")
    assert status == 200 and content_type.startswith("text/plain; version=0.0.4")
    families = {family.name for family in text_string_to_metric_families(text)}
    assert {"motelet_connected_nodes", "motelet_messages", "motelet_ack_seconds"} <= families


def test_every_kind_of_message_has_its_name():
    for number, name in enumerate(metrics.KINDS):
        assert getattr(p, name.upper()) == number
        head = bytes([number]) if number < 24 else bytes([0x18, number])
        assert metrics.kind(b"\x82" + head + b"\x01") == name
    for junk in (b"", b"\x82", b"\x82\x18", b"\x82\x18\xff", b"\x82\xff"):
        assert metrics.kind(junk) == "other"


def value(name, **labels):
    return REGISTRY.get_sample_value(name, labels) or 0


def test_a_session_is_counted():
    async def run():
        backend = MemoryBackend()
        backend.put(device(), model())
        controller = DeviceController(backend)
        controller.start()
        hub = CloudHub(controller, backend.nodes, None)
        port = await hub.start("localhost", 0)
        tasks = [asyncio.create_task(part.run()) for part in (controller, hub)]
        counted = ("motelet_ack_seconds_count", "motelet_messages_total")
        before = {
            "up": value(counted[0], direction="up"),
            "down": value(counted[0], direction="down"),
            "report": value(counted[1], direction="up", kind="report"),
            "put": value(counted[1], direction="down", kind="put"),
            "lag": value("motelet_twin_lag_seconds_count"),
            "reconnects": value("motelet_reconnects_total"),
            "queued": value("motelet_queued_messages", direction="up"),
        }
        for _ in range(2):
            board = SimulatedBoard()
            async with BoardClient(board, port, path=f"{p.PATH}/board-1") as client:
                await client.until(lambda board=board: board.synced)
                assert value("motelet_connected_nodes") == 1
                last = board.report(RESOURCE, "level", 41, 5, "40")
                await client.until(lambda board=board, last=last: board.acked == last)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await hub.stop()
        return before

    before = asyncio.run(run())
    assert value("motelet_ack_seconds_count", direction="up") == before["up"] + 2
    assert value("motelet_ack_seconds_count", direction="down") == before["down"] + 2
    assert value("motelet_messages_total", direction="up", kind="report") == before["report"] + 2
    assert value("motelet_messages_total", direction="down", kind="put") == before["put"] + 2
    assert value("motelet_twin_lag_seconds_count") == before["lag"] + 2
    assert value("motelet_reconnects_total") == before["reconnects"] + 1
    assert value("motelet_connected_nodes") == 0
    assert value("motelet_queued_messages", direction="up") == before["queued"]
