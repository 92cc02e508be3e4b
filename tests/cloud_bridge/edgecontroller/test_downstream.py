"""What a node is to hold, as pods and what they refer to come, change and go."""

import cbor2
import pytest
from memory_backend import MemoryBackend

from cloud_bridge.backends.base import CONFIG_MAP, POD, SECRET, Key, RefusedError
from cloud_bridge.edgecontroller.downstream import GRACE, SOURCES, Downstream

APP = Key(POD, "default", "app")
CONF = Key(CONFIG_MAP, "default", "conf")
TOKEN = "default/secret/app:token"


class Backend(MemoryBackend):
    """With what pods need; nobody makes tokens here."""

    def refer(self, kind, keys):
        self.referred = {**getattr(self, "referred", {}), kind: set(keys)}

    async def request_token(self, request):
        raise RefusedError("no")


def config_map(name="conf", **data):
    metadata = {"name": name, "namespace": "default"}
    return {"kind": CONFIG_MAP, "metadata": metadata, "data": data or {"text": "one"}}


def pod(
    name="app", uid="u1", volumes=None, status=None, namespace="default", image="micropython", **metadata
):
    if volumes is None:
        volumes = [{"name": "conf", "configMap": {"name": "conf"}}]
    mounts = [{"name": each["name"], "mountPath": f"/{each['name']}"} for each in volumes]
    container = {"name": "main", "image": image, "command": ["main"], "volumeMounts": mounts}
    return {
        "kind": POD,
        "metadata": {"name": name, "namespace": namespace, "uid": uid, **metadata},
        "spec": {"nodeName": "board", "containers": [container], "volumes": volumes},
        "status": status or {},
    }


class World:
    """`downstream` of a board that is connected."""

    def __init__(self, *bodies):
        self.backend = Backend()
        self.told = []
        self.downstream = Downstream(self.backend, None, self.told.append)
        self.downstream.start()
        self.backend.put(*bodies)
        self.connect()

    def connect(self):
        self.downstream.opened("board", {"mpy": SOURCES})

    def items(self):
        found = self.downstream.desired("board").items
        return {resource: cbor2.loads(content.data) for resource, content in found.items()}

    @property
    def kept(self):
        return self.downstream.desired("board").kept


GOING = {"deletionTimestamp": "2026-01-01T00:00:00Z", GRACE: 7}


def test_a_pod_that_is_to_go_stays_what_it_is_although_its_config_map_goes_first():
    world = World(config_map(), pod())
    before = world.items()["default/pod/app"]
    world.backend.put(pod(**GOING))
    world.backend.delete(CONF)
    assert world.items() == {"default/pod/app": {**before, GRACE: 7}}
    assert {"default/configmap/conf", TOKEN} <= set(world.kept) and "default/pod/app" not in world.kept
    world.backend.put(pod(**{**GOING, GRACE: 1}))
    assert world.items()["default/pod/app"] == {**before, GRACE: 1}
    world.backend.delete(APP)
    assert world.items() == {} and not world.kept


def test_a_bridge_that_did_not_see_it_before_says_as_much_as_it_can():
    world = World(config_map(), pod(**GOING))
    found = world.items()["default/pod/app"]
    assert found[GRACE] == 7 and found["volumes"] == {"conf": {"text": ["default/configmap/conf", "text"]}}
    world = World(pod(**GOING))
    assert world.items() == {"default/pod/app": {"uid": "u1", "containers": [], GRACE: 7}}
    assert "default/configmap/conf" in world.kept


def test_a_bridge_that_has_not_read_everything_does_not_say_yet_what_a_pod_was():
    world = World()
    world.backend.is_synced = False
    world.backend.put(pod(**GOING))
    assert world.items() == {} and "default/pod/app" in world.kept
    world.backend.is_synced = True
    world.backend.put(config_map())
    assert world.items()["default/pod/app"]["volumes"]
    world.backend.delete(CONF)
    world = World()
    world.backend.is_synced = False
    world.backend.put(pod(**GOING))
    world.backend.is_synced = True
    world.backend.changed()
    assert world.items()["default/pod/app"] == {"uid": "u1", "containers": [], GRACE: 7}


def test_another_one_by_its_name_that_is_to_go_is_not_taken_for_it():
    world = World(config_map(), pod())
    world.backend.delete(CONF)
    world.backend.put(pod(uid="u2", **GOING))
    assert world.items()["default/pod/app"] == {"uid": "u2", "containers": [], GRACE: 7}


def test_a_pod_of_another_uid_takes_its_place():
    world = World(config_map(), pod())
    world.backend.put(pod(uid="u2"))
    assert world.items()["default/pod/app"]["uid"] == "u2"


