"""What an MQTT client does seldom: begin and end a connection, subscribe, refuse what is no MQTT.

Functions of an MQTTClient, apart from `mqtt` because a board borrows this module (`motelet.borrow`) for
the moment. The last part are public methods, found by way of MQTTClient.__getattr__.
Section numbers are those of the OASIS standard MQTT 3.1.1.
"""

from micropython import const

from motelet.loop import READ, WRITE

SUBSCRIPTIONS_MAX = const(64)

_PENDING = const(16)  # beside the QoS of a subscription: SUBSCRIBE is still to be sent
_RETRY_MS = const(1000)
_RETRY_MAX_MS = const(60000)
_HEALTHY_MS = const(60000)  # a session this long starts the back-off anew

_REFUSALS = (  # what `mqtt` refuses; that module has the numbers only
    "malformed remaining length",
    "packet of type 0",
    "packet over the limit",
    "packet ends too early",
    "topic that cannot be published to",
    "topic or message of a size that does not fit a packet",
    "who sends takes no answers",
)


def _bytes(text):
    return text.encode() if isinstance(text, str) else text


def _string(data):
    """-> bytes (or text) with their length before them (1.5.3)."""
    data = _bytes(data)
    return bytes((len(data) >> 8, len(data) & 255)) + data


# -- the connection ---------------------------------------------------------------------------


def make(client, packets, client_id, dial, loop, random, log, user=None, password=None, keepalive=60):
    """Give a new client its parts."""
    # client id, topic and message of the will, user, password, flags of the will
    client._names = [client_id, None, None, user, password, 0]
    client._dial = dial
    client._loop = loop
    client._clock = loop.clock
    client._random = random
    client._log = log
    client._keepalive = keepalive
    client._packets = packets
    client._subscriptions = {}  # topic -> QoS
    client._queue = []  # at QoS 1, oldest first: [pid, topic, message, first byte, sent]
    client._pid = client._delay = 0
    client._callback = client._task = client._stream = None
    client._wanted = client.connected = client._held = client._pending = False
    client.waiter = client


def dial(client):
    """Start to connect, and have CONNECT (3.1) ready to be sent. OSError, ValueError (TLS)."""
    packets = client._packets
    packets.head = packets.pos = packets.stop = packets.end = packets._sent = packets._filled = 0
    client.connected = client._held = client._pending = False
    if client._stream is not None:  # the task failed and was started again
        client._stream.close()
    client._began = client._clock.ticks_ms()
    client._stream = None
    client._stream = client._dial()
    client._asked = client._said = client._heard = client._clock.ticks_ms()
    client._events = READ | WRITE
    client._loop.watch(client._stream, READ | WRITE, client._task)
    names = client._names
    flags = 2 | names[5]
    if names[3] is not None:
        flags |= 0x80 if names[4] is None else 0xC0
    body = b"\0\4MQTT\4" + bytes((flags, client._keepalive >> 8, client._keepalive & 255))
    for name in names[:5]:
        if name is not None:
            body += _string(name)
    packets.send(0x10, body)


def welcome(client, kind):
    """CONNACK (3.2): all is to be asked for and sent again. ValueError for a refusal."""
    code = client._packets.short() & 255
    if kind != 0x20 or code:
        raise ValueError("refused by the broker: packet %d, code %d" % (kind, code))
    for topic in client._subscriptions:
        client._subscriptions[topic] |= _PENDING
    for entry in client._queue:
        entry[4] = False
    client.connected = client._pending = True
    client._asked = None
    client._log.info("eventbus", "connected")
    client.waiter.wake()


def some_left(client):
    """Send the subscriptions that are PENDING (3.8), as far as there is room; -> True when some are left."""
    subscriptions = client._subscriptions
    for topic in subscriptions:
        qos = subscriptions[topic]
        if qos & _PENDING:
            pid = client._next_pid()
            if not client._packets.send(0x82, _string(topic) + bytes((qos & 1,)), None, pid):
                return True
            subscriptions[topic] = qos & 1
    client._pending = False
    return False


def other(kind, packets, log):
    """SUBACK, UNSUBACK, or ValueError for what no broker sends."""
    if kind == 0x90:
        if packets.rx[packets.stop - 1] & 0x80:
            log.warning("eventbus", "subscription refused", "pid", packets.short())
    elif kind != 0xB0:
        raise ValueError("packet of kind %d from the broker" % kind)


def refuse(number):
    """Raise ValueError, for the reason `number` of _REFUSALS."""
    raise ValueError(_REFUSALS[number])


def goodbye(client):
    """DISCONNECT (3.14), as far as the stream takes it now; raises OSError, which ends the connection."""
    client._packets.send(0xE0, b"")
    client._packets.flush(client._stream)
    raise OSError("disconnected")


def hang_up(client, error):
    """End the connection because of `error`; -> ms to wait before the next one.

    Clients are spread over half of the delay, so that not all of them come back at once.
    """
    client.connected = False
    client.waiter.wake()
    if client._stream is not None:
        client._loop.unwatch(client._stream)
        client._stream.close()
        client._stream = None
    if not client._wanted:
        client._delay = 0
        return 0
    client._log.warning("eventbus", "no broker", "error", error)
    clock = client._clock
    if not client._delay or clock.ticks_diff(clock.ticks_ms(), client._began) > _HEALTHY_MS:
        client._delay = _RETRY_MS
    else:
        client._delay = min(client._delay * 2, _RETRY_MAX_MS)
    half = client._delay // 2
    return half + (half * client._random(1)[0] >> 8)


# -- seldom called methods of MQTTClient ------------------------------------------------------


def set_callback(client, callback):
    """`callback(topic: str, msg: bytes)` takes each message; False: it could not, ask again later."""
    client._callback = callback


def set_last_will(client, topic, msg, retain=False, qos=0):
    """What the broker publishes when this client is gone silently (3.1.2.5); from the next connect on."""
    client._names[1] = topic
    client._names[2] = msg
    client._names[5] = 4 | qos << 3 | retain << 5


def connect(client):
    """Have the task keep a connection."""
    client._wanted = True
    client.wake()


def disconnect(client):
    """Say goodbye and stay away; what waits at QoS 1 is kept for the next `connect`."""
    client._wanted = False
    client.wake()


def subscribe(client, topic, qos=0):
    """Subscribe now and after each reconnect. ValueError over SUBSCRIPTIONS_MAX."""
    subscriptions = client._subscriptions
    if topic not in subscriptions and len(subscriptions) >= SUBSCRIPTIONS_MAX:
        raise ValueError("more than %d subscriptions" % SUBSCRIPTIONS_MAX)
    subscriptions[topic] = qos | _PENDING
    client._pending = True
    client.wake()


def unsubscribe(client, topic):
    """Unsubscribe (3.10); -> False when the packet has no room now."""
    if client.connected and not client._packets.send(0xA2, _string(topic), None, client._next_pid()):
        return False
    client._subscriptions.pop(topic, None)
    client.wake()
    return True


def ping(client):
    """Ask the broker for a PINGRESP now; without one the connection is given up."""
    if client._packets.send(0xC0, b""):
        client._asked = client._clock.ticks_ms()
        client.wake()


def waits(client, pid):
    """-> True while the message that `publish` gave the identifier `pid` waits for its PUBACK."""
    return pid in [entry[0] for entry in client._queue]
