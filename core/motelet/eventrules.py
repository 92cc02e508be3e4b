"""What EventBus subscribes to: KubeEdge's topics, and those of Router rules. Borrowed."""

import json

from micropython import const

from motelet.kvlog import StoreError

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
_UPLOADS = ".hub/q/"
_INTERNAL = const(0)
_BOTH = const(1)


def start(eventbus, port, loop, log, store, node, config):
    """Give `eventbus` the brokers of `config`, subscribed to everything; -> topics of rules. ValueError."""
    mode = config.get("mqttMode", 2)
    eventbus.qos = config.get("mqttQOS", 0 if mode == _INTERNAL else 1)
    if mode not in (0, 1, 2) or eventbus.qos not in (0, 1):
        raise ValueError("mqtt: mqttMode %s, mqttQOS %s" % (mode, eventbus.qos))
    rules = json.loads(store.get(_RULES) or "[]")
    topics = list(SUBSCRIPTIONS) + rules
    if mode != _INTERNAL:
        eventbus.client = _client(eventbus, port, loop, log, node, config, topics)
    if mode <= _BOTH:
        from motelet.broker import Broker

        eventbus.broker = broker = Broker(port, loop, log, config.get("broker", {}), eventbus.arrived)
        for topic in topics:
            broker.subscribe(topic)
        loop.spawn("broker", broker.run)
    for _ in store.keys(_UPLOADS):
        eventbus.upload()  # what waits since before the power went
        break
    return rules


def _client(eventbus, port, loop, log, node, config, topics):
    from motelet.mqtt import MQTTClient

    client = MQTTClient(
        config.get("clientId", "hub-client-" + node),
        eventbus.dial,
        loop,
        port.random,
        log,
        user=config.get("username"),
        password=config.get("password"),
        keepalive=config.get("keepalive", 60),
    )
    client.set_callback(eventbus.arrived)
    for topic in topics:
        client.subscribe(topic, 1)
    loop.spawn("mqtt", client.run)
    client.connect()
    return client


def rule(eventbus, log, store, add, topic):
    """A Router rule wants a topic, or no longer: kept, since the cloud says it once. False: not now."""
    rules = eventbus.rules
    if add and topic not in rules:
        if len(rules) >= RULES_MAX:
            log.error("eventbus", "too many rules", "topic", topic, "at most", RULES_MAX)
            return True
        rules.append(topic)
    elif not add and topic in rules:
        rules.remove(topic)
    try:
        store.put(_RULES, json.dumps(rules).encode())
    except StoreError as error:
        log.error("eventbus", "rule not kept over a restart", "topic", topic, "error", error)
    if eventbus.broker is not None:
        eventbus.broker.unsubscribe(topic)
        if add:
            eventbus.broker.subscribe(topic)
    if eventbus.client is not None:
        if not add:
            return eventbus.client.unsubscribe(topic)
        eventbus.client.subscribe(topic, 1)
    return True
