"""The topics that CloudCore's Router subscribes to on nodes, as the Rules that the bridge's Router knows.

CloudCore sends no Rule: it says once to subscribe to ``<namespace of the rule>/<topic>``, and once not to any
more, and never again. So the topics are kept, and shown as a Rule for each and one RuleEndpoint for all.
"""

from collections.abc import Collection
from hashlib import sha256

from cloud_bridge.backends.base import RULE, RULE_ENDPOINT, Body, Key
from cloud_bridge.names import is_label

TOPICS_MAX = 64
"""Topics of one node."""
TOPIC_SIZE_MAX = 512
"""Bytes of a topic with its namespace."""

_ENDPOINT = "eventbus"
_API_VERSION = "rules.kubeedge.io/v1"


class TopicError(Exception):
    """A topic that cannot be subscribed to; the text says why."""


class Rules:
    """The topics of all nodes."""

    def __init__(self) -> None:
        self._topics: dict[str, dict[str, Key]] = {}
        self._bodies: dict[Key, Body] = {}

    def put(self, node: str, topic: str) -> Key:
        """Subscribe; -> the Rule. Raises TopicError."""
        namespace, _, rest = topic.partition("/")
        topics = self._topics.setdefault(node, {})
        if not is_label(namespace) or not rest or len(topic.encode()) > TOPIC_SIZE_MAX:
            raise TopicError(f"not a namespace and a topic of at most {TOPIC_SIZE_MAX} bytes")
        if topic not in topics and len(topics) >= TOPICS_MAX:
            raise TopicError(f"node {node} has {TOPICS_MAX} topics, there is no room for more")
        name = sha256(f"{node} {topic}".encode()).hexdigest()[:16]
        key = topics[topic] = Key(RULE, namespace, f"{_ENDPOINT}-{name}")
        source = {"node_name": node, "topic": rest}
        self._bodies[key] = _body(key, {"source": _ENDPOINT, "sourceResource": source})
        endpoint = Key(RULE_ENDPOINT, namespace, _ENDPOINT)
        self._bodies[endpoint] = _body(endpoint, {"ruleEndpointType": _ENDPOINT})
        return key

    def remove(self, node: str, topic: str) -> Key | None:
        """Unsubscribe; -> the Rule that is gone, if there was one."""
        key = self._topics.get(node, {}).pop(topic, None)
        if key is not None:
            del self._bodies[key]
        return key

    def topics(self, node: str) -> Collection[str]:
        """The topics of a node."""
        return self._topics.get(node, {}).keys()

    def get(self, key: Key) -> Body | None:
        """A Rule or RuleEndpoint."""
        return self._bodies.get(key)

    def keys(self, kind: str) -> Collection[Key]:
        """All of them of a kind."""
        return [key for key in self._bodies if key.kind == kind]


def _body(key: Key, spec: Body) -> Body:
    metadata = {"name": key.name, "namespace": key.namespace}
    return {"apiVersion": _API_VERSION, "kind": key.kind, "metadata": metadata, "spec": spec}
