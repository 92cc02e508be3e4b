"""The internal MQTT broker (KubeEdge's mqttMode 0 and 1), for a board with no other broker beside it.

MQTT 3.1.1 at QoS 0 and 1, retained messages, wildcards, wills, sessions that outlive a connection,
users with topic permissions. One task serves all clients; each is a pair of buffers, so every client
has its price and CLIENTS_MAX is what the heap is sized for. Sessions and retained messages are in
RAM: they do not outlive the gateway, whose twins do.

What a client may not do ends its connection where the standard says so and is otherwise refused or
counted; in no case does it reach another client. QoS 2 is granted as 1, and publishing at QoS 2
ends the connection.
"""

from micropython import const

from motelet.loop import READ, WRITE
from motelet.mqtt import TOPIC_SIZE_MAX, Packets

CLIENTS_MAX = 8  # unless configured: what a board has room for
CLIENTS_LIMIT = 250  # that can be configured
SESSIONS_MAX = 8  # of clients that are away and will come again
SUBSCRIPTIONS_MAX = 16  # of one client
QUEUE_MAX = 16  # messages at QoS 1 for one client that are not acknowledged
RETAINED_MAX = 32
PACKET_SIZE_MAX = 4096
CLIENT_ID_SIZE_MAX = 64

_OTHER_STREAMS = const(8)  # of the loop's: the bridge, an external broker, the buses of mappers
_INFLIGHT_MAX = const(4)  # of a queue, sent and not acknowledged
_CONNECT_MS = const(10000)  # for a new connection to say who it is
_ANSWER_MAX = const(16)  # bytes that the answer to a packet may need, but for SUBACK
_NO_KEEPALIVE_MS = const(7200000)  # a client without a keepalive that is silent for two hours is gone


def valid(pattern):
    """True for a topic filter as it must be (4.7.1)."""
    parts = pattern.split("/")
    for i in range(len(parts)):
        part = parts[i]
        if "#" in part and (part != "#" or i != len(parts) - 1) or "+" in part and part != "+":
            return False
    return 0 < len(pattern) <= TOPIC_SIZE_MAX and "\0" not in pattern


def matches(pattern, topic):
    """Does a filter, given as its levels, match a topic? A leading wildcard matches no `$` topic (4.7.2).

    Allocates nothing: the topic, which is another one each time, is not taken apart.
    """
    if topic.startswith("$") and pattern[0] in ("#", "+"):
        return False
    at = 0
    size = len(topic)
    for level in pattern:
        if level == "#":
            return True
        if at > size:
            return False
        end = topic.find("/", at)
        if end < 0:
            end = size
        if level != "+" and not (len(level) == end - at and topic.startswith(level, at)):
            return False
        at = end + 1
    return at > size


class _Session:
    """What is known of a client, connected or not."""

    def __init__(self, name, clean):
        self.name = name
        self.clean = clean
        self.connection = None
        self.subscriptions = []  # [filter as its levels, QoS]
        self.queue = []  # [pid, topic, message, first byte, sent]
        self.pid = 0


class _Connection:
    """One client's stream. Stands in for a task in Loop.watch."""

    def __init__(self, broker, stream, size, now):
        self.stream = stream
        self.packets = Packets(size, PACKET_SIZE_MAX)
        self.session = self.will = self.user = None  # will: (topic, message, retain, QoS)
        self.ready = True  # there may be something to read
        self.due = True  # there may be something to do
        self.held = False
        self.heard = now
        self.limit_ms = _CONNECT_MS
        self.events = READ
        self._broker = broker

    def wake(self, events=0):
        self.ready = self.due = True
        self._broker.wake()


