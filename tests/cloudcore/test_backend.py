"""The whole bridge on the stand-in for CloudCore, with boards that connect to it."""

import asyncio
import json
import logging
import sqlite3
from dataclasses import replace

import board_client
import cbor2
import frames
import pytest
from board_client import until
from cloudhub_peer import job_message, user_message
from memory_backend import device, model
from world import LAMP, NODE, World

from cloud_bridge.backends.base import (
    BackendError,
    Key,
    NoObjectError,
    PodChange,
    RefusedError,
    TokenRequest,
)
from cloud_bridge.backends.cloudcore import backend as backend_module
from cloud_bridge.backends.cloudcore import doubts, link, registration, reports, session
from cloud_bridge.backends.cloudcore.backend import CloudCore
from motelet import protocol
from motelet.tools.load.board import SimulatedBoard


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    """The times of the stand-in are shortened; these go with them."""
    monkeypatch.setattr(board_client, "SECONDS_MAX", 30)
    monkeypatch.setattr(session, "KEEPALIVE_SECONDS", 0.2)
    monkeypatch.setattr(session, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(registration, "SETTLE_SECONDS", 0.01)
    monkeypatch.setattr(registration, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr(registration, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(link, "RETRY_SECONDS_MIN", 0.05)
    monkeypatch.setattr(link, "RETRY_SECONDS_MAX", 0.2)
    monkeypatch.setattr(reports, "RETRY_SECONDS_MIN", 0.01)
    monkeypatch.setattr(backend_module, "LINGER_SECONDS", 0.05)
    monkeypatch.setattr(backend_module, "COMPLAIN_SECONDS", 0.05)
    monkeypatch.setattr(backend_module, "CLAIM_KNOWN_SECONDS", 0.3)
    monkeypatch.setattr(backend_module, "CLAIM_SECONDS", 2.0)


def scenario(function):
    """Run an async test with a world of its own."""

    def run(tmp_path, caplog, monkeypatch):
        caplog.set_level(logging.DEBUG, "cloud_bridge")

        async def main():
            async with World(tmp_path / "state") as world:
                world.caplog, world.monkeypatch = caplog, monkeypatch
                await function(world)
                assert world.peer.faults == world.expected_faults

        asyncio.run(main())

    run.__name__ = function.__name__
    return run


World.expected_faults = []


def condition(world, kind, node=NODE):
    status = world.peer.objects.get(("Node", "", node), {}).get("status", {})
    return next((each for each in status.get("conditions", ()) if each["type"] == kind), {})


@scenario
async def test_a_board_gets_its_device_and_its_reports_arrive(world):
    board = SimulatedBoard()
    async with world.bridge.board(board) as client:
        await client.until(lambda: world.peer.sessions and board.synced)
        world.lamp()
        await client.until(lambda: LAMP in board.flash)
        board.report(LAMP, "level", 41, 1_700_000_000_000, "40")
        board.state(LAMP, "online", 1_700_000_000_000)
        await client.until(lambda: world.peer.status("lamp").get("level") == ("41", "40"))
        await client.until(lambda: world.peer.status("lamp")["state"] == "online")
        assert world.peer.status("lamp")["lastOnlineTime"] == "2023-11-14T22:13:20Z"
        world.peer.desire("lamp", "level", "50")
        await client.until(lambda: "50" in str(cbor2.loads(board.flash[LAMP][1])))
        world.peer.delete("Device", "lamp")
        await client.until(lambda: LAMP not in board.flash)
    assert ("DeviceModel", "default", "lamp-model") in world.peer.objects
    await world.until(lambda: not world.peer.sync)


@scenario
async def test_the_node_is_registered_first_and_kept_alive(world):
    world.lamp()
    async with world.bridge.board(SimulatedBoard()) as client:
        await client.until(lambda: len(world.received("update", "kube-node-lease")) > 2)
        await client.until(lambda: condition(world, "Ready").get("status") == "True")
        node = world.peer.objects[("Node", "", NODE)]
        assert node["metadata"]["labels"]["node-role.kubernetes.io/edge"] == ""
        assert node["metadata"]["labels"]["kubernetes.io/os"] == "micropython"
        lease = world.peer.objects[("Lease", "kube-node-lease", NODE)]
        assert lease["spec"]["holderIdentity"] == NODE
        assert lease["metadata"]["ownerReferences"][0]["uid"] == node["metadata"]["uid"]
    routes = [each["route"] for each in world.received() if each["route"]["source"] == "edged"]
    up = list(dict.fromkeys((each["operation"], each["resource"]) for each in routes))  # asked again or not
    assert [operation for operation, _ in up[:3]] == ["query", "insert", "query"]


@scenario
async def test_a_session_lasts(world):
    board = SimulatedBoard()
    async with world.bridge.board(board) as client:
        await client.until(lambda: len(world.received("keepalive")) > 8)  # CloudHub waits for three of them
        assert world.peer.connections == 1


@scenario
async def test_the_session_ends_with_the_board_and_leases_with_it(world):
    async with world.bridge.board(SimulatedBoard()) as client:
        await client.until(lambda: world.received("insert", "lease"))
    await world.until(lambda: not world.peer.sessions)
    count = len(world.received("update", "lease"))
    await asyncio.sleep(0.3)
    assert len(world.received("update", "lease")) == count


@scenario
async def test_a_link_that_flaps_finds_its_session_again(world):
    board = SimulatedBoard()
    world.monkeypatch.setattr(backend_module, "LINGER_SECONDS", 5.0)
    for _ in range(5):
        async with world.bridge.board(board) as client:
            await client.until(lambda: board.synced)
    assert world.peer.connections == 1


@scenario
async def test_a_wiped_board_and_a_new_bridge_are_filled_from_the_mirror(world):
    world.lamp()
    board = SimulatedBoard()
    async with world.bridge.board(board) as client:
        world.peer.resend()
        await client.until(lambda: LAMP in board.flash)
    await world.bridge.stop()
    world.bridge = await world.start_bridge()
    sent = len(world.sent("insert", "device")) + len(world.sent("update", "device"))
    board.flash.clear()
    async with world.bridge.board(board) as client:
        await client.until(lambda: LAMP in board.flash)
    assert len(world.sent("insert", "device")) + len(world.sent("update", "device")) == sent


@scenario
async def test_a_board_is_served_from_the_mirror_while_cloudcore_is_away_and_reports_arrive_later(world):
    world.lamp()
    board = SimulatedBoard()
    async with world.bridge.board(board) as client:
        world.peer.resend()
        await client.until(lambda: LAMP in board.flash)
    await world.peer.stop()
    await world.bridge.stop()
    world.bridge = await world.start_bridge()
    board.flash.clear()
    async with world.bridge.board(board) as client:
        await client.until(lambda: LAMP in board.flash)
        seq = board.report(LAMP, "level", 77, 1_700_000_000_000)
        await client.until(lambda: board.acked >= seq)  # it is durable here
    await world.bridge.stop()
    await world.peer.start(world.port)
    world.bridge = await world.start_bridge()
    async with world.bridge.board(board) as client:
        await client.until(lambda: world.peer.status("lamp").get("level") == ("77", None))


@scenario
async def test_what_changed_meanwhile_comes_from_edgecontroller_and_what_went_as_a_stub(world):
    world.lamp()
    world.peer.apply(device("other"))
    board = SimulatedBoard()
    async with world.bridge.board(board) as client:
        world.peer.resend()
        await client.until(lambda: len(board.flash) == 2)
    await world.until(lambda: not world.peer.sessions)
    world.peer.desire("lamp", "level", "99")
    world.peer.delete("Device", "other")
    async with world.bridge.board(board) as client:
        await client.until(lambda: len(board.flash) == 1 and "99" in str(cbor2.loads(board.flash[LAMP][1])))
    sources = {each["route"]["source"] for each in world.sent("", "/device/other") if each["header"]}
    assert "edgecontroller" in sources


@scenario
async def test_long_messages_come_in_fragments_and_a_cut_one_is_nothing(world):
    world.lamp()
    big = device("big")
    big["metadata"]["annotations"] = {"note": "x" * 20_000}
    board = SimulatedBoard()
    async with world.bridge.board(board) as client:
        await client.until(lambda: world.peer.sessions and board.synced)
        socket = world.peer.sessions[NODE].socket
        text = frames.wire(frames.read("device-created", "cloud")[2])
        # The first frame of a message that never ends, for the connection is lost.
        frame = bytes([0x01, 0x7E]) + (1000).to_bytes(2, "big") + text[:1000].encode()
        socket.transport.write(frame)
        await asyncio.sleep(0.05)
        assert LAMP not in board.flash
        world.peer.cut(NODE)
        await client.until(lambda: world.peer.connections >= 2 and world.peer.sessions)
        world.peer.apply(big)
        await client.until(lambda: "default/device/big" in board.flash)


@scenario
async def test_duplicates_change_nothing_twice(world):
    world.lamp()
    board = SimulatedBoard()
    changes = []
    world.bridge.backend.watch(changes.append)
    async with world.bridge.board(board) as client:
        world.peer.resend()
        await client.until(lambda: LAMP in board.flash)
        before = len(changes)
        message = world.sent("", "/device/")[0]
        for number in ("a", "a", "b"):
            again = {**message, "header": {**message["header"], "msg_id": number}}
            acks = len(world.received("response"))
            await world.peer.raw(NODE, json.dumps(again))
            # One that comes while the mirror still takes the same message gets no answer of its own.
            await client.until(lambda acks=acks: len(world.received("response")) > acks)
        assert len(changes) == before
        assert [each[0] for each in board.log].count(protocol.PUT) == 1


@scenario
async def test_unknown_kinds_and_unreadable_messages_stall_nothing(world):
    world.lamp()
    board = SimulatedBoard()
    async with world.bridge.board(board) as client:
        await client.until(lambda: world.peer.sessions and board.synced)
        widget = user_message("somebody", "insert", "default/widget/w", {"metadata": {"uid": "u"}})
        widget["route"]["group"] = "resource"
        await world.peer.raw(NODE, '{"header": 1}')
        await world.peer.raw(NODE, json.dumps(widget))
        world.peer.resend()
        await client.until(lambda: LAMP in board.flash)
        number = widget["header"]["msg_id"]
        await client.until(
            lambda: any(each["header"].get("parent_msg_id") == number for each in world.received("response"))
        )


@scenario
async def test_a_session_that_is_refused_in_silence_is_noticed(world):
    world.peer.refuse.add(NODE)
    board = SimulatedBoard()
    async with world.bridge.board(board) as client:
        await client.flush()
        assert await client.closed() == 4005
        assert "CloudHub" in client.socket.close_reason
    world.peer.refuse.clear()
    async with world.bridge.board(board) as client:
        await client.until(lambda: board.synced)


@scenario
async def test_a_second_bridge_is_refused(world):
    board = SimulatedBoard()
    async with world.bridge.board(board) as client:
        await client.until(lambda: board.synced)
        with pytest.raises(BackendError, match="another bridge has the state folder"):
            await world.start_bridge()
    other = await world.start_bridge(world.folder.parent / "other")
    board = SimulatedBoard()
    board.flash[LAMP] = ("v", b"\xa0")
    async with other.board(board) as client:
        await client.flush()
        assert await client.closed() == 4005
        assert "motelet bridge refill" in (client.socket.close_reason or "") or "mirror" in world.caplog.text
    assert LAMP in board.flash
    await other.stop()


@scenario
async def test_what_a_board_refuses_is_acknowledged_and_shown(world):
    world.lamp()
    board = SimulatedBoard()
    board.accept = lambda resource, content: (protocol.TOO_LARGE, "too large for me")
    async with world.bridge.board(board) as client:
        world.peer.resend()
        await client.until(lambda: condition(world, "ObjectsAccepted").get("status") == "False")
        assert "too large for me" in condition(world, "ObjectsAccepted")["message"]
        await client.until(lambda: world.peer.status("lamp").get("state") == "unhealthy")
        events = [body for (kind, _, _), body in world.peer.objects.items() if kind == "Event"]
        assert events[0]["involvedObject"]["name"] == "lamp"
        assert events[0]["type"] == "Warning"
        await client.until(lambda: all(each["version"] != "0" for each in world.peer.sync.values()))


@scenario
async def test_a_dropped_report_is_tried_again_then_told_of(world):
    world.lamp()
    world.monkeypatch.setattr(session, "ANSWER_SECONDS", 0.02)
    board = SimulatedBoard()
    async with world.bridge.board(board) as client:
        world.peer.resend()
        await client.until(lambda: LAMP in board.flash)
        world.peer.mute = lambda resource: resource == "twin"
        board.report(LAMP, "level", 41, 1_700_000_000_000)
        await client.until(
            lambda: "does not confirm" in condition(world, "ObjectsAccepted").get("message", "")
        )
        count = len(world.received("", "twin/edge_updated"))
        assert count <= reports.TRIES_MAX * session.ATTEMPTS_MAX
        world.peer.mute = lambda resource: False
        board.report(LAMP, "level", 42, 1_700_000_000_001)
        await client.until(lambda: world.peer.status("lamp").get("level") == ("42", None))
        await client.until(lambda: condition(world, "ObjectsAccepted")["status"] == "True")


@scenario
async def test_the_first_report_of_a_property_arrives_although_it_is_stored_empty(world):
    world.lamp()
    board = SimulatedBoard()
    async with world.bridge.board(board) as client:
        world.peer.resend()
        await client.until(lambda: LAMP in board.flash)
        for prop, value in (("level", 1), ("power", True)):
            board.report(LAMP, prop, value, 1_700_000_000_000)
            await client.until(lambda prop=prop: world.peer.status("lamp").get(prop, ("",))[0])
        assert world.peer.status("lamp")["level"] == ("1", None)
        assert world.peer.status("lamp")["power"] == ("true", None)


@scenario
async def test_messages_of_the_edge_go_up_in_their_order_and_once(world):
    board = SimulatedBoard()
    async with world.bridge.board(board) as client:
        await client.until(lambda: board.synced)
        for number in range(50):
            seq = board.event("SYS/dis/upload_records", b'{"x":%d}' % number)
            await client.until(lambda seq=seq: board.acked >= seq - 8)
        await client.until(lambda: len(world.received("upload")) >= 50)
        await client.until(lambda: not world.bridge.backend._mirror.events(NODE, 0, 1))
        world.peer.cut(NODE)
        await client.until(lambda: world.peer.connections >= 2)
        await asyncio.sleep(0.2)
    up = world.received("upload")
    assert [json.loads(each["content"])["x"] for each in up] == list(range(50))
    real = frames.read("resync", "edge")[-1]
    assert up[0]["route"] == real["route"]
    assert type(up[0]["content"]) is type(real["content"])


@scenario
async def test_jobs_are_refused_with_a_reason(world):
    board = SimulatedBoard()
    async with world.bridge.board(board) as client:
        await client.until(lambda: board.synced)
        for job in ("nodeupgradejob", "configupdatejob"):
            world.peer.say(NODE, job_message(job, "j", NODE, "Check", {"version": "v1.23"}))
        await client.until(lambda: len(world.received("UpdateNodeActionStatus")) == 2)
    for answer in world.received("UpdateNodeActionStatus"):
        assert answer["route"]["resource"].startswith("operations.kubeedge.io/v1alpha2/")
        assert answer["content"]["action"] == "Check"
        assert answer["content"]["succ"] is False
        assert answer["content"]["reason"]


@scenario
async def test_subscriptions_of_the_router_outlive_a_restart(world):
    board = SimulatedBoard()
    async with world.bridge.board(board) as client:
        await client.until(lambda: board.synced)
        for operation, topic in (("subscribe", "a/t"), ("subscribe", "b/t"), ("unsubscribe", "a/t")):
            world.peer.say(NODE, user_message("router_eventbus", operation, topic))
        await client.until(lambda: set(world.bridge.backend._rules.topics(NODE)) == {"b/t"})
        world.peer.apply(device())
        await client.until(lambda: world.bridge.backend.keys("Device"))
    await world.bridge.stop()
    world.bridge = await world.start_bridge()
    assert set(world.bridge.backend._rules.topics(NODE)) == {"b/t"}


@scenario
async def test_a_node_that_is_deleted_is_registered_again(world):
    board = SimulatedBoard()
    async with world.bridge.board(board) as client:
        await client.until(lambda: condition(world, "Ready"))
        del world.peer.objects[("Node", "", NODE)]
        world.peer.cut(NODE)
        await client.until(lambda: ("Node", "", NODE) in world.peer.objects)
        assert LAMP not in board.flash


@scenario
async def test_what_went_while_its_node_was_deleted_goes_and_the_rest_stays(world):
    world.monkeypatch.setattr(session, "ANSWER_SECONDS", 0.02)
    world.monkeypatch.setattr(doubts, "ASK_SECONDS", 0.05)
    backend = world.bridge.backend
    refers = [{"name": "main", "envFrom": [{"secretRef": {"name": name}} for name in ("here", "gone")]}]
    world.lamp()
    world.peer.apply({**model(), "metadata": {"name": "other-model", "namespace": "default"}})
    world.peer.apply(device("other", deviceModelRef={"name": "other-model"}))
    for name in ("here", "gone"):
        metadata = {"name": name, "namespace": "default"}
        world.peer.apply({"kind": "Secret", "metadata": metadata, "data": {}})
    board = SimulatedBoard()
    async with world.bridge.board(board) as client:
        await client.until(lambda: condition(world, "Ready"))
        world.peer.resend()
        for name in ("blink", "ended"):
            metadata = {"name": name, "namespace": "default"}
            world.peer.apply({**POD, "metadata": metadata, "spec": {"nodeName": NODE, "containers": refers}})
        await client.until(lambda: len(backend._edge(NODE).known) == 8)
        board.report(LAMP, "level", 41, 1_700_000_000_000)
        await client.until(lambda: world.peer.status("lamp").get("level") == ("41", None))
    await world.until(lambda: NODE not in world.peer.sessions)
    world.peer.delete_node(NODE)
    for kind, name in (("Device", "other"), ("Secret", "gone"), ("Pod", "ended")):
        world.peer.delete(kind, name)
    async with world.bridge.board(board) as client:
        await client.until(lambda: not list(backend._mirror.doubts()) and len(backend._edge(NODE).known) == 4)
        await client.until(lambda: "default/device/other" not in board.flash)
        assert LAMP in board.flash
    found = {resource for _, resource, _ in backend._mirror.objects()}
    assert found == {LAMP, "default/devicemodel/lamp-model", "default/secret/here", "default/pod/blink"}


@scenario
async def test_where_cloudcore_never_confirmed_a_report_silence_removes_no_device(world):
    world.monkeypatch.setattr(session, "ANSWER_SECONDS", 0.02)
    world.monkeypatch.setattr(doubts, "ASK_SECONDS", 0.05)
    world.lamp()
    board = SimulatedBoard()
    async with world.bridge.board(board) as client:
        world.peer.resend()
        await client.until(lambda: LAMP in board.flash)
    await world.until(lambda: NODE not in world.peer.sessions)
    world.peer.delete_node(NODE)
    world.peer.mute = lambda resource: resource == "twin"
    async with world.bridge.board(board) as client:
        await client.until(lambda: len(world.received("", "twin/edge_updated")) > doubts.SILENCES * 4)
        assert LAMP in board.flash and list(world.bridge.backend._mirror.doubts())
        world.peer.mute = lambda resource: False
        await client.until(lambda: not list(world.bridge.backend._mirror.doubts()))
        assert LAMP in board.flash


@scenario
async def test_a_device_moves_between_boards(world):
    world.lamp()
    one, two = SimulatedBoard(), SimulatedBoard()
    async with world.bridge.board(one) as first, world.bridge.board(two, "board-2") as second:
        world.peer.resend()
        await first.until(lambda: LAMP in one.flash)
        world.peer.apply(device(nodeName="board-2"))
        await first.until(lambda: LAMP not in one.flash)
        await second.until(lambda: LAMP in two.flash)


@scenario
async def test_secrets_are_readable_by_nobody_else(world):
    for name in ("mirror.db", "lock"):
        path = world.folder / name
        assert path.exists()
    assert (world.folder / "mirror.db").stat().st_mode & 0o077 == 0
    assert world.folder.stat().st_mode & 0o077 == 0


def test_a_mirror_that_cannot_be_used_is_an_error(tmp_path):
    (tmp_path / "mirror.db").write_bytes(b"no database" * 100)

    async def main():
        from cloud_bridge.backends.cloudcore.access import PlainAccess

        with pytest.raises(BackendError, match=r"mirror\.db"):
            await CloudCore("ws://127.0.0.1:1", tmp_path, PlainAccess()).start()

    asyncio.run(main())


@scenario
async def test_nothing_is_acknowledged_that_the_disk_did_not_take(world):
    world.lamp()
    store = world.bridge.backend._mirror
    whole, broken = store._commit, [True]

    def commit(batches):
        return sqlite3.OperationalError("disk full") if broken[0] else whole(batches)

    board = SimulatedBoard()
    async with world.bridge.board(board) as client:
        await client.until(lambda: board.synced)
        store._commit = commit
        world.peer.resend()
        await client.until(lambda: len(world.sent("insert", "devicemodel")) >= 3)
        assert world.received("response") == []
        broken[0] = False
        await client.until(lambda: LAMP in board.flash)


POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "blink", "namespace": "default"},
    "spec": {
        "nodeName": NODE,
        "containers": [{"name": "main", "envFrom": [{"secretRef": {"name": "key"}}]}],
        "volumes": [{"name": "app", "configMap": {"name": "app"}}],
    },
}


@scenario
async def test_a_pod_and_what_it_refers_to_come_down_and_its_status_and_end_go_up(world):
    backend, key = world.bridge.backend, Key("Pod", "default", "blink")
    for kind, name in (("ConfigMap", "app"), ("Secret", "key")):
        metadata = {"name": name, "namespace": "default"}
        world.peer.objects[(kind, "default", name)] = {
            "kind": kind,
            "metadata": {**metadata, "uid": f"u-{name}", "resourceVersion": "7"},
            "data": {},
        }
    async with world.bridge.board(SimulatedBoard()) as client:
        await client.until(lambda: condition(world, "Ready"))
        world.peer.apply(POD)
        # They were there before the pod was: they are asked for.
        await client.until(lambda: all(backend.keys(each) for each in ("Pod", "ConfigMap", "Secret")))
        assert world.received("query", "/configmap/") and world.received("query", "/secret/")
        uid = backend.get(key)["metadata"]["uid"]
        waits = {"type": "Ready", "status": "False", "reason": "Waits", "message": "a while"}
        ready = {"type": "Ready", "status": "True"}
        for state, phase in ((waits, "Pending"), (ready, "Running")):
            assert not await backend.write_pods(
                {key: PodChange(uid, {"phase": phase, "conditions": [state]})}
            )
            status = world.peer.objects[tuple(key)]
            await client.until(lambda s=status, p=phase: s.get("status", {}).get("phase") == p)
        assert status["status"]["conditions"][0]["reason"] is None
        failures = await backend.write_pods(
            {key: PodChange("another", {}), key._replace(name="no"): POD_GONE}
        )
        assert all(isinstance(each, NoObjectError) for each in failures.values()) and len(failures) == 2
        await backend.write_pods({key: PodChange(uid, {}, deleted=True)})
        await client.until(lambda: not backend.keys("Pod") and tuple(key) not in world.peer.objects)


POD_GONE = PodChange("u", {}, deleted=True)


@scenario
async def test_a_token_is_asked_of_cloudcore_as_an_edge_does(world):
    backend, key = world.bridge.backend, Key("Pod", "default", "blink")
    request = TokenRequest(key, "", "robot", "vault", 600)
    with pytest.raises(BackendError, match="on no node"):
        await backend.request_token(request)
    async with world.bridge.board(SimulatedBoard()) as client:
        await client.until(lambda: condition(world, "Ready"))
        world.peer.apply(POD)
        await client.until(lambda: backend.keys("Pod"))
        request = replace(request, uid=backend.get(key)["metadata"]["uid"])
        with pytest.raises(RefusedError, match='robot, says CloudCore: serviceaccounts "robot" not found'):
            await backend.request_token(request)
        world.peer.objects[("ServiceAccount", "default", "robot")] = {}
        token = await backend.request_token(request)
        assert (
            token.seconds == 600
            and token.text.endswith("robot-vault")
            and token.text not in world.caplog.text
        )
        asked = world.received("query", "default/serviceaccounttoken/robot")[-1]["content"]
        assert asked["kind"] == "TokenRequest" and asked["spec"] == {
            "expirationSeconds": 600,
            "audiences": ["vault"],
            "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "blink", "uid": request.uid},
        }
        world.peer.mute = lambda resource: "serviceaccounttoken" in resource
        with pytest.raises(BackendError, match="does not answer"):
            await backend.request_token(request)
    await until(lambda: not world.peer.sessions)
    with pytest.raises(BackendError, match="no session"):
        await backend.request_token(request)


class Gateway(SimulatedBoard):
    """One that runs pods, on CPython."""

    def hello(self, **info):
        super().hello(mpy=0, **info)


@scenario
async def test_a_token_reaches_the_pod_that_mounts_it_and_goes_with_it(world):
    board = Gateway()
    token = {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    main = {"name": "main", "image": "micropython", "command": ["main"]}
    spec = {"nodeName": NODE, "serviceAccountName": "robot", "containers": [main], "volumes": [token]}
    async with world.bridge.board(board) as client:
        await client.until(lambda: condition(world, "Ready"))
        world.peer.apply({**POD, "spec": spec})
        pod = world.peer.objects[("Pod", "default", "blink")]
        await client.until(lambda: "not found" in str(pod.get("status")))
        assert "CreateContainerConfigError" in str(pod["status"]) and not board.flash
        world.peer.objects[("ServiceAccount", "default", "robot")] = {}
        await client.until(lambda: "default/pod/blink" in board.flash)
        content = cbor2.loads(board.flash["default/secret/blink:token"][1])
        assert content["0"].decode().endswith("-robot-")
        world.peer.delete("Pod", "blink")
        await client.until(lambda: not board.flash)


@scenario
async def test_what_the_router_publishes_reaches_the_board(world):
    board = SimulatedBoard()
    async with world.bridge.board(board) as client:
        await client.until(lambda: board.synced)
        world.peer.say(NODE, user_message("router_eventbus", "publish", "cmds", '{"do":1}'))
        inner = {"message": {"topic": "more", "x": 1}}
        world.peer.say(NODE, user_message("router_eventbus", "message", "", inner))
        await client.until(lambda: board.kinds().count(protocol.PUBLISH) == 2)
        published = [each[2:] for each in board.log if each[0] == protocol.PUBLISH]
        assert published[0] == ["cmds", b'{"do":1}']
        assert published[1][0] == "more"
