"""MQTT 3.1.1: the bytes of one connection (`Packets`) and a client of a broker (`MQTTClient`).

The clients there are for MicroPython block in the middle of a packet, send a packet in five writes
and never wrap their packet identifiers. Here the codec does no I/O and the client is one task of
the loop: it takes what has arrived, sends what fits, and yields. A peer that stalls half-way
through a packet delays nobody. Keepalive and publishing at QoS 0 from bytes allocate nothing. What is
said once a connection is in `mqttlink`, borrowed.

Section numbers are those of the OASIS standard MQTT 3.1.1. QoS 2 is not spoken: it is neither
asked for nor sent, and a broker may not exceed what was granted (3.8.4).
"""

from micropython import const

from motelet import borrow
from motelet.loop import READ, WRITE

PACKET_SIZE_MAX = 16384  # bytes of one packet either way, head included
TOPIC_SIZE_MAX = 512  # bytes
INFLIGHT_MAX = 8  # messages at QoS 1 that wait for their PUBACK, or for a connection

_CONNECT_MS = const(20000)  # from the start of the connection to CONNACK; a chip takes seconds for TLS
_PINGRESP_MS = const(10000)


class Packets:
    """What a connection has received and what it has to send. Knows no socket.

    `rx` holds unread bytes head..end; the body of the packet that `next` found is pos..stop. Packets
    up to `size` need no memory but these buffers; one that is larger, up to `packet_max`, gets a
    buffer of its own for as long as it takes.
    """

    def __init__(self, size, packet_max=PACKET_SIZE_MAX):
        self._small_rx = self.rx = bytearray(size)
        self._small_tx = self._tx = bytearray(size)
        self._packet_max = packet_max
        self.reset()

    def reset(self):
        """Forget everything: a new connection begins."""
        self.rx = self._small_rx
        self._tx = self._small_tx
        self.head = self.pos = self.stop = self.end = self._sent = self._filled = self._at = 0

    def room(self):
        """-> the buffer to receive into. Allocates only behind a part of a packet."""
        if self.head == self.end:
            self.rx = self._small_rx
            self.head = self.stop = self.end = 0
            return self.rx
        if self.head:
            count = self.end - self.head
            self.rx[:count] = memoryview(self.rx)[self.head : self.end]
            self.head = self.stop = 0
            self.end = count
        return memoryview(self.rx)[self.end :]

    def received(self, count):
        """Say that `count` bytes were put into what `room` gave."""
        self.end += count

    def next(self):
        """-> first byte (type and flags) of the next whole packet, 0 when more bytes are needed.

        The packet before is done with. Raises ValueError for a length that is malformed or over
        the limit: such a connection has to be closed (4.8).
        """
        rx = self.rx
        self.head = at = self.stop
        length = shift = 0
        byte = 128
        while byte & 128:
            at += 1
            if at >= self.end:
                return 0
            if shift > 21:
                raise ValueError("malformed remaining length")
            byte = rx[at]
            length |= (byte & 127) << shift
            shift += 7
        size = at + 1 - self.head + length
        if size > self._packet_max:
            borrow("mqttlink").too_large(size, self._packet_max)
        if self.head + size > self.end:
            if size > len(rx):
                # Not before all of its head is here, and never more than the limit above.
                self.rx = bytearray(size)
                self.rx[: self.end - self.head] = memoryview(rx)[self.head : self.end]
                self.end -= self.head
                self.head = self.stop = 0
            return 0
        if rx[self.head] < 16:
            raise ValueError("packet of type 0")
        self.pos = at + 1
        self.stop = self.head + size
        return rx[self.head]

    def hold(self):
        """Have `next` give the same packet again: nobody could take it now."""
        self.stop = self.head

    def short(self):
        """-> the next two bytes of the body as a number; ValueError beyond its end, as for `string`."""
        at = self.pos
        if at + 2 > self.stop:
            raise ValueError("packet ends too early")
        self.pos = at + 2
        return self.rx[at] << 8 | self.rx[at + 1]

    def string(self):
        """-> bytes with a length before them (1.5.3)."""
        count = self.short()
        if self.pos + count > self.stop:
            raise ValueError("packet ends too early")
        return self.rest(self.pos + count)

    def rest(self, stop=None):
        """-> bytes up to the end of the body."""
        start = self.pos
        self.pos = self.stop if stop is None else stop
        return bytes(memoryview(self.rx)[start : self.pos])

    def topic(self):
        """-> topic as text; ValueError for one that may not be published to (3.3.2.1, 1.5.3)."""
        name = self.string()
        if not 0 < len(name) <= TOPIC_SIZE_MAX or b"+" in name or b"#" in name or b"\0" in name:
            raise ValueError("topic that cannot be published to")
        return str(name, "utf-8")

    def begin(self, kind, length):
        """Start a packet to be sent, with a body of `length` bytes; -> False when there is no room now.

        ValueError when it is over the limit.
        """
        size = length + (2 if length < 128 else 3 if length < 16384 else 4)
        if size > self._packet_max:
            borrow("mqttlink").too_large(size, self._packet_max)
        if self._filled == self._sent:
            self._filled = self._sent = 0
            self._tx = self._small_tx
            if size > len(self._tx):
                self._tx = bytearray(size)
        tx = self._tx
        at = self._filled
        if at + size > len(tx):
            return False
        tx[at] = kind
        at += 1
        while length > 127:
            tx[at] = length & 127 | 128
            length >>= 7
            at += 1
        tx[at] = length
        self._at = at + 1
        self._filled += size
        return True

    def put_short(self, value):
        at = self._at
        self._tx[at] = value >> 8
        self._tx[at + 1] = value & 255
        self._at = at + 2

    def put(self, data):
        """Append bytes to the packet begun."""
        at = self._at
        self._at = at + len(data)
        self._tx[at : self._at] = data

    def publish(self, kind, topic, msg, pid):
        """Put a whole PUBLISH (3.3) there; -> False when there is no room now."""
        if not self.begin(kind, 2 + len(topic) + (2 if kind & 6 else 0) + len(msg)):
            return False
        self.put_short(len(topic))
        self.put(topic)
        if kind & 6:
            self.put_short(pid)
        self.put(msg)
        return True

    def short_packet(self, kind, pid):
        """Put a packet that is only an identifier there, such as PUBACK; -> False without room."""
        if not self.begin(kind, 2):
            return False
        self.put_short(pid)
        return True

    def left(self):
        """-> how many bytes wait to be written."""
        return self._filled - self._sent

    def flush(self, stream):
        """Write what waits; -> True when bytes went out. OSError from the stream."""
        if self._filled == self._sent:
            return False
        count = stream.write(self._tx, self._sent, self._filled - self._sent) or 0
        self._sent += count
        return count > 0


