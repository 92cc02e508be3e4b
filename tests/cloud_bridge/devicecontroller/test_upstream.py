"""What boards report becomes DeviceStatus: authorised, merged, in few writes, told once it is durable."""

import asyncio
import logging

import pytest
from board_client import until
from memory_backend import MemoryBackend, device, model

from cloud_bridge.backends.base import DEVICE, Key
from cloud_bridge.devicecontroller import upstream as upstream_module
from cloud_bridge.devicecontroller.controller import DeviceController
from cloud_bridge.resources import Event, Refusal, Report, State
from motelet import protocol as p

LAMP = Key(DEVICE, "default", "lamp")
RESOURCE = "default/device/lamp"


class Setup:
    """A controller on a backend in memory. `answers`: seq -> None (durable) or the refusal."""

    def __init__(self, *bodies):
        self.backend = MemoryBackend()
        self.backend.put(*(bodies or (device(), model())))
        self.controller = DeviceController(self.backend)
        self.controller.start()
        self.answers = {}

    def take(self, message, node="board-1"):
        assert message.seq not in self.answers

        def settle(refusal):
            assert message.seq not in self.answers, "settled twice"
            self.answers[message.seq] = refusal

        self.controller.take(node, message, settle)

    def report(self, seq, prop="level", value=1, time=1000, observed=None, resource=RESOURCE, node="board-1"):
        self.take(Report(seq, resource, prop, value, time, observed), node)

    def state(self, seq, state="online", time=1000, reason="", node="board-1"):
        self.take(State(seq, RESOURCE, state, time, reason), node)

    def flush(self):
        return asyncio.run(self.controller.flush())

    @property
    def status(self):
        return self.backend.status[LAMP]


def test_a_report_becomes_a_twin_as_kubeedge_has_it():
    setup = Setup()
    setup.report(1, "power", True, 1_795_000_000_123, "true")
    assert setup.answers == {}
    assert setup.flush()
    metadata = {"timestamp": "1795000000123", "type": "boolean"}
    twin = {
        "propertyName": "power",
        "reported": {"value": "true", "metadata": metadata},
        "observedDesired": {"value": "true", "metadata": metadata},
    }
    assert setup.status == {"twins": [twin]}
    assert setup.answers == {1: None}


def test_many_reports_are_one_write_with_the_newest_of_each():
    setup = Setup()
    for seq in range(1, 20):
        setup.report(seq, ("power", "level")[seq % 2], seq if seq % 2 else bool(seq % 4), seq)
    setup.flush()
    assert len(setup.backend.writes) == 1
    values = {each["propertyName"]: each["reported"]["value"] for each in setup.status["twins"]}
    assert values == {"power": "true", "level": "19"}
    assert setup.answers == dict.fromkeys(range(1, 20))


def test_arrival_decides_what_is_newest_not_the_boards_clock():
    setup = Setup()
    setup.report(1, value=1, time=9_000_000_000_000)
    setup.flush()
    setup.report(2, value=2, time=5)
    setup.flush()
    assert setup.status["twins"][0]["reported"]["value"] == "2"


def test_an_observed_desired_value_stays_until_another_is_reported():
    setup = Setup()
    setup.report(1, value=1, observed="40")
    setup.report(2, value=2)
    setup.flush()
    setup.report(3, value=3)
    setup.flush()
    assert setup.status["twins"][0]["observedDesired"]["value"] == "40"
    assert setup.status["twins"][0]["reported"]["value"] == "3"


def test_states_and_when_the_device_was_last_online():
    setup = Setup()
    setup.state(1, "online", 1_795_000_000_999)
    setup.state(2, "offline", 1_795_000_060_000, "no answer")
    setup.flush()
    expected = {
        "twins": [],
        "state": "offline",
        "lastOnlineTime": "2026-11-18T09:06:40Z",
        "extensions": {"stateReason": "no answer", "stateTimestamp": "1795000060000"},
    }
    assert setup.status | {"lastOnlineTime": expected["lastOnlineTime"]} == expected
    online = setup.status["lastOnlineTime"]
    setup.state(3, "unknown", 5)
    setup.flush()
    assert setup.status["lastOnlineTime"] == online
    setup.state(4, "online", 253_402_300_799_999)
    setup.flush()
    assert setup.status["lastOnlineTime"] == "9999-12-31T23:59:59Z"


