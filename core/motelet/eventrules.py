"""What EventBus subscribes to: KubeEdge's topics, and those of Router rules. Borrowed.

KubeEdge's cloud says `subscribe` and `unsubscribe` once and never again. Here the topics that rules want of
a node are one object that it holds like any other, RULES: an array of texts. So they outlive a restart and
an outage, and what was missed meanwhile is made up for.
"""

from micropython import const

from motelet.cbor import Reader
from motelet.mqtt import TOPIC_SIZE_MAX

SUBSCRIPTIONS = (
    "$hw/events/upload/#",
    "$hw/events/device/+/+/state/update",
    "$hw/events/device/+/+/twin/+",
    "$hw/events/node/+/membership/get",
    "SYS/dis/upload_records",
    "+/user/#",
)
RULES = "kubeedge/rules/subscriptions"
RULES_MAX = 32  # topics in it
_UPLOADS = ".hub/q/"
_PUBLICATIONS = ".hub/p/"
_INTERNAL = const(0)
_BOTH = const(1)


def start(eventbus, port, loop, log, store, node, config):
    """Give `eventbus` the brokers of `config`, subscribed to KubeEdge's topics. ValueError."""
    mode = config.get("mqttMode", 2)
    eventbus.qos = config.get("mqttQOS", 0 if mode == _INTERNAL else 1)
    if mode not in (0, 1, 2) or eventbus.qos not in (0, 1):
        raise ValueError("mqtt: mqttMode %s, mqttQOS %s" % (mode, eventbus.qos))
    if mode != _INTERNAL:
        eventbus.client = _client(eventbus, port, loop, log, node, config)
    if mode <= _BOTH:
        from motelet.broker import Broker

        eventbus.broker = broker = Broker(port, loop, log, config.get("broker", {}), eventbus.arrived)
        for topic in SUBSCRIPTIONS:
            broker.subscribe(topic)
        loop.spawn("broker", broker.run)
        if mode == _INTERNAL:
            eventbus.local.eventbus = eventbus
    if eventbus._hub is not None:
        eventbus._hub.eventbus = eventbus
        eventbus._hub.meta.rules = eventbus.ruled
    for _ in store.keys(_UPLOADS):
        eventbus.upload()  # what waits since before the power went
        break
    for _ in store.keys(_PUBLICATIONS):
        _publications(eventbus, log, store)
        break


def _client(eventbus, port, loop, log, node, config):
    from motelet.mqtt import MQTTClient

    if "ca" in config:
        eventbus.context = port.tls(config["ca"], config.get("cert"), config.get("key"))
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
    for topic in SUBSCRIPTIONS:
        client.subscribe(topic, 1)
    loop.spawn("mqtt", client.run)
    client.connect()
    return client


def apply(eventbus, log, store):
    """Subscribe to what Router rules want now, and to nothing they no longer want; -> False: not all yet."""
    try:
        wanted = _wanted(store.get(RULES))
    except ValueError as error:
        log.error("eventbus", "rules refused", "resource", RULES, "error", error)
        return True
    rules = eventbus.rules
    for topic in [topic for topic in rules if topic not in wanted]:
        if eventbus.client is not None and not eventbus.client.unsubscribe(topic):
            return False
        if eventbus.broker is not None:
            eventbus.broker.unsubscribe(topic)
        rules.remove(topic)
    for topic in wanted:
        if topic not in rules:
            rules.append(topic)
            if eventbus.broker is not None:
                eventbus.broker.subscribe(topic)
            if eventbus.client is not None:
                eventbus.client.subscribe(topic, 1)
    return True


def _wanted(value):
    """-> [topic] of the stored object (version, content) or None. ValueError for one that is none."""
    if value is None:
        return []
    reader = Reader()
    reader.open(value, 0, len(value))
    reader.skip()
    reader.span(2)
    reader.open(value, reader.start, reader.end)
    topics = reader.value()
    if not isinstance(topics, list) or len(topics) > RULES_MAX:
        raise ValueError("expected an array of at most %d topics" % RULES_MAX)
    for topic in topics:
        if not isinstance(topic, str) or not 0 < len(topic.encode()) <= TOPIC_SIZE_MAX:
            raise ValueError("expected topics of 1 to %d bytes" % TOPIC_SIZE_MAX)
    return topics


def publication(eventbus, topic, payload):
    """Keep what the cloud publishes here; durable on return. ValueError, kvlog.StoreError."""
    if eventbus is None:
        raise ValueError("this node has no EventBus")
    if eventbus.publications is None:
        _publications(eventbus, eventbus._log, eventbus._twin.store)
    eventbus.publications.put(topic, payload)


def _publications(eventbus, log, store):
    from motelet.publications import Publications

    eventbus.publications = Publications(store, log, eventbus)
