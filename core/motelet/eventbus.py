"""EventBus: MQTT for the applications and mappers beside the gateway, over KubeEdge's topics.

It subscribes to what KubeEdge's does, takes topics apart by position, and hands a message to
DeviceTwin or to the cloud. What DeviceTwin answers comes through the mailbox "eventbus". The broker
is an external one (mqttMode 2), the internal one (0), or both (1); `motelet.broker` is imported only
where it is asked for.
"""

import json

from micropython import const

from motelet.kvlog import StoreError
from motelet.messages import ARRIVED, PUBLISH, SUBSCRIBE
from motelet.uploads import Uploads

SUBSCRIPTIONS = (
    "$hw/events/upload/#",
    "$hw/events/device/+/+/state/update",
    "$hw/events/device/+/+/twin/+",
    "$hw/events/node/+/membership/get",
    "SYS/dis/upload_records",
    "+/user/#",
)
RULES_MAX = 32  # topics that Router rules have subscribed to
_RULES = ".hub/topics"
_INTERNAL = const(0)
_BOTH = const(1)


class EventBus:
    """Runs on `loop`, between the broker that `config` names, DeviceTwin `twin` and the cloud.

    `config`: mqttMode (0, 1 or 2, the default); host, port, username, password, keepalive (s),
    clientId for an external broker; broker, a dict, for the internal one; mqttQOS of what is published
    (as in KubeEdge 0 with the internal broker alone, else 1). ValueError for what cannot be used.
    """

    def __init__(self, port, loop, bus, log, twin, node, config):
        self._twin = bus["devicetwin"]
        self._log = log
        self._store = twin.store
        self.local = twin.speak(node)
        self._out = bus["eventbus"]
        self.uploads = Uploads(twin.store, log, port.epoch_ms)
        self.dropped = 0
        self.client = self.broker = None
        mode = config.get("mqttMode", 2)
        self._qos = config.get("mqttQOS", 0 if mode == _INTERNAL else 1)
        self._rules = json.loads(self._store.get(_RULES) or "[]")
        if mode not in (0, 1, 2) or self._qos not in (0, 1):
            raise ValueError("mqtt: mqttMode %s, mqttQOS %s" % (mode, self._qos))
        if mode != _INTERNAL:
            self._external(port, loop, node, config)
        if mode <= _BOTH:
            from motelet.broker import Broker

            self.broker = Broker(port, loop, log, config.get("broker", {}), self.arrived)
            for topic in SUBSCRIPTIONS:
                self.broker.subscribe(topic)
            for topic in self._rules:
                self.broker.subscribe(topic)
            loop.spawn("broker", self.broker.run)
        loop.spawn("eventbus", self.run)

    def _external(self, port, loop, node, config):
        from motelet.mqtt import MQTTClient

        host = config.get("host", "127.0.0.1")
        number = config.get("port", 1883)

        def dial():
            return port.tcp(host, number)

        self.client = client = MQTTClient(
            config.get("clientId", "hub-client-" + node),
            dial,
            loop,
            port.random,
            self._log,
            config.get("username"),
            config.get("password"),
            config.get("keepalive", 60),
        )
        client.set_callback(self.arrived)
        for topic in SUBSCRIPTIONS:
            client.subscribe(topic, 1)
        for topic in self._rules:
            client.subscribe(topic, 1)
        loop.spawn("mqtt", client.run)
        client.connect()

    def run(self, task):
        """The task: publish what the mailbox holds, in order, as fast as the broker takes it."""
        out = self._out
        out.task = task
        client = self.client
        if client is not None:
            client.waiter = task
        waiting = False
        while True:
            online = client is None or client.connected or self.broker is not None
            if online != self.local.online:
                self.local.connected(online)
            while waiting or out.take():
                waiting = not self._serve(out.kind, out.a, out.b)
                if waiting:
                    break
            if not waiting:
                self.local.drained()
            yield

    def _serve(self, kind, topic, payload):
        """Act on a message; -> False when the broker cannot take it now."""
        if kind != PUBLISH:
            return self._rule(kind == SUBSCRIBE, topic)
        client = self.client
        if client is not None and client.connected:
            try:
                if not client.publish(topic, payload, False, self._qos):
                    return False
            except ValueError as error:
                self._drop(topic, error)
        elif self.broker is None:
            self._drop(topic, "no broker")
        if self.broker is not None:
            self.broker.publish(topic, payload, False, self._qos)
        return True

    def _drop(self, topic, reason):
        self.dropped += 1
        self._log.warning("eventbus", "not published", "topic", topic, "reason", reason, "sum", self.dropped)

    def _rule(self, add, topic):
        """A Router rule wants a topic, or no longer: kept, since the cloud says it once."""
        rules = self._rules
        if add and topic not in rules:
            if len(rules) >= RULES_MAX:
                self._log.error("eventbus", "too many rules", "topic", topic, "at most", RULES_MAX)
                return True
            rules.append(topic)
        elif not add and topic in rules:
            rules.remove(topic)
        try:
            self._store.put(_RULES, json.dumps(rules).encode())
        except StoreError as error:
            self._log.error("eventbus", "rule not kept over a restart", "topic", topic, "error", error)
        if self.broker is not None:
            self.broker.unsubscribe(topic)
            if add:
                self.broker.subscribe(topic)
        if self.client is not None:
            if not add:
                return self.client.unsubscribe(topic)
            self.client.subscribe(topic, 1)
        return True

    def arrived(self, topic, payload):
        """Take a message from a broker; -> False when there is no room for it now."""
        parts = topic.split("/")
        if len(parts) > 4 and parts[:2] == ["$hw", "events"] and parts[2] in ("device", "node"):
            if not self._twin.put(ARRIVED, topic, payload):
                self._twin.sender = self
                return False
        else:
            self.uploads.put(topic, payload)
        return True

    def wake(self, events=0):
        """DeviceTwin's mailbox has room again."""
        if self.client is not None:
            self.client.wake()
        if self.broker is not None:
            self.broker.wake()