@pytest.mark.parametrize(
    ("resource", "node"),
    [
        (RESOURCE, "board-2"),
        (RESOURCE, ""),
        ("default/device/other", "board-1"),
        ("default/pod/lamp", "board-1"),
        ("default/device/lamp/x", "board-1"),
        ("lamp", "board-1"),
        ("", "board-1"),
        ("../device/lamp", "board-1"),
    ],
)
def test_a_board_reports_for_its_own_devices_only(resource, node):
    setup = Setup()
    setup.report(1, resource=resource, node=node)
    assert setup.answers[1].code == p.NOT_YOURS
    setup.flush()
    assert setup.backend.writes == []


def test_a_state_of_another_nodes_device_is_refused_too():
    setup = Setup()
    setup.state(1, node="board-2")
    assert setup.answers[1].code == p.NOT_YOURS


def test_a_device_that_is_nowhere_is_nobodys():
    setup = Setup(device(nodeName=""), model())
    setup.report(1, node="")
    setup.report(2, node="board-1")
    assert [each.code for each in setup.answers.values()] == [p.NOT_YOURS, p.NOT_YOURS]


def test_what_does_not_fit_the_model_is_refused_by_itself():
    setup = Setup()
    setup.report(1, "hue", 1)
    setup.report(2, "level", "forty")
    setup.report(3, "level", 40)
    assert setup.answers[1] == Refusal(p.UNKNOWN, f"{RESOURCE} has no property hue")
    assert setup.answers[2] == Refusal(p.INVALID, "level: a str is not of type INT")
    setup.flush()
    assert setup.answers[3] is None


def test_reports_of_a_device_that_is_not_valid_since_before_the_start():
    setup = Setup(device(properties="none"), model())
    setup.report(1, "anything", 2.5)
    setup.report(2, "power", True, node="board-2")
    setup.flush()
    assert setup.answers[1] is None
    assert setup.answers[2].code == p.NOT_YOURS
    assert setup.status["twins"][0]["reported"] == {
        "value": "2.5",
        "metadata": {"timestamp": "1000", "type": "float"},
    }


def test_twins_of_properties_that_are_gone_go_with_the_next_write():
    setup = Setup()
    setup.report(1, "level", 1)
    setup.report(2, "power", True)
    setup.flush()
    of_model = [each for each in model()["spec"]["properties"] if each["name"] == "level"]
    setup.backend.put(model(properties=of_model), device(properties=[]))
    setup.report(3, "level", 2)
    setup.flush()
    assert [each["propertyName"] for each in setup.status["twins"]] == ["level"]


def test_a_device_deleted_meanwhile():
    setup = Setup()
    setup.report(1)
    setup.backend.delete(LAMP)
    assert setup.flush()
    assert setup.answers[1].code == p.UNKNOWN


def test_a_write_that_fails_acknowledges_nothing_and_is_tried_again_with_what_came_since(caplog):
    setup = Setup(device(), device("pump"), model())
    setup.backend.broken = {LAMP}
    setup.report(1, "level", 1, observed="1")
    setup.state(2, "online", 1_795_000_000_000)
    setup.report(3, "level", 9, resource="default/device/pump")
    with caplog.at_level(logging.INFO):
        assert not setup.flush()
        assert not setup.flush()
    assert setup.answers == {3: None}  # the other device does not wait
    failed = [each for each in caplog.records if each.levelname == "ERROR"]
    assert [str(each.pairs["key"]) for each in failed] == ["Device default/lamp"]
    assert "no space" in str(failed[0].pairs["error"])
    setup.report(4, "level", 2)
    setup.report(5, "power", True)
    setup.state(6, "offline", 1_795_000_000_001, "gone")
    setup.backend.broken = set()
    with caplog.at_level(logging.INFO):
        assert setup.flush()
    assert setup.answers == dict.fromkeys((3, 1, 2, 4, 5, 6))
    twins = {each["propertyName"]: each for each in setup.status["twins"]}
    assert twins["level"]["reported"]["value"] == "2"
    assert twins["level"]["observedDesired"]["value"] == "1"
    assert setup.status["state"] == "offline"
    assert setup.status["lastOnlineTime"].startswith("2026-")
    assert "written again" in caplog.text


