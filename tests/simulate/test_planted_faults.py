"""Defects planted in the board or the bridge on purpose: the simulation finds each, or it proves nothing."""

import re
from dataclasses import replace

import pytest

from cloud_bridge.cloudhub.delivery import Delivery
from cloud_bridge.cloudhub.intake import Intake
from cloud_bridge.cloudhub.session import Session
from cloud_bridge.devicecontroller.upstream import Upstream
from cloud_bridge.resources import Desired
from motelet import protocol, uploads
from motelet.device import INFLIGHT
from motelet.devicetwin import DeviceTwin, spec
from motelet.edged import WAITING, kept, lifecycle
from motelet.edgehub import EdgeHub
from motelet.mappers import modbusrare
from motelet.metamanager import MetaManager
from motelet.tools.simulate.simulation import Scale, Simulation

SCALE = Scale(minutes=12, gateways=4, fault_every=20)
SEEDS = range(6)


def caught(seeds=SEEDS):
    """What the first seed that finds something says, None if none does."""
    for seed in seeds:
        outcome = Simulation(seed, SCALE).run()
        if outcome.failure is not None:
            return outcome.failure
    return None


@pytest.fixture
def plant(monkeypatch):
    """Replace a method or function by fault(real, *arguments)."""

    def replace_by(owner, name, fault):
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args: fault(real, *args))

    return replace_by


@pytest.mark.planted
def test_version_not_compared(plant):
    def differs(real, self, resource):
        return resource not in self._held and real(self, resource)

    plant(Delivery, "_differs", differs)
    assert " holds " in caught()


@pytest.mark.planted
def test_window_not_bounded(plant):
    plant(Delivery, "open", lambda real, self, _window, size: real(self, 10**6, size))
    assert "messages under way to it, at most 8" in caught()


@pytest.mark.planted
def test_window_of_the_board_not_bounded(plant):
    def send(real, self):
        self._tx_acked, kept = self._tx_seq, self._tx_acked
        done = real(self)
        self._tx_acked = kept
        return done

    plant(EdgeHub, "_send", send)
    assert "messages under way from it, at most 8" in caught()


@pytest.mark.planted
def test_resume_digest_ignored(plant):
    def compare(real, self):
        if self._digest is not None and self._desired is not None:
            self._digest = None
            self._delivery.start({key: each.version for key, each in self._desired.items.items()})

    plant(Session, "_compare", compare)
    assert " holds None, the newest is " in caught()


@pytest.mark.planted
def test_queue_unbounded(monkeypatch):
    monkeypatch.setattr(uploads, "UPLOADS_MAX", 10**9)
    assert "messages in its flash, at most 64" in caught()


@pytest.mark.planted
def test_a_retransmitted_command_applied_twice(plant):
    plant(spec, "once", lambda real, twin, prop: True)
    assert "a command, for the 2. time" in caught()


@pytest.mark.planted
def test_what_a_device_holds_not_compared(plant):
    plant(modbusrare, "held", lambda real, prop, data: False)
    assert "does not read back" in caught()


@pytest.mark.planted
def test_acknowledged_before_the_backend_took_it(plant):
    def next_message(real, self):
        self._open.clear()
        return real(self)

    def settle(real, self, seq, refusal):
        self._open.setdefault(seq)
        real(self, seq, refusal)

    plant(Intake, "next_message", next_message)
    plant(Intake, "settle", settle)
    assert "was acknowledged, the backend" in caught()


@pytest.mark.planted
def test_acknowledged_before_flash_holds_it(plant):
    late = {}

    def put(real, self, resource, message, start, end):
        late.setdefault(self, []).append((resource, bytes(memoryview(message)[start:end])))

    def room(real, self, task):
        # The next time that the board does something, and not before the acknowledgement is out.
        for resource, value in late.pop(self, ()):
            self.store.put(resource, value)
            self.changed(resource)
        return real(self, task)

    plant(MetaManager, "put", put)
    plant(MetaManager, "run", lambda real, self, task: flushing(real, room, self, task))
    assert "was acknowledged, the board holds " in caught()


def flushing(real, room, meta, task):
    """MetaManager's task, which also writes what is late."""
    for _ in real(meta, task):
        room(lambda self, task: True, meta, task)
        yield


@pytest.mark.planted
def test_a_write_that_failed_taken_for_done(plant):
    plant(Upstream, "_settle", lambda real, self, key, pending, failure: real(self, key, pending, None))
    assert "was acknowledged, the backend" in caught()


@pytest.mark.planted
def test_what_a_lost_link_had_under_way_forgotten(plant):
    def link_lost(real, self):
        for item in self.items:
            item.ref = 0
            item.flags &= ~INFLIGHT

    plant(DeviceTwin, "link_lost", link_lost)
    assert re.search("its twin|its state is", caught())


@pytest.mark.planted
def test_silence_never_noticed(monkeypatch):
    monkeypatch.setattr(protocol, "DEAD_MS", 10**9)
    assert re.search(
        "10 minutes after .*(not in step with the bridge|not every board has a session)", caught()
    )


@pytest.mark.planted
def test_forgotten_before_every_list_was_read(plant):
    def desire(real, self, desired):
        real(self, replace(desired, synced=True) if isinstance(desired, Desired) else desired)

    plant(Delivery, "desire", desire)
    assert "was made to forget" in caught()


@pytest.mark.planted
def test_what_had_no_room_never_offered_again(plant):
    plant(Delivery, "offer_again", lambda real, self: False)
    assert " the newest is " in caught()


@pytest.mark.planted
def test_what_a_restart_leaves_of_a_pod_forgotten(plant):
    plant(kept, "restore", lambda real, edged, pod: False)
    assert re.search("restarts are stored after|is started although it has succeeded", caught())


@pytest.mark.planted
def test_an_application_started_beside_itself(plant):
    def drive(real, edged, pod, container, policy):
        if container.stopping:
            container.state, container.run, container.due, container.stopping = WAITING, None, None, 0
        real(edged, pod, container, policy)

    plant(lifecycle, "_drive", drive)
    assert "runs twice" in caught()


@pytest.mark.slow
def test_without_a_defect_nothing_is_found():
    assert caught(SEEDS[:2]) is None