class Broker:
    """Serves clients on `config`: host (the address of one interface, 127.0.0.1), port (1884), clients,
    size (bytes of each of a client's two buffers, 512), ca, cert and key (DER; then with TLS, and for clients
    with a certificate of that CA only), and users: {name: {password, publish, subscribe}}, the last two lists
    of topic filters, all topics without them. Without users everybody may do everything.

    `taken(topic, payload)` is given what clients publish to the filters of `subscribe`; False: it has no
    room, and that client is held up until `wake`. ValueError for users without a password, for too many
    clients and for certificates that are none, OSError from `port.listen`.
    """

    def __init__(self, port, loop, log, config, taken):
        self._loop = loop
        self._clock = loop.clock
        self._log = log
        self._taken = taken
        self._users = config.get("users")
        for name in self._users or ():
            if not isinstance(self._users[name].get("password"), str):
                raise ValueError("broker: user %s has no password" % name)
        self._clients_max = config.get("clients", CLIENTS_MAX)
        if not isinstance(self._clients_max, int) or not 0 < self._clients_max <= CLIENTS_LIMIT:
            raise ValueError("broker: clients %s, at most %d" % (self._clients_max, CLIENTS_LIMIT))
        loop.streams_max = max(loop.streams_max, self._clients_max + _OTHER_STREAMS)
        self._size = config.get("size", 512)
        address = (config.get("host", "127.0.0.1"), config.get("port", 1884))
        if "cert" in config:
            context = port.tls_server(config["ca"], config["cert"], config["key"])
            self._listener = port.listen(address[0], address[1], context)
        else:
            self._listener = port.listen(address[0], address[1])
        self._connections = []
        self._sessions = []  # the one whose client left first is the first to go
        self._retained = {}  # topic -> (message, QoS)
        self._local = []  # filters of the gateway itself, as their levels
        self._waiting = True  # somebody may want to connect
        self._task = None
        self._topic = ""  # that was published to last, and its bytes with their length before them
        self._raw = None
        self.steady = None  # takes most updates of twins at once: devicetwin.steady
        self._names = 0
        self.dropped = 0  # messages that a client or the retained ones had no room for

    def subscribe(self, pattern):
        """The gateway wants what matches `pattern`."""
        self._local.append(pattern.split("/"))

    def unsubscribe(self, pattern):
        if pattern.split("/") in self._local:
            self._local.remove(pattern.split("/"))

    def publish(self, topic, msg, retain=False, qos=0, name=None):
        """Send a message (text, bytes, a view) of the gateway to the clients; `name`: the topic as bytes."""
        self._route(topic, msg.encode() if isinstance(msg, str) else msg, retain, qos, name)

    def wake(self, events=0):
        """Have the task look again; with `events`, at who wants to connect."""
        if events:
            self._waiting = True
        if self._task is not None:
            self._task.wake()

    def run(self, task):
        """The task: accept, serve, and give up who is silent for too long."""
        self._task = task
        self._loop.watch(self._listener.stream, READ, self)
        connections = self._connections
        clock = self._clock
        check = clock.ticks_ms()  # when somebody may have been silent for too long
        while True:
            if self._waiting:
                self._waiting = self._accept()  # one a turn, and the others are served between
                if self._waiting:
                    task.wake()
            now = clock.ticks_ms()
            wait = clock.ticks_diff(check, now)
            all_due = wait <= 0
            if all_due:
                wait = 60000
            i = len(connections)
            while i > 0:
                i -= 1
                if i < len(connections):  # who takes over a client id ends another connection
                    connection = connections[i]
                    if all_due or connection.due or connection.held:
                        wait = min(wait, self._turn(connection))
            check = clock.ticks_add(now, wait)
            task.sleep(wait)
            yield

    def _accept(self):
        """Take in one who wants to connect; -> False when nobody does."""
        stream = self._listener.accept()
        if stream is None:
            return False
        if len(self._connections) >= self._clients_max:
            self._log.warning("broker", "too many clients", "at most", self._clients_max)
            stream.close()
            return True
        try:
            connection = _Connection(self, stream, self._size, self._clock.ticks_ms())
        except MemoryError:
            self._log.error("broker", "no memory for a client", "clients", len(self._connections))
            stream.close()
            return True
        self._connections.append(connection)
        self._loop.watch(stream, READ, connection)
        return True

    def _turn(self, connection):
        """Serve a client as far as it goes now; -> ms until it has been silent for too long."""
        packets = connection.packets
        connection.due = False
        try:
            if connection.ready or connection.held:
                connection.ready = False
                self._receive(connection)
            self._pump(connection.session)
            while packets.flush(connection.stream):
                self._pump(connection.session)
                connection.ready = connection.held  # what was held for want of room may go on
            if connection.ready:
                connection.wake()
            events = (0 if connection.held else READ) | (WRITE if packets._filled > packets._sent else 0)
            if events != connection.events:
                connection.events = events
                self._loop.watch(connection.stream, events, connection)
        except (OSError, ValueError) as error:
            name = connection.session.name if connection.session else ""
            self._log.info("broker", "client gone", "client", name, "error", error)
            self._end(connection)
            return 60000
        left = connection.limit_ms - self._clock.ticks_diff(self._clock.ticks_ms(), connection.heard)
        if left <= 0:
            self._end(connection)
        return max(left, 1)

    def _end(self, connection):
        """Close a connection; its session may stay, its will is published unless it said goodbye."""
        if connection in self._connections:
            self._connections.remove(connection)
            self._loop.unwatch(connection.stream)
            connection.stream.close()
            session = connection.session
            if session is not None:
                session.connection = None
                self._sessions.remove(session)
                if not session.clean:
                    self._sessions.append(session)
                    for entry in session.queue:
                        entry[4] = False
            will = connection.will
            connection.will = None
            if will is not None:
                self._route(will[0], will[1], will[2], will[3])
                if not self._offer(will[0], will[1]):
                    self._drop("gateway", will[0])

    # -- what clients say ---------------------------------------------------------------------

    def _receive(self, connection):
        packets = connection.packets
        if not connection.held:
            if not packets.fill(connection.stream):
                return
            connection.heard = self._clock.ticks_ms()
        connection.held = False
        kind = packets.next()
        while kind:
            if packets._filled > packets._sent and len(packets._tx) - packets._filled < _ANSWER_MAX:
                connection.held = True
                packets.stop = packets.head
            else:
                self._handle(connection, kind)
            if connection.held:
                return
            kind = packets.next()

    def _handle(self, connection, kind):
        packets = connection.packets
        session = connection.session
        if (session is None) != (kind == 0x10):
            raise ValueError("CONNECT missing or repeated")
        if kind == 0x10:
            self._connect(connection)
        elif kind & 0xF4 == 0x30:  # any but QoS 2 and 3
            self._published(connection, kind)
        elif kind == 0x40:
            self._acknowledged(session, packets.short())
        elif kind == 0x82:
            self._subscribe(connection)
        elif kind == 0xA2:
            self._unsubscribe(connection)
        elif kind == 0xC0:
            packets.send(0xD0, b"")
        elif kind == 0xE0:
            connection.will = None
            raise OSError("goodbye")
        else:
            raise ValueError("packet of kind %d" % kind)

    def _acknowledged(self, session, pid):
        # No comprehension in _handle: what it shares would be a cell, made anew at each packet.
        session.queue = [entry for entry in session.queue if entry[0] != pid]

    def _connect(self, connection):
        """3.1: who is it, and may it come in?"""
        packets = connection.packets
        name = packets.string()
        level, flags = packets.string(2)
        if name != b"MQTT" or flags & 1 or flags >> 3 & 3 > 1 or flags & 0xC0 == 0x40:
            raise ValueError("no CONNECT of MQTT 3.1.1")
        if level != 4:
            self._refuse(connection, 1)
        keepalive = packets.short()
        client = str(packets.string(), "utf-8")
        if len(client) > CLIENT_ID_SIZE_MAX or not client and not flags & 2:
            self._refuse(connection, 2)
        if not client:
            self._names += 1
            client = "auto-%d" % self._names
        will = None
        if flags & 4:
            topic = packets.topic()
            will = (topic, packets.string(), flags & 0x20, flags >> 3 & 1)
        user = str(packets.string(), "utf-8") if flags & 0x80 else None
        password = str(packets.string(), "utf-8") if flags & 0x40 else None
        if self._users is not None:
            connection.user = self._users.get(user)
            if connection.user is None or connection.user["password"] != password:
                self._refuse(connection, 4)
        if will is not None and self._may(connection, "publish", will[0]):
            connection.will = will
        connection.limit_ms = keepalive * 1500 or _NO_KEEPALIVE_MS
        self._enter(connection, client, bool(flags & 2))

    def _refuse(self, connection, code):
        packets = connection.packets
        packets.send(0x20, bytes((0, code)))
        packets.flush(connection.stream)
        raise ValueError("refused with code %d" % code)

    def _enter(self, connection, client, clean):
        """Give a connection its session: the one it left, or a new one (3.1.2.4)."""
        found = None
        for session in self._sessions:
            if session.name == client:
                found = session
        if found is not None:
            if found.connection is not None:
                self._end(found.connection)  # 3.1.4: the newer one takes over
            if clean or found.clean:
                if found in self._sessions:
                    self._sessions.remove(found)
                found = None
        present = found is not None
        if not present:
            away = [session for session in self._sessions if session.connection is None]
            if len(away) > SESSIONS_MAX:
                self._sessions.remove(away[0])
            found = _Session(client, clean)
            self._sessions.append(found)
        found.connection = connection
        connection.session = found
        connection.packets.send(0x20, bytes((present, 0)))

    def _may(self, connection, action, topic):
        """Is `topic` (or a filter, which must be covered) among what the user may `action`?"""
        patterns = connection.user and connection.user.get(action)
        if not connection.user or patterns is None:
            return True
        for pattern in patterns:
            # A filter that ends with # is covered only by one that does.
            if matches(pattern.split("/"), topic) and (not topic.endswith("#") or pattern.endswith("#")):
                return True
        return False

    def _published(self, connection, kind):
        packets = connection.packets
        topic = self._published_to(packets)
        pid = packets.short() if kind & 6 else 0
        if not self._may(connection, "publish", topic):
            self._log.warning("broker", "not allowed", "client", connection.session.name, "topic", topic)
        elif kind & 1 or not self._at_once(topic, packets):
            msg = packets.string(packets.stop - packets.pos)
            if not self._offer(topic, msg):
                connection.held = True
                packets.stop = packets.head
                return
            self._route(topic, msg, kind & 1, 1 if pid else 0)
        if pid and not packets.send(0x40, b"", None, pid):
            # What it was sent at once took the room. A client that reads nothing asks again, connected anew.
            packets.flush(connection.stream)
            if not packets.send(0x40, b"", None, pid):
                raise ValueError("takes no answers")

    def _published_to(self, packets):
        """-> the topic of a PUBLISH: the one before, if it is the same, which needs no memory."""
        at = packets.pos
        raw = self._raw
        if raw is not None and packets.rx.find(raw, at, packets.stop) == at:
            packets.pos += len(raw)
        else:
            self._topic = packets.topic()
            self._raw = bytes(memoryview(packets.rx)[at : packets.pos])
        return self._topic

    def _at_once(self, topic, packets):
        """Have an update of a twin dealt with where it lies; -> False when it has to go the usual way."""
        if self.steady is None or not topic.endswith("/twin/update"):
            return False
        for session in self._sessions:
            for entry in session.subscriptions:
                if matches(entry[0], topic):
                    return False
        return self.steady(topic, packets.rx, packets.pos, packets.stop)

    def _subscribe(self, connection):
        packets = connection.packets
        session = connection.session
        pid = packets.short()
        codes = []
        fresh = []
        while packets.pos < packets.stop:
            pattern = str(packets.string(), "utf-8")
            qos = packets.string(1)[0]
            if not valid(pattern) or qos > 2:
                raise ValueError("subscription that is none")
            parts = pattern.split("/")
            session.subscriptions = [entry for entry in session.subscriptions if entry[0] != parts]
            allowed = self._may(connection, "subscribe", pattern)
            if not allowed or len(session.subscriptions) >= SUBSCRIPTIONS_MAX:
                codes.append(0x80)
            else:
                codes.append(min(qos, 1))
                fresh.append((parts, min(qos, 1)))
                session.subscriptions.append(fresh[-1])
        if not codes or not packets.send(0x90, bytes(codes), None, pid):
            raise ValueError("subscribes to nothing, or takes no answers")
        for parts, qos in fresh:
            for topic in self._retained:
                if matches(parts, topic):
                    msg, kept = self._retained[topic]
                    self._deliver(session, topic.encode(), msg, min(qos, kept), 1)

    def _unsubscribe(self, connection):
        packets = connection.packets
        session = connection.session
        pid = packets.short()
        while packets.pos < packets.stop:
            parts = str(packets.string(), "utf-8").split("/")
            session.subscriptions = [entry for entry in session.subscriptions if entry[0] != parts]
        packets.send(0xB0, b"", None, pid)

    # -- what clients hear --------------------------------------------------------------------

    def _offer(self, topic, msg):
        """Give a message to the gateway if it wants it; -> False when it has no room."""
        for pattern in self._local:
            if matches(pattern, topic):
                return self._taken(topic, msg) is not False
        return True

    def _route(self, topic, msg, retain, qos, name=None):
        if retain:
            self._retain(topic, msg, qos)
        for session in self._sessions:
            best = -1
            for pattern, granted in session.subscriptions:
                if granted > best and matches(pattern, topic):
                    best = granted
            if best >= 0:
                name = name or topic.encode()
                if best and qos and not isinstance(msg, bytes):
                    msg = bytes(msg)  # it will be kept
                self._deliver(session, name, msg, min(best, qos), 0)

    def _retain(self, topic, msg, qos):
        if not msg:
            self._retained.pop(topic, None)
        elif topic in self._retained or len(self._retained) < RETAINED_MAX:
            self._retained[topic] = (msg, qos)
        else:
            self._drop("retained", topic)

    def _deliver(self, session, topic, msg, qos, retain):
        """Hand a message to a client: overlapping subscriptions give it once (3.3.5 allows that)."""
        connection = session.connection
        if qos:
            if len(session.queue) >= QUEUE_MAX:
                self._drop(session.name, topic)
                return
            session.pid = session.pid % 65535 + 1
            session.queue.append([session.pid, topic, msg, 0x32 | retain, False])
        elif connection is None:
            return
        elif not self._send(connection, 0x30 | retain, topic, msg):
            self._drop(session.name, topic)
        if connection is not None:
            connection.due = True
            self.wake()

    def _send(self, connection, kind, topic, msg):
        """Send at QoS 0; -> False without room, though the stream was asked to take what waits before."""
        packets = connection.packets
        if packets.send(kind, msg, topic):
            return True
        try:
            packets.flush(connection.stream)
        except OSError:
            connection.ready = connection.due = True  # its own turn meets the error
            return False
        return packets.send(kind, msg, topic)

    def _pump(self, session):
        """Send what waits at QoS 1, a few unacknowledged at a time, in order."""
        if session is None:
            return
        sent = 0
        for entry in session.queue:
            if sent >= _INFLIGHT_MAX:
                return
            sent += 1
            if not entry[4]:
                if not session.connection.packets.send(entry[3], entry[2], entry[1], entry[0]):
                    return
                entry[3] |= 8
                entry[4] = True

    def _drop(self, client, topic):
        self.dropped += 1
        self._log.debug("broker", "dropped", "client", client, "topic", topic, "dropped", self.dropped)