def test_events_are_kept_in_order_and_acknowledged_when_they_are():
    setup = Setup()
    setup.take(Event(1, "a/b", 5, b"x"))
    setup.backend.broken = {None}
    assert not setup.flush()
    setup.take(Event(2, "a/b", 6, b"y"))
    assert setup.answers == {}
    setup.backend.broken = set()
    assert setup.flush()
    assert [each.payload for each in setup.backend.events] == [b"x", b"y"]
    assert setup.backend.events[0].node == "board-1"
    assert setup.answers == {1: None, 2: None}


def test_events_are_refused_where_there_is_no_place_for_them():
    setup = Setup()
    setup.backend.has_events = False
    setup.take(Event(1, "a/b", 5, b"x"))
    assert setup.flush()
    assert setup.answers[1].code == p.UNSUPPORTED and "no place" in setup.answers[1].reason
    assert setup.backend.events == []


def test_run_gathers_writes_and_retries(monkeypatch):
    monkeypatch.setattr(upstream_module, "RETRY_SECONDS_MIN", 0.001)
    setup = Setup()

    async def scenario():
        running = asyncio.create_task(setup.controller.run())
        setup.backend.broken = {LAMP}
        setup.report(1)
        while len(setup.backend.writes) < 3:
            await asyncio.sleep(0.001)
        assert setup.answers == {}
        setup.backend.broken = set()
        while 1 not in setup.answers:
            await asyncio.sleep(0.001)
        running.cancel()

    asyncio.run(asyncio.wait_for(scenario(), 20))
    assert setup.answers == {1: None}


def test_reports_that_come_during_a_write_are_in_the_next():
    setup = Setup()

    async def scenario():
        setup.backend.hold = asyncio.Event()
        setup.report(1, value=1)
        first = asyncio.create_task(setup.controller.flush())
        await asyncio.sleep(0)
        setup.report(2, value=2)
        setup.backend.hold.set()
        await first
        assert setup.answers == {1: None}
        await setup.controller.flush()

    asyncio.run(scenario())
    assert setup.answers == {1: None, 2: None}
    assert setup.status["twins"][0]["reported"]["value"] == "2"


def test_an_older_write_that_fails_does_not_undo_what_came_during_it():
    setup = Setup()

    async def scenario():
        setup.backend.hold = asyncio.Event()
        setup.backend.broken = {LAMP}
        setup.report(1, value=1, observed="40")
        setup.state(2, "online", 1_795_000_000_000)
        first = asyncio.create_task(setup.controller.flush())
        await asyncio.sleep(0)
        setup.report(3, value=3)
        setup.state(4, "offline", 1_795_000_001_000)
        setup.report(5, "power", True)
        setup.backend.hold.set()
        assert not await first
        setup.backend.broken = set()
        assert await setup.controller.flush()

    asyncio.run(scenario())
    assert setup.answers == dict.fromkeys(range(1, 6))
    twins = {each["propertyName"]: each for each in setup.status["twins"]}
    assert twins["level"]["reported"]["value"] == "3"
    assert twins["level"]["observedDesired"]["value"] == "40"
    assert twins["power"]["reported"]["value"] == "true"
    assert setup.status["state"] == "offline"
    assert setup.status["lastOnlineTime"].startswith("2026-")


