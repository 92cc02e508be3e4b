"""Messages between applications and the EventBus. Borrowed."""

import asyncio

from micropython import const

from motelet import borrow
from motelet.messages import PUBLISH

TOPICS_MAX = const(8)  # that one application subscribes to
_ENOSPC = const(28)
_MESSAGES_MAX = const(8)  # waiting for one application; the oldest makes room
_TOPIC_SIZE_MAX = const(256)
_EAGAIN = const(11)


def subscribe(services, app, topic):
    """`app` wants `topic`. OSError when it has TOPICS_MAX, ValueError for what is no filter."""
    reader = services.readers.get(app)
    if reader is None:
        # What runs in a process of its own is told itself, and has no asyncio here.
        bell = app if hasattr(app, "set") else asyncio.Event()
        reader = services.readers[app] = [bell, [], []]
    if len(reader[1]) >= TOPICS_MAX:
        raise OSError(_ENOSPC)
    add(services, services.bus(), reader[1], topic)


def ended(services, app):
    """`app` wants nothing any more."""
    bus = services.bus()
    for topic in services.readers.pop(app)[1]:
        if bus is not None:
            drop(services, bus, topic)


def matches(pattern, topic):
    """Whether MQTT's filter `pattern` takes `topic` (MQTT 3.1.1, 4.7)."""
    pattern, topic = pattern.split("/"), topic.split("/")
    if topic[0][:1] == "$" and pattern[0] in ("+", "#"):
        return False
    for at in range(len(pattern)):
        if pattern[at] == "#":
            return True
        if at >= len(topic) or pattern[at] not in ("+", topic[at]):
            return False
    return len(pattern) == len(topic)


def check(topic, wild):
    """ValueError for what is no topic, or with `wild` no filter."""
    parts = topic.split("/")
    for at in range(len(parts)):
        part = parts[at]
        if ("+" in part or "#" in part) and not (
            wild and len(part) == 1 and (part == "+" or at == len(parts) - 1)
        ):
            topic = ""
    if not topic or "\0" in topic or len(topic) > _TOPIC_SIZE_MAX:
        raise ValueError("topic %s" % topic)


def add(services, bus, topics, topic):
    """An application wants `topic`."""
    check(topic, True)
    wanted = _wanted(services, topic)
    topics.append(topic)
    if bus is None or wanted or topic in _cloud(bus):
        return
    if bus.client is not None:
        bus.client.subscribe(topic, 1)
    if bus.broker is not None:
        bus.broker.subscribe(topic)


def drop(services, bus, topic):
    """An application wants `topic` no longer."""
    if _wanted(services, topic) or topic in _cloud(bus):
        return
    if bus.client is not None:
        bus.client.unsubscribe(topic)
    if bus.broker is not None:
        bus.broker.unsubscribe(topic)


def _cloud(bus):
    return list(borrow("eventrules").SUBSCRIPTIONS) + bus.rules


def _wanted(services, topic):
    for reader in services.readers.values():
        if topic in reader[1]:
            return True
    return False


def publish(services, bus, topic, payload):
    """To the brokers; without an EventBus, to the applications of this board."""
    check(topic, False)
    if bus is None:
        arrived(services, topic, payload)
    # The internal broker gives nothing back to the gateway of what the gateway itself sends.
    elif bus.out.full() or bus.client is None and not bus.arrived(topic, payload):
        raise OSError(_EAGAIN)
    else:
        bus.out.put(PUBLISH, topic, payload)


def arrived(services, topic, payload):
    """Give a message to whoever subscribed to it; -> whether that is all that was wanted of it."""
    taken = False
    for reader in services.readers.values():
        for pattern in reader[1]:
            if matches(pattern, topic):
                taken = True
                if len(reader[2]) >= _MESSAGES_MAX:
                    del reader[2][0]
                reader[2].append((topic, payload))
                reader[0].set()
                break
    bus = services.bus()
    if taken and bus is not None:
        for pattern in _cloud(bus):
            if matches(pattern, topic):
                return False
    return taken
