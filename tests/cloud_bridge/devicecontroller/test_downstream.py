"""Which Devices each node should hold, as objects come, change, break and go."""

import pytest
from memory_backend import MemoryBackend, device, model

from cloud_bridge.backends.base import DEVICE, DEVICE_MODEL, Key
from cloud_bridge.devicecontroller import downstream as downstream_module
from cloud_bridge.devicecontroller.downstream import Downstream

LAMP = Key(DEVICE, "default", "lamp")
MODEL = Key(DEVICE_MODEL, "default", "lamp-model")
RESOURCE = "default/device/lamp"


class Setup:
    def __init__(self, *bodies):
        self.backend = MemoryBackend()
        self.told = []
        self.backend.put(*bodies)
        self.start()

    def start(self):
        self.downstream = Downstream(self.backend)
        self.downstream.watch(self.told.append)
        self.downstream.start()
        self.told.clear()

    def versions(self, node="board-1"):
        return {key: each.version for key, each in self.downstream.desired(node).items.items()}

    def errors(self, key=LAMP):
        return [str(each) for each in self.backend.complaints.get(key, ())]


def test_what_is_there_at_the_start_is_taken_over():
    setup = Setup(device(), model())
    assert list(setup.versions()) == [RESOURCE]
    assert setup.versions("board-2") == {}
    assert setup.backend.complaints == {}


def test_a_device_that_changes_tells_its_node_once():
    setup = Setup(device(), model())
    before = setup.versions()
    setup.backend.put(device(properties=[]))
    assert setup.told == ["board-1"]
    assert setup.versions() != before
    setup.backend.put(device(properties=[]))
    setup.backend.changed(LAMP, MODEL)
    assert setup.told == ["board-1"]


def test_a_device_that_moves_leaves_one_node_and_joins_the_other():
    setup = Setup(device(), model())
    setup.backend.put(device(nodeName="board-2"))
    assert sorted(setup.told) == ["board-1", "board-2"]
    assert setup.versions() == {}
    assert list(setup.versions("board-2")) == [RESOURCE]
    setup.backend.put(device(nodeName=""))
    assert setup.versions("board-2") == {}
    assert setup.told[2:] == ["board-2"]


def test_a_device_that_is_deleted_is_gone_from_its_node():
    setup = Setup(device(), model())
    setup.backend.delete(LAMP)
    assert setup.told == ["board-1"]
    assert setup.versions() == {}
    assert setup.downstream.owner(LAMP) is None
    setup.backend.changed(LAMP)
    assert setup.told == ["board-1"]


def test_a_model_that_changes_reaches_the_devices_that_refer_to_it():
    setup = Setup(device(), device("pump", deviceModelRef={"name": "other"}), model())
    before = setup.versions()
    setup.backend.put(model(protocolConfigData={"timeout": 1}))
    assert setup.told == ["board-1"]
    assert setup.versions() != before
    setup.backend.put(device(deviceModelRef={"name": "other"}))
    setup.told.clear()
    setup.backend.put(model(protocolConfigData={"timeout": 2}))
    assert setup.told == []


def test_a_device_waits_for_its_model():
    setup = Setup(device())
    assert setup.errors() == ["spec.deviceModelRef.name: there is no DeviceModel default/lamp-model"]
    assert setup.versions() == {}
    setup.backend.put(model())
    assert setup.errors() == []
    assert list(setup.versions()) == [RESOURCE]


def test_a_device_that_becomes_invalid_stays_what_it_was():
    setup = Setup(device(), model())
    before = setup.versions()
    setup.backend.put(device(nodeName="board-2", properties=[{"name": "nonsense"}]))
    assert setup.versions() == before
    assert setup.downstream.owner(LAMP) == "board-1"
    assert len(setup.errors()) == 1
    assert setup.told == []
    setup.backend.put(device())
    assert setup.errors() == []
    assert setup.versions() == before