def test_two_pods_share_a_config_map_of_which_each_wants_other_keys():
    shared = config_map(a="1", b="2", c="3")
    items = [{"key": "b", "path": "deep/b"}]
    other = pod("other", volumes=[{"name": "v", "configMap": {"name": "conf", "items": items}}])
    world = World(shared, other)
    assert world.items()["default/configmap/conf"] == {"b": b"2"}
    first = world.items()["default/pod/other"]
    world.backend.put(pod())
    assert world.items()["default/configmap/conf"] == {"a": b"1", "b": b"2", "c": b"3"}
    assert world.items()["default/pod/other"] == first
    world.backend.delete(APP)
    assert world.items()["default/configmap/conf"] == {"b": b"2"}


@pytest.mark.parametrize("kind", [CONFIG_MAP, SECRET])
def test_what_is_deleted_while_it_is_mounted_stays_with_those_who_have_it(kind):
    source = {"configMap": {"name": "conf"}} if kind == CONFIG_MAP else {"secret": {"secretName": "conf"}}
    data = {"text": "b25l"}
    body = {"kind": kind, "metadata": {"name": "conf", "namespace": "default"}, "data": data}
    world = World(body, pod(volumes=[{"name": "v", **source}]))
    held = f"default/{kind.lower()}/conf"
    assert held in world.items()
    world.backend.delete(Key(kind, "default", "conf"))
    assert world.items() == {} and {held, "default/pod/app"} <= set(world.kept)
    assert "not found" in str(world.downstream.problems("board")[APP])
    world.backend.put(body)
    assert {held, "default/pod/app"} <= world.items().keys() and not world.downstream.problems("board")


def test_a_pod_waits_while_its_token_is_made_and_forgets_it_in_the_end():
    sources = [{"serviceAccountToken": {"path": "token"}}]
    world = World(pod(volumes=[{"name": "own", "projected": {"sources": sources}}]))
    assert world.items() == {} and {TOKEN, "default/pod/app"} <= set(world.kept)
    assert not world.downstream.problems("board")
    wanted = world.downstream.tokens._of
    assert list(wanted) == [APP]
    for body in (pod(status={"phase": "Succeeded"}), pod(**GOING)):
        world.backend.put(pod(volumes=[{"name": "own", "projected": {"sources": sources}}]))
        assert wanted
        world.backend.put(body)
        assert not wanted


# -- whose a board is ----------------------------------------------------------------------------

RUNS = {"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}
OTHER = Key(POD, "other", "theirs")


def theirs(**more):
    return pod("theirs", "u9", volumes=[], namespace="other", **more)


def refused(world):
    return {
        key.namespace
        for key, error in world.downstream.problems("board").items()
        if "one namespace" in str(error)
    }


def test_a_board_is_the_oldest_pods_namespace():
    world = World(theirs(creationTimestamp="2026-01-02"), pod(volumes=[], creationTimestamp="2026-01-01"))
    assert list(world.items()) == ["default/pod/app"] and refused(world) == {"other"}
    world.backend.delete(APP)
    assert list(world.items()) == ["other/pod/theirs"] and not refused(world)


def test_whose_pod_runs_has_the_board_though_it_could_not_be_started_again_now():
    world = World(config_map(), pod())
    world.backend.delete(CONF)  # so the pod runs on, and cannot be sent again
    world.backend.put(theirs(creationTimestamp="2020"))
    assert refused(world) == {"other"} and world.items() == {}
    world = World(pod(status=RUNS), theirs(creationTimestamp="2020"))  # a bridge that starts
    assert refused(world) == {"other"} and world.items() == {}
    world.backend.put(config_map())
    assert refused(world) == {"other"} and "default/pod/app" in world.items()


def test_whose_pod_is_still_ending_has_the_board_until_it_has_gone():
    world = World(config_map(), pod())
    world.backend.put(theirs(), pod(**GOING))
    assert refused(world) == {"other"} and list(world.items()) == ["default/pod/app"]
    world.backend.delete(APP)
    assert not refused(world) and list(world.items()) == ["other/pod/theirs"]


def test_who_never_started_or_has_finished_keeps_nobody_out():
    for body in (pod(image="nginx"), pod(status={"phase": "Succeeded"}), pod()):
        world = World(body, theirs(creationTimestamp="2026"))
        assert not refused(world) and "other/pod/theirs" in world.items()


def test_who_waits_for_something_that_is_being_made_keeps_its_turn():
    sources = [{"serviceAccountToken": {"path": "token"}}]
    world = World()
    world.backend.is_synced = False
    world.backend.put(pod(creationTimestamp="2020"), theirs(creationTimestamp="2026"))
    assert refused(world) == {"other"}  # for its ConfigMap may still come
    world = World(
        pod(volumes=[{"name": "own", "projected": {"sources": sources}}]), theirs(creationTimestamp="2026")
    )
    assert refused(world) == {"other"} and world.items() == {}