def _bytes(text):
    return text.encode() if isinstance(text, str) else text


class MQTTClient:
    """A client of the broker that `dial()` connects to, with the methods of umqtt's client.

    None of them waits: what they ask for is done by the task `run`, over reconnects, until
    `disconnect`. The session is clean; subscriptions are made again after a reconnect.

    Args: `client_id`; `dial()` -> stream, connection started (OSError, ValueError); `loop`;
    `random(n)` -> bytes, for jitter; `log`; `keepalive` in seconds, at least 1; `size` bytes of each
    of the two buffers.
    """

    def __init__(self, client_id, dial, loop, random, log, user=None, password=None, keepalive=60, size=512):
        self._names = [_bytes(client_id), None, None, _bytes(user), _bytes(password), 0]
        self._dial = dial
        self._loop = loop
        self._clock = loop.clock
        self._random = random
        self._log = log
        self._keepalive = keepalive
        self._packets = Packets(size)
        self._subscriptions = {}  # topic -> QoS
        self._queue = []  # at QoS 1, oldest first: [pid, topic, message, first byte, sent]
        self._pid = 0
        self._callback = self._task = self.waiter = None
        self._wanted = False
        self._reset()

    def _reset(self):
        self.connected = self._held = False
        self._pending = False  # true: a subscription is PENDING
        self._asked = None  # when an answer was asked for that must come (CONNACK, PINGRESP)
        self._said = self._heard = self._clock.ticks_ms()
        self._packets.reset()

    def set_callback(self, callback):
        """`callback(topic: str, msg: bytes)` takes each message; False: it could not, ask again later."""
        self._callback = callback

    def set_last_will(self, topic, msg, retain=False, qos=0):
        self._names[1] = _bytes(topic)
        self._names[2] = _bytes(msg)
        self._names[5] = 4 | qos << 3 | retain << 5  # the CONNECT flags of the will

    def connect(self):
        """Have the task keep a connection."""
        self._wanted = True
        self.wake()

    def disconnect(self):
        """Say goodbye and stay away; what waits at QoS 1 is kept for the next `connect`."""
        self._wanted = False
        self.wake()

    def wake(self):
        """Have the task look again: after a `callback` that could not take a message, for example."""
        if self._task is not None:
            self._task.wake()

    def publish(self, topic, msg, retain=False, qos=0):
        """Send `msg` (text or bytes); -> False when it cannot be taken now.

        At QoS 0 that is without a connection or without room in the buffer; at QoS 1 when
        INFLIGHT_MAX wait already, connected or not. `waiter`, a task, is woken when that changes.
        ValueError for what is over the limits.
        """
        topic = _bytes(topic)
        msg = _bytes(msg)
        if not 0 < len(topic) <= TOPIC_SIZE_MAX or len(topic) + len(msg) > PACKET_SIZE_MAX - 8:
            raise ValueError("topic of %d and message of %d bytes" % (len(topic), len(msg)))
        if qos:
            if len(self._queue) >= INFLIGHT_MAX:
                return False
            self._queue.append([self._next_pid(), topic, msg, 0x32 | retain, False])
        elif not self.connected or not self._packets.publish(0x30 | retain, topic, msg, 0):
            return False
        self.wake()
        return True

    def subscribe(self, topic, qos=0):
        """Subscribe now and after each reconnect. ValueError over mqttlink.SUBSCRIPTIONS_MAX."""
        borrow("mqttlink").want(self._subscriptions, topic, qos)
        self._pending = True
        self.wake()

    def unsubscribe(self, topic):
        """Unsubscribe; -> False when the packet has no room now."""
        if self.connected and not borrow("mqttlink").unsubscribe(self._packets, topic, self._next_pid()):
            return False
        self._subscriptions.pop(topic, None)
        self.wake()
        return True

    def ping(self):
        """Ask the broker for a PINGRESP now; without one the connection is given up."""
        if self._packets.begin(0xC0, 0):
            self._asked = self._clock.ticks_ms()
            self.wake()

    def run(self, task):
        """The task: connect, serve, and after a loss wait and connect again."""
        self._task = task
        clock = self._clock
        delay = 0
        while True:
            while not self._wanted:
                yield
            began = clock.ticks_ms()
            stream = None
            try:
                self._reset()
                stream = self._dial()
                yield from self._session(task, stream)
                continue
            except (OSError, ValueError) as error:
                self._log.warning("eventbus", "no broker", "error", error)
            finally:
                self.connected = False
                self._wake_waiter()
                if stream is not None:
                    self._loop.unwatch(stream)
                    stream.close()
            delay, until = borrow("mqttlink").back_off(clock, began, delay, self._random(1)[0])
            while clock.ticks_diff(until, clock.ticks_ms()) > 0:
                task.sleep(clock.ticks_diff(until, clock.ticks_ms()))
                yield

    def _session(self, task, stream):
        self._loop.watch(stream, READ | WRITE, task)
        task.sleep(_CONNECT_MS)
        yield  # until the connection stands, or failed
        packets = self._packets
        borrow("mqttlink").hello(packets, self._names, self._keepalive)
        self._asked = self._clock.ticks_ms()
        watched = READ | WRITE
        while self._wanted:
            self._receive(stream)
            self._pump()
            while packets.flush(stream):
                self._said = self._clock.ticks_ms()
                self._wake_waiter()
                self._pump()
            # What nobody takes stays with the broker.
            events = (0 if self._held else READ) | (WRITE if packets.left() else 0)
            if events != watched:
                watched = events
                self._loop.watch(stream, events, task)
            task.sleep(self._due())
            yield
        packets.begin(0xE0, 0)
        packets.flush(stream)

    def _receive(self, stream):
        packets = self._packets
        if not self._held:
            count = stream.readinto(packets.room())
            if count is None:
                return
            if not count:
                raise OSError("closed by the broker")
            packets.received(count)
            self._heard = self._clock.ticks_ms()
        self._held = False
        kind = packets.next()
        while kind:
            self._handle(kind)
            if self._held:
                return
            kind = packets.next()

    def _handle(self, kind):
        packets = self._packets
        if not self.connected:
            borrow("mqttlink").welcome(kind, packets, self._subscriptions, self._queue)
            self.connected = self._pending = True
            self._asked = None
            self._log.info("eventbus", "connected")
            self._wake_waiter()
        elif kind & 0xF0 == 0x30:
            self._publish(kind)
        elif kind == 0x40:
            pid = packets.short()
            for i in range(len(self._queue)):
                if self._queue[i][0] == pid:
                    del self._queue[i]
                    self._wake_waiter()
                    break
        elif kind == 0xD0:
            self._asked = None
        else:
            borrow("mqttlink").other(kind, packets, self._log)

    def _wake_waiter(self):
        if self.waiter is not None:
            self.waiter.wake()

    def _publish(self, kind):
        packets = self._packets
        topic = packets.topic()
        pid = packets.short() if kind & 6 else 0
        if self._callback(topic, packets.rest()) is False:
            self._held = True
            packets.hold()
        elif pid and not packets.short_packet(0x40, pid):
            raise ValueError("the broker sends, but takes no answers")

    def _pump(self):
        """Send what waits: subscriptions, then messages at QoS 1, as far as there is room."""
        if not self.connected:
            return
        packets = self._packets
        if self._pending:
            self._pending = borrow("mqttlink").subscribe(packets, self._subscriptions, self._next_pid)
            if self._pending:
                return
        for entry in self._queue:
            if not entry[4]:
                if not packets.publish(entry[3], entry[1], entry[2], entry[0]):
                    return
                entry[3] |= 8  # DUP, should it have to be sent again (3.3.1.1)
                entry[4] = True

    def _due(self):
        """-> ms until something has to happen; pings when it is time, gives up when no answer came."""
        clock = self._clock
        now = clock.ticks_ms()
        if self._held:
            self._asked = None  # its answer is behind what is held back
        elif self._asked is not None:
            left = (_PINGRESP_MS if self.connected else _CONNECT_MS) - clock.ticks_diff(now, self._asked)
            if left <= 0:
                raise OSError("no answer from the broker")
            return left
        # Silence in either direction is broken at three quarters of what the broker allows.
        silent = max(clock.ticks_diff(now, self._said), clock.ticks_diff(now, self._heard))
        left = self._keepalive * 750 - silent
        if left > 0:
            return left
        self.ping()
        return _PINGRESP_MS

    def _next_pid(self):
        """-> the next identifier 1..65535 that no message in flight has (2.3.1)."""
        while True:
            self._pid = self._pid % 65535 + 1
            for entry in self._queue:
                if entry[0] == self._pid:
                    break
            else:
                return self._pid