def test_a_refusal_by_a_board_is_told_to_the_owner_of_the_device():
    setup = Setup()
    setup.controller.refused("board-1", RESOURCE, Refusal(p.INVALID, "no such register"))
    assert [str(each) for each in setup.backend.complaints[LAMP]] == [
        "node board-1 refused it: no such register"
    ]


def test_the_controller_passes_on_what_a_node_should_hold():
    setup = Setup()
    told = []
    setup.controller.watch(told.append)
    setup.backend.put(device(properties=[]))
    assert told == ["board-1"]
    assert list(setup.controller.desired("board-1").items) == [RESOURCE]


def test_what_another_bridge_has_had_reports_of_since_is_not_written():
    setup = Setup()
    setup.report(1, value=1)
    setup.backend.nodes.sessions["board-1"] = 1
    setup.report(2, "power", True)
    setup.flush()
    assert list(setup.backend.writes[0][LAMP].twins) == ["power"]
    assert setup.backend.writes[0][LAMP].session == 1
    assert setup.answers == {2: None}


def test_a_lost_report_is_neither_acknowledged_nor_tried_again():
    setup = Setup()
    setup.backend.lost.add(LAMP)
    setup.report(1)
    assert setup.flush() and setup.flush()
    assert setup.answers == {} and len(setup.backend.writes) == 1


def test_a_device_waits_for_its_turn_and_the_others_do_not():
    setup = Setup()

    async def run():
        setup.backend.put(device("other"))
        setup.backend.delays[LAMP] = 1000.0
        task = asyncio.create_task(setup.controller.run())
        setup.report(1, value=1)
        setup.report(2, value=2)
        setup.report(3, value=7, resource="default/device/other")
        await until(lambda: 3 in setup.answers)
        assert not {1, 2} & set(setup.answers)
        setup.backend.delays[LAMP] = 0.0
        setup.report(4, value=3)
        await until(lambda: 4 in setup.answers)
        assert setup.backend.writes[-1][LAMP].twins["level"].value == "3"
        assert len(setup.backend.writes) == 2
        task.cancel()

    asyncio.run(run())


def test_what_waits_for_its_turn_is_not_looked_at_for_every_report():
    setup = Setup()
    names = [f"lamp-{i}" for i in range(100)]
    keys = {Key(DEVICE, "default", name) for name in names}
    looked = []

    async def run():
        setup.backend.put(*(device(name) for name in names))
        setup.backend.delays = dict.fromkeys(keys, 1000.0)
        delay = setup.backend.write_delay
        setup.backend.write_delay = lambda key: looked.append(key) or delay(key)
        task = asyncio.create_task(setup.controller.run())
        for seq, name in enumerate(names * 5, 1):
            setup.report(seq, value=seq % 100, resource=f"default/device/{name}")
            await asyncio.sleep(0)
        setup.report(1000, value=7)
        await until(lambda: 1000 in setup.answers)
        task.cancel()

    asyncio.run(run())
    assert list(setup.answers) == [1000]
    # Once for each report; and all of them a few times, when there was something to write.
    assert len(looked) < 500 + 10 * 101


def test_a_write_takes_so_many_devices_at_most(monkeypatch):
    monkeypatch.setattr(upstream_module, "BATCH_MAX", 2)
    setup = Setup()

    async def run():
        names = [f"lamp-{i}" for i in range(5)]
        setup.backend.put(*(device(name) for name in names))
        for seq, name in enumerate(names, 1):
            setup.report(seq, resource=f"default/device/{name}")
        task = asyncio.create_task(setup.controller.run())
        await until(lambda: len(setup.answers) == 5)
        assert [len(each) for each in setup.backend.writes] == [2, 2, 1]
        task.cancel()

    asyncio.run(run())


def test_a_report_for_anothers_device_is_told_its_owner():
    setup = Setup()
    setup.report(1, node="board-2")
    ((key, reason, text, warning),) = setup.backend.told
    assert key == LAMP and reason == "ReportedByOtherNode" and "board-2" in text and warning
    setup.report(2, node="board-2", resource="default/device/nobody")
    assert len(setup.backend.told) == 1
