"""Router: from Rule and RuleEndpoint to the topics that a node subscribes to."""

import cbor2
import pytest
import yaml
from memory_backend import MemoryBackend

from cloud_bridge.backends.base import RULE, Key, dotted
from cloud_bridge.devicecontroller.controller import DeviceController
from cloud_bridge.resources import Refusal
from cloud_bridge.router import RESOURCE, RULES_MAX, TOPIC_SIZE_MAX, Router
from motelet import eventrules, mqtt

ENDPOINTS = """
apiVersion: rules.kubeedge.io/v1
kind: RuleEndpoint
metadata: {name: my-eventbus, namespace: default}
spec: {ruleEndpointType: eventbus, properties: {}}
---
apiVersion: rules.kubeedge.io/v1
kind: RuleEndpoint
metadata: {name: my-rest, namespace: default}
spec: {ruleEndpointType: rest, properties: {}}
"""
TEMPLATE = """
apiVersion: rules.kubeedge.io/v1
kind: Rule
metadata: {name: NAME, namespace: default}
spec:
  source: SOURCE
  sourceResource: {"topic": "TOPIC", "node_name": "NODE"}
  target: my-rest
  targetResource: {"resource": "http://example.invalid/"}
"""


def rule(name="r", topic="test", node="board-1", source="my-eventbus"):
    text = TEMPLATE
    for word, value in (("NAME", name), ("TOPIC", topic), ("NODE", node), ("SOURCE", source)):
        text = text.replace(word, value)
    return text


class World:
    def __init__(self, *texts):
        self.backend = MemoryBackend()
        self.put(ENDPOINTS, *texts)
        devices = DeviceController(self.backend)
        devices.start()
        self.router = Router(devices, self.backend)
        self.told = []
        self.router.watch(self.told.append)
        self.router.start()

    def put(self, *texts):
        self.backend.put(*(body for text in texts for body in yaml.safe_load_all(text)))

    def topics(self, node="board-1"):
        content = self.router.desired(node).items.get(RESOURCE)
        return None if content is None else cbor2.loads(content.data)


def test_the_limits_and_the_resource_are_those_of_the_board():
    assert (RESOURCE, RULES_MAX) == (eventrules.RULES, eventrules.RULES_MAX)
    assert TOPIC_SIZE_MAX == mqtt.TOPIC_SIZE_MAX


def test_a_rule_becomes_a_topic_of_its_node_and_goes_with_the_rule():
    world = World(rule())
    assert world.topics() == ["default/test"]
    assert world.topics("board-2") is None
    before = world.router.desired("board-1").items[RESOURCE].version
    world.told.clear()
    world.put(rule("s", "a/+/b/#", "board-1"))
    assert world.topics() == ["default/a/+/b/#", "default/test"]
    assert world.told == ["board-1"]
    world.put(rule("s", "other", "board-2"))
    assert world.topics() == ["default/test"]
    assert world.topics("board-2") == ["default/other"]
    assert world.router.desired("board-1").items[RESOURCE].version == before
    world.backend.delete(Key(RULE, "default", "r"))
    assert world.topics() is None


def test_rules_from_other_endpoints_need_nothing_of_the_edge():
    world = World(rule(source="my-rest", topic="/a", node=""))
    assert world.topics() is None
    assert not world.backend.complaints


def test_a_rule_that_would_have_the_edge_publish_is_refused():
    world = World(rule(source="my-rest").replace("target: my-rest", "target: my-eventbus"))
    assert "only CloudCore's Router publishes at the edge" in str(world.backend.complaints)
    world.put(rule(source="my-rest"))
    assert not world.backend.complaints
    assert world.topics() is None


def test_a_rule_before_its_endpoint_takes_effect_with_it():
    world = World(rule(source="later"))
    assert world.topics() is None
    assert "there is no RuleEndpoint later" in str(world.backend.complaints)
    assert RESOURCE in world.router.desired("board-1").kept, "nobody knows what a board subscribed to for it"
    world.put(ENDPOINTS.split("---", maxsplit=1)[0].replace("my-eventbus", "later"))
    assert world.topics() == ["default/test"]
    assert RESOURCE not in world.router.desired("board-1").kept
    assert not world.backend.complaints


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (rule(topic=""), "spec.sourceResource.topic"),
        (rule(topic="x" * 513), "spec.sourceResource.topic"),
        (rule(topic="a/b+"), "spec.sourceResource.topic"),
        (rule(topic="a/#/b"), "spec.sourceResource.topic"),
        (rule(topic="a#"), "spec.sourceResource.topic"),
        (rule(node="No Node"), "spec.sourceResource.node_name"),
        (rule(source="nobody"), "spec.source"),
        (rule().replace("sourceResource:", "other:"), "spec.sourceResource.node_name"),
        (rule().partition("spec:")[0] + "spec: 5\n", "spec"),
    ],
)
def test_a_rule_that_is_not_valid_is_named_and_what_it_was_stays(bad, field):
    world = World(rule(), rule("good", "good"))
    world.put(bad)
    ((key, errors),) = world.backend.complaints.items()
    assert key.name == "r"
    assert field in [dotted(error.path) for error in errors]
    assert world.topics() == ["default/good", "default/test"]
    world.put(rule(topic="new"))
    assert world.topics() == ["default/good", "default/new"]
    assert not world.backend.complaints


def test_the_topics_of_a_node_are_bounded():
    world = World(*(rule(f"r{n:02}", f"t{n}") for n in range(RULES_MAX + 1)))
    assert len(world.topics()) == RULES_MAX
    assert f"r{RULES_MAX:02}" in str(world.backend.complaints)


def test_refusals_go_to_whom_they_concern(caplog):
    world = World(rule())
    world.router.refused("board-1", RESOURCE, Refusal(5, "too much"))
    assert "rules refused" in caplog.text
