"""The stand-in and the tests on it are shown to catch what they are for: one planted fault each."""

import pytest
import test_backend as scenarios
from websockets.exceptions import ConnectionClosed

from cloud_bridge.backends.cloudcore import doubts, link, node, objects, session
from motelet.tools.load.board import BridgeError

_hurry = scenarios._hurry


def caught(scenario, tmp_path, caplog, monkeypatch):
    """Run a scenario that has to fail now; how it fails does not matter."""
    monkeypatch.setattr(scenarios.board_client, "SECONDS_MAX", 1.5)
    with pytest.raises((AssertionError, BridgeError, TimeoutError, ConnectionClosed)):
        scenario(tmp_path, caplog, monkeypatch)


def test_no_acknowledgement(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(session.Session, "acknowledge", lambda self, message: None)
    caught(scenarios.test_a_board_gets_its_device_and_its_reports_arrive, tmp_path, caplog, monkeypatch)


def test_an_acknowledgement_before_the_mirror_is_durable(tmp_path, caplog, monkeypatch):
    async def keep(self, session, message):
        session.acknowledge(message)
        self.kick()
        await self._node.keep(message)

    monkeypatch.setattr(link.Link, "_keep", keep)
    caught(scenarios.test_nothing_is_acknowledged_that_the_disk_did_not_take, tmp_path, caplog, monkeypatch)


def test_no_keepalives(tmp_path, caplog, monkeypatch):
    whole = session.Session.say

    def say(self, operation, *more):
        if operation != "keepalive":
            whole(self, operation, *more)

    monkeypatch.setattr(session.Session, "say", say)
    caught(scenarios.test_a_session_lasts, tmp_path, caplog, monkeypatch)


def test_dispatch_on_the_source(tmp_path, caplog, monkeypatch):
    whole = objects.change_of

    def change_of(message, before):
        device = message.type in ("device", "devicemodel")
        return None if device and message.source == "edgecontroller" else whole(message, before)

    monkeypatch.setattr(node, "change_of", change_of)
    name = "test_what_changed_meanwhile_comes_from_edgecontroller_and_what_went_as_a_stub"
    caught(getattr(scenarios, name), tmp_path, caplog, monkeypatch)


def test_a_duplicate_that_is_applied_twice(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(objects, "_newer", lambda known, before: True)
    caught(scenarios.test_duplicates_change_nothing_twice, tmp_path, caplog, monkeypatch)


def test_bad_json_from_the_edge(tmp_path, caplog, monkeypatch):
    whole = session.Session.data_to_send
    monkeypatch.setattr(session.Session, "data_to_send", lambda self: (t := whole(self)) and t[:-3])
    caught(scenarios.test_the_node_is_registered_first_and_kept_alive, tmp_path, caplog, monkeypatch)


def test_the_node_is_not_registered(tmp_path, caplog, monkeypatch):
    from cloud_bridge.backends.cloudcore import registration

    monkeypatch.setattr(registration.Registration, "_ask_node", lambda self: self._begin(""))
    caught(scenarios.test_the_node_is_registered_first_and_kept_alive, tmp_path, caplog, monkeypatch)


def test_what_cloudcore_forgot_is_not_doubted(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(doubts.Doubts, "add", lambda self, resources: None)
    name = "test_what_went_while_its_node_was_deleted_goes_and_the_rest_stays"
    caught(getattr(scenarios, name), tmp_path, caplog, monkeypatch)


def test_silence_is_taken_for_absence(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(doubts.Doubts, "questions", _gone_at_once)
    name = "test_where_cloudcore_never_confirmed_a_report_silence_removes_no_device"
    caught(getattr(scenarios, name), tmp_path, caplog, monkeypatch)


def _gone_at_once(self, known, busy):
    for resource in tuple(self._doubts):
        self._settle(resource, False)
    return iter(())
