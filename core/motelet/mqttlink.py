"""What an MQTT client does once a connection: introduce itself, subscribe, back off, refuse.

Apart from `mqtt` because a board borrows this module (`motelet.borrow`) for the moment. Section
numbers are those of the OASIS standard MQTT 3.1.1.
"""

from micropython import const

SUBSCRIPTIONS_MAX = 64

_PENDING = const(16)  # beside the QoS of a subscription: SUBSCRIBE is still to be sent
_RETRY_MS = const(1000)
_RETRY_MAX_MS = const(60000)
_HEALTHY_MS = const(60000)  # a session this long starts the back-off anew


def _string(data):
    """-> bytes (or text) with their length before them (1.5.3)."""
    if isinstance(data, str):
        data = data.encode()
    return bytes((len(data) >> 8, len(data) & 255)) + data


def too_large(size, limit):
    raise ValueError("packet of %d bytes, at most %d" % (size, limit))


def hello(packets, names, keepalive):
    """CONNECT (3.1). `names`: client id, topic and message of the will, user, password, flags of the will."""
    flags = 2 | names[5]
    if names[3] is not None:
        flags |= 0x80 if names[4] is None else 0xC0
    body = b"\0\4MQTT\4" + bytes((flags, keepalive >> 8, keepalive & 255))
    for name in names[:5]:
        if name is not None:
            body += _string(name)
    packets.begin(0x10, len(body))
    packets.put(body)


def welcome(kind, packets, subscriptions, queue):
    """CONNACK (3.2): all is to be asked for and sent again. ValueError for a refusal."""
    code = packets.short() & 255
    if kind != 0x20 or code:
        raise ValueError("refused by the broker: packet %d, code %d" % (kind, code))
    for topic in subscriptions:
        subscriptions[topic] |= _PENDING
    for entry in queue:
        entry[4] = False


def want(subscriptions, topic, qos):
    """Note a subscription that is to be made. ValueError over SUBSCRIPTIONS_MAX."""
    if topic not in subscriptions and len(subscriptions) >= SUBSCRIPTIONS_MAX:
        raise ValueError("more than %d subscriptions" % SUBSCRIPTIONS_MAX)
    subscriptions[topic] = qos | _PENDING


def subscribe(packets, subscriptions, next_pid):
    """Send what is PENDING (3.8), as far as there is room; -> True when something is left."""
    for topic in subscriptions:
        qos = subscriptions[topic]
        if qos & _PENDING:
            body = _string(topic) + bytes((qos & 1,))
            if not packets.begin(0x82, 2 + len(body)):
                return True
            packets.put_short(next_pid())
            packets.put(body)
            subscriptions[topic] = qos & 1
    return False


def unsubscribe(packets, topic, pid):
    """Send UNSUBSCRIBE (3.10); -> False when there is no room."""
    body = _string(topic)
    if not packets.begin(0xA2, 2 + len(body)):
        return False
    packets.put_short(pid)
    packets.put(body)
    return True


def other(kind, packets, log):
    """SUBACK, UNSUBACK, or ValueError for what no broker sends."""
    if kind == 0x90:
        if packets.rx[packets.stop - 1] & 0x80:
            log.warning("eventbus", "subscription refused", "pid", packets.short())
    elif kind != 0xB0:
        raise ValueError("packet of kind %d from the broker" % kind)


def back_off(clock, began, delay, noise):
    """After a connection that began at `began`: -> (the new delay in ms, when to connect again).

    `delay` is the last one, 0 at first; `noise` 0..255 spreads clients over half of the delay.
    """
    now = clock.ticks_ms()
    if not delay or clock.ticks_diff(now, began) > _HEALTHY_MS:
        delay = _RETRY_MS
    else:
        delay = min(delay * 2, _RETRY_MAX_MS)
    return delay, clock.ticks_add(now, delay // 2 + (delay // 2 * noise >> 8))
