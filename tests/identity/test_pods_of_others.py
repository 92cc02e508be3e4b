"""Pods, their ConfigMaps, Secrets and logs: a board sees, and says things of, those of its own node only."""

import asyncio

import cbor2
import pytest
import yaml

from cloud_bridge.backends.base import POD, Key
from cloud_bridge.backends.manifests import Manifests
from cloud_bridge.edgecontroller.controller import EdgeController
from cloud_bridge.resources import PodReport
from motelet import protocol as p

INFO = {"pods": 4, "heap": 100_000, "mpy": 0x306}  # bytecode of version 6.3


def pod(name, node):
    volume = {"name": "v", "secret": {"secretName": f"secret-{name}"}}
    container = {
        "name": "main",
        "image": "micropython",
        "command": ["main"],
        "envFrom": [{"configMapRef": {"name": f"config-{name}"}}],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "default", "name": name},
        "spec": {"nodeName": node, "containers": [container], "volumes": [volume]},
    }


def data(kind, name):
    metadata = {"namespace": "default", "name": name}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "data": {"key": "c2VjcmV0"}}


def running(uid):
    return cbor2.dumps({"uid": uid, "containers": [[1, True, 0, 0, 0, 0, "", ""]]})


@pytest.fixture
def world(tmp_path):
    """Runs a scenario with both boards' pods in a folder of YAML, and the boards connected."""

    async def run(scenario):
        bodies = []
        for name, node in (("mine", "board-1"), ("theirs", "board-2")):
            bodies += [pod(name, node), data("ConfigMap", f"config-{name}"), data("Secret", f"secret-{name}")]
        (tmp_path / "pods.yaml").write_text(yaml.safe_dump_all(bodies))
        backend = Manifests(tmp_path)
        await backend.start()
        controller = EdgeController(backend)
        controller.start()
        for node in ("board-1", "board-2"):
            controller.opened(node, INFO, "10.0.0.1")
        try:
            scenario(backend, controller)
            await controller.flush()
        finally:
            await backend.stop()

    return lambda scenario: asyncio.run(run(scenario))


def test_down_a_board_gets_its_own_pods_with_what_they_refer_to_and_none_else(world):
    def scenario(backend, controller):
        for node, mine, other in (("board-1", "mine", "theirs"), ("board-2", "theirs", "mine")):
            assert controller._downstream.problems(node) == {}
            items = controller.desired(node).items
            said = " ".join(items) + repr([cbor2.loads(content.data) for content in items.values()])
            assert f"default/pod/{mine}" in items and f"secret-{mine}" in said
            assert other not in said

    world(scenario)


def test_up_a_board_cannot_speak_of_anothers_pod(world):
    def scenario(backend, controller):
        theirs = backend.get(Key(POD, "default", "theirs"))
        for name, uid in (("theirs", theirs["metadata"]["uid"]), ("nobodys", "uid")):
            answers = []
            controller.take("board-1", PodReport(1, f"default/pod/{name}", running(uid)), answers.append)
            # The same answer whether it exists or not.
            assert answers[0].code == p.UNKNOWN
            assert answers[0].reason == f"default/pod/{name} is not a pod of this node"
        taken = []
        report = PodReport(1, "default/pod/theirs", running(theirs["metadata"]["uid"]))
        controller.take("board-2", report, taken.append)
        assert taken == []  # until it is written

    world(scenario)


def test_logs_are_asked_of_the_node_that_has_the_pod(world):
    def scenario(backend, controller):
        assert controller.log_of("default", "theirs", "")[0] == "board-2"
        assert controller.log_of("default", "mine", "main")[0] == "board-1"

    world(scenario)