def test_a_model_that_becomes_invalid_or_goes_leaves_its_devices_as_they_were():
    setup = Setup(device(), model())
    before = setup.versions()
    setup.backend.put(model(properties=[{"name": "power", "type": "nonsense"}]))
    assert len(setup.errors(MODEL)) == 2
    assert setup.versions() == before
    setup.backend.put(model(), device("pump"))
    assert setup.errors(MODEL) == []
    setup.backend.delete(MODEL)
    assert setup.versions().keys() == {RESOURCE, "default/device/pump"}
    assert setup.errors() == ["spec.deviceModelRef.name: there is no DeviceModel default/lamp-model"]


def test_a_device_of_a_model_that_was_never_valid():
    setup = Setup(device(), model(properties="none"))
    assert setup.errors() == ["spec.deviceModelRef.name: DeviceModel default/lamp-model is not valid"]


def test_a_model_that_is_not_valid_any_more_still_serves_new_devices():
    setup = Setup(device(), model())
    setup.backend.put(model(properties="none"))
    setup.backend.put(device("pump"))
    assert setup.versions().keys() == {RESOURCE, "default/device/pump"}


def test_after_a_restart_what_is_not_valid_is_kept_as_the_board_has_it():
    setup = Setup(device(), model())
    setup.backend.put(device(properties=[{"name": "nonsense"}]))
    setup.start()
    wanted = setup.downstream.desired("board-1")
    assert wanted.items == {}
    assert list(wanted.kept) == [RESOURCE]
    assert setup.downstream.owner(LAMP) == "board-1"
    assert setup.downstream.device(LAMP) is None
    setup.backend.put(device())
    wanted = setup.downstream.desired("board-1")
    assert list(wanted.items) == [RESOURCE]
    assert list(wanted.kept) == []
    assert setup.told == [None]


def test_what_was_kept_can_be_deleted():
    setup = Setup(device(properties="none"), model())
    assert list(setup.downstream.desired("x").kept) == [RESOURCE]
    setup.backend.delete(LAMP)
    assert list(setup.downstream.desired("x").kept) == []
    assert setup.told == [None]  # nobody knows which board has it


@pytest.mark.parametrize("spec", [None, 5, {"nodeName": 5}])
def test_a_device_in_pieces_belongs_to_nobody(spec):
    setup = Setup({**device(), "spec": spec})
    assert setup.errors()
    assert setup.downstream.owner(LAMP) is None


def test_whether_all_is_synced_is_passed_on_and_told_to_all():
    setup = Setup(device(), model())
    assert setup.downstream.desired("board-1").synced
    setup.backend.is_synced = False
    setup.backend.changed()
    assert not setup.downstream.desired("board-1").synced
    setup.backend.is_synced = True
    setup.backend.changed()
    assert setup.told == [None, None]


def test_a_node_has_room_for_so_many_devices_and_who_was_there_stays(monkeypatch):
    monkeypatch.setattr(downstream_module, "DEVICES_MAX", 2)
    setup = Setup(device("b"), device("c"), model())
    setup.backend.put(device("a"))
    a = Key(DEVICE, "default", "a")
    assert setup.versions().keys() == {"default/device/b", "default/device/c"}
    assert setup.errors(a) == ["spec.nodeName: node board-1 has 2 devices, there is no room for more"]
    setup.backend.put(device("b", properties=[]))  # is there already
    assert setup.versions().keys() == {"default/device/b", "default/device/c"}
    setup.backend.put(device("b", nodeName="board-2"))
    assert setup.versions().keys() == {"default/device/a", "default/device/c"}
    assert setup.errors(a) == []


def test_who_waits_for_room_can_go_away_or_elsewhere(monkeypatch):
    monkeypatch.setattr(downstream_module, "DEVICES_MAX", 1)
    setup = Setup(device("a"), device("b"), device("c"), model())
    setup.backend.put(device("b", nodeName="board-2"))
    assert list(setup.versions("board-2")) == ["default/device/b"]
    setup.backend.delete(Key(DEVICE, "default", "c"))
    setup.backend.delete(Key(DEVICE, "default", "a"))
    assert setup.versions() == {}
    setup.backend.put(device("d"))
    assert list(setup.versions()) == ["default/device/d"]
