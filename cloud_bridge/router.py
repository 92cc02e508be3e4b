"""Router: which topics of an edge's EventBus the cloud wants to hear of (KubeEdge's Rule and RuleEndpoint).

A Rule (rules.kubeedge.io/v1) from an endpoint of type eventbus names a topic and a node. KubeEdge tells the
node `subscribe` when the rule is made and `unsubscribe` when it goes. Here the topics of a node are one
resource that it should hold, so that what was missed is made up for. As in KubeEdge the topic on the edge is
the rule's namespace, a slash, and the topic of the rule; what is published there comes up as an event, and
where it goes is the backend's business. Rules between other endpoints need nothing of the edge.

The other direction, a message to a node's EventBus (`CloudHub.publish`), is asked for by CloudCore only:
its Router has the HTTP server for it. With the backends that stand in CloudCore's place nobody could ask. A
rule to an eventbus is refused in a folder of YAML, and the Kubernetes backend takes no rules at all, as it
refuses what applications publish for the cloud: a cluster is no place for messages.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

import cbor2

from cloud_bridge.backends.base import RULE, RULE_ENDPOINT, Backend, Body, FieldError, Key
from cloud_bridge.logs import Log
from cloud_bridge.names import NAME_RULE, is_subdomain
from cloud_bridge.resources import Content, Controller, Desired, Refusal, Settle, Upward

RESOURCE = "kubeedge/rules/subscriptions"
RULES_MAX = 32
"""Topics of one node; a board takes no more."""
TOPIC_SIZE_MAX = 512
_EVENTBUS = "eventbus"

_log = Log("router")


class Router:
    """A controller that adds the topics of rules to what `inner` says a node should hold."""

    def __init__(self, inner: Controller, backend: Backend) -> None:
        self._inner = inner
        self._backend = backend
        self._topics: dict[Key, tuple[str, str]] = {}
        self._unknown: set[Key] = set()
        self._contents: dict[str, Content] = {}
        self._listeners: list[Callable[[str | None], None]] = []

    def start(self) -> None:
        """Take over what the backend has and follow it from now on."""
        self._backend.watch(self._changed)
        self._look()

    def watch(self, changed: Callable[[str | None], None]) -> None:
        """Have `changed(node)` called whenever `desired(node)` may have changed; None stands for all."""
        self._inner.watch(changed)
        self._listeners.append(changed)

    def desired(self, node: str) -> Desired:
        """What `node` should hold now."""
        desired = self._inner.desired(node)
        content = self._contents.get(node)
        items = desired.items if content is None else {**desired.items, RESOURCE: content}
        # What a rule that was never valid here wants is not known: then a node keeps what it has.
        kept = (*desired.kept, RESOURCE) if self._unknown else desired.kept
        return Desired(items, kept, desired.synced)

    def opened(self, node: str, info: Mapping[str, Any], address: str) -> None:
        """The board said hello."""
        self._inner.opened(node, info, address)

    def closed(self, node: str) -> None:
        """The board's connection has ended."""
        self._inner.closed(node)

    def take(self, node: str, message: Upward, settle: Settle) -> None:
        """Take a message of `node`; `settle` is called when it is durable or refused."""
        self._inner.take(node, message, settle)

    def refused(self, node: str, resource: str, refusal: Refusal) -> None:
        """`node` refused to hold `resource` as it is desired now."""
        if resource == RESOURCE:
            _log.error("rules refused", node=node, error=refusal.reason)
        else:
            self._inner.refused(node, resource, refusal)

    def _changed(self, keys: frozenset[Key]) -> None:
        if any(key.kind in (RULE, RULE_ENDPOINT) for key in keys):
            self._look()

    def _look(self) -> None:
        """Derive everything anew: rules are few."""
        before, unknown = self._contents, bool(self._unknown)
        rules = sorted(self._backend.keys(RULE))
        for gone in self._topics.keys() - set(rules):
            del self._topics[gone]
        self._unknown.intersection_update(rules)
        nodes: defaultdict[str, set[str]] = defaultdict(set)
        for key in rules:
            self._rule(key, nodes)
        self._contents = {node: _content(topics) for node, topics in nodes.items()}
        changed = {n for n in {*before, *self._contents} if before.get(n) != self._contents.get(n)}
        for node in (None,) if unknown != bool(self._unknown) else sorted(changed):
            for listener in self._listeners:
                listener(node)

    def _rule(self, key: Key, nodes: defaultdict[str, set[str]]) -> None:
        """Put the topic of a rule to those of its node; one that is not valid stays what it was."""
        errors: list[FieldError] = []
        body = self._backend.get(key)
        wanted = self._wanted(key, body, errors) if body is not None else None
        if not errors:
            self._unknown.discard(key)
            self._topics.pop(key, None)
            if wanted is not None:
                self._topics[key] = wanted
        elif key not in self._topics:
            self._unknown.add(key)
        if key in self._topics:
            node, topic = self._topics[key]
            if len(nodes[node]) < RULES_MAX or topic in nodes[node]:
                nodes[node].add(topic)
            else:
                errors.append(
                    FieldError((), f"node {node} has {RULES_MAX} topics, there is no room for more")
                )
        self._backend.complain(key, errors)

    def _wanted(self, key: Key, body: Body, errors: list[FieldError]) -> tuple[str, str] | None:
        """(node, topic) that a rule wants, None for one that wants nothing of the edge or is not valid."""
        spec = body.get("spec")
        if not isinstance(spec, Mapping):
            errors.append(FieldError(("spec",), "must be a map"))
            return None
        source = spec.get("source")
        endpoint = self._backend.get(Key(RULE_ENDPOINT, key.namespace, str(source)))
        if endpoint is None:
            errors.append(FieldError(("spec", "source"), f"there is no RuleEndpoint {source}"))
            return None
        kind: Any = endpoint.get("spec")
        if not isinstance(kind, Mapping) or kind.get("ruleEndpointType") != _EVENTBUS:
            target = self._backend.get(Key(RULE_ENDPOINT, key.namespace, str(spec.get("target"))))
            kind = target.get("spec") if target is not None else None
            if isinstance(kind, Mapping) and kind.get("ruleEndpointType") == _EVENTBUS:
                errors.append(FieldError(("spec", "target"), "only CloudCore's Router publishes at the edge"))
            return None
        resource = spec.get("sourceResource")
        node, topic = (
            (resource.get("node_name"), resource.get("topic")) if isinstance(resource, Mapping) else (0, 0)
        )
        if not is_subdomain(node):
            errors.append(FieldError(("spec", "sourceResource", "node_name"), NAME_RULE))
        full = f"{key.namespace}/{topic}"
        if (
            not isinstance(topic, str)
            or not topic
            or len(full.encode()) > TOPIC_SIZE_MAX
            or not _is_filter(topic)
        ):
            text = f"must be a topic, with the namespace at most {TOPIC_SIZE_MAX} bytes"
            errors.append(FieldError(("spec", "sourceResource", "topic"), text))
        return None if errors else (str(node), full)


def _is_filter(topic: str) -> bool:
    """Whether wildcards stand where MQTT 3.1.1 (4.7.1) has them."""
    *levels, last = topic.split("/")
    wild = [each for each in (*levels, last) if "+" in each and each != "+"]
    return (
        not wild
        and not any("#" in each for each in levels)
        and last.count("#") == (last == "#")
        and "\0" not in topic
    )


def _content(topics: set[str]) -> Content:
    data = cbor2.dumps(sorted(topics))
    return Content(sha256(data).hexdigest()[:16], data)
