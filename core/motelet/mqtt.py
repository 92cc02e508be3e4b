"""MQTT 3.1.1: the bytes of one connection (`Packets`) and a client of a broker (`MQTTClient`).

The clients there are for MicroPython block in the middle of a packet, send a packet in five writes
and never wrap their packet identifiers. Here the codec does no I/O of its own and the client is one task
of the loop: it takes what has arrived, sends what fits, and yields. A peer that stalls half-way
through a packet delays nobody. Keepalive and publishing at QoS 0 from bytes allocate nothing. What is
said or asked once a connection is in `mqttlink`, borrowed.

Section numbers are those of the OASIS standard MQTT 3.1.1. QoS 2 is not spoken: it is neither
asked for nor sent, and a broker may not exceed what was granted (3.8.4).
"""

from micropython import const

from motelet import borrow
from motelet.loop import READ, WRITE

PACKET_SIZE_MAX = const(16384)  # bytes of one packet either way, head included
TOPIC_SIZE_MAX = const(512)  # bytes
INFLIGHT_MAX = const(8)  # messages at QoS 1 that wait for their PUBACK, or for a connection

_CONNECT_MS = const(20000)  # from the start of the connection to CONNACK; a chip takes seconds for TLS
_PINGRESP_MS = const(10000)


def _refuse(number):
    borrow("mqttlink").refuse(number)


class Packets:
    """What a connection has received and what it has to send.

    `rx` holds unread bytes head..end; the body of the packet that `next` found is pos..stop. Packets
    up to `size` need no memory but these buffers; one that is larger, up to `packet_max`, gets a
    buffer of its own for as long as it takes. With `stop` set back to `head`, `next` gives the same
    packet again.
    """

    def __init__(self, size, packet_max=PACKET_SIZE_MAX):
        self._small_rx = self.rx = bytearray(size)
        self._small_tx = self._tx = bytearray(size)
        self._packet_max = packet_max
        self.head = self.pos = self.stop = self.end = self._sent = self._filled = 0

    def fill(self, stream):
        """Read what has arrived; -> False when nothing has. OSError from the stream, and at its end.

        Allocates only behind a part of a packet.
        """
        if self.head == self.end:
            room = self.rx = self._small_rx
            self.head = self.stop = self.end = 0
        else:
            if self.head:
                count = self.end - self.head
                self.rx[:count] = memoryview(self.rx)[self.head : self.end]
                self.head = self.stop = 0
                self.end = count
            room = memoryview(self.rx)[self.end :]
        count = stream.readinto(room)
        if count is None:
            return False
        if not count:
            raise OSError("closed by the peer")
        self.end += count
        return True

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
                _refuse(0)
            byte = rx[at]
            length |= (byte & 127) << shift
            shift += 7
        size = at + 1 - self.head + length
        if size > self._packet_max or rx[self.head] < 16:
            _refuse(1 if rx[self.head] < 16 else 2)
        if self.head + size > self.end:
            if size > len(rx):
                # Not before all of its head is here, and never more than the limit above.
                self.rx = bytearray(size)
                self.rx[: self.end - self.head] = memoryview(rx)[self.head : self.end]
                self.end -= self.head
                self.head = self.stop = 0
            return 0
        self.pos = at + 1
        self.stop = self.head + size
        return rx[self.head]

    def short(self):
        """-> the next two bytes of the body as a number; ValueError beyond its end."""
        at = self.pos
        self.pos = at + 2
        if self.pos > self.stop:
            _refuse(3)
        return self.rx[at] << 8 | self.rx[at + 1]

    def string(self, count=-1):
        """-> the next `count` bytes; without it, bytes with their length before them (1.5.3). As `short`."""
        if count < 0:
            count = self.short()
        at = self.pos
        self.pos = at + count
        if self.pos > self.stop:
            _refuse(3)
        return bytes(memoryview(self.rx)[at : self.pos])

    def topic(self):
        """-> topic as text; ValueError for one that may not be published to (3.3.2.1, 1.5.3)."""
        count = self.short()
        at = self.pos
        self.pos = at + count
        if self.pos > self.stop:
            _refuse(3)
        name = str(memoryview(self.rx)[at : self.pos], "utf-8")
        if not 0 < count <= TOPIC_SIZE_MAX or "+" in name or "#" in name or "\0" in name:
            _refuse(4)
        return name

    def send(self, kind, msg, topic=None, pid=0):
        """Put a packet there: `topic` and `pid`, where it has them, and `msg` (bytes); -> False without room.

        ValueError when it is over the limit.
        """
        size = len(msg) + (2 if pid else 0) + (0 if topic is None else 2 + len(topic))
        length = size
        size += 2 if length < 128 else 3 if length < 16384 else 4
        if size > self._packet_max:
            _refuse(2)
        if self._filled == self._sent:
            self._filled = self._sent = 0
            self._tx = self._small_tx
            if size > len(self._tx):
                self._tx = bytearray(size)
        tx = self._tx
        at = self._filled
        if at + size > len(tx):
            return False
        self._filled = at + size
        tx[at] = kind
        at += 1
        while length > 127:
            tx[at] = length & 127 | 128
            length >>= 7
            at += 1
        tx[at] = length
        at += 1
        if topic is not None:
            length = len(topic)
            tx[at] = length >> 8
            tx[at + 1] = length & 255
            at += 2
            tx[at : at + length] = topic
            at += length
        if pid:
            tx[at] = pid >> 8
            tx[at + 1] = pid & 255
            at += 2
        tx[at : at + len(msg)] = msg
        return True

    def flush(self, stream):
        """Write what waits; -> True when bytes went out. OSError from the stream."""
        if self._filled == self._sent:
            self._tx = self._small_tx
            return False
        count = stream.write(self._tx, self._sent, self._filled - self._sent) or 0
        self._sent += count
        return count > 0


class MQTTClient:
    """A client of the broker that `dial()` connects to, with the methods of umqtt's client.

    None of them waits: what they ask for is done by the task `run`, over reconnects, until
    `disconnect`. The session is clean; subscriptions are made again after a reconnect. Those that are
    called seldom are functions of `mqttlink`: set_callback, set_last_will, connect, disconnect,
    subscribe, unsubscribe, ping, waits.

    Args: `client_id`; `dial()` -> stream, connection started (OSError, ValueError); `loop`;
    `random(n)` -> bytes, for jitter; `log`; user, password, keepalive (s, at least 1) and size (bytes of
    each of the two buffers).
    """

    def __init__(self, client_id, dial, loop, random, log, size=256, **options):
        borrow("mqttlink").make(self, Packets(size), client_id, dial, loop, random, log, **options)

    def __getattr__(self, name):
        function = getattr(borrow("mqttlink"), name)
        return lambda *args: function(self, *args)

    def wake(self):
        """Have the task look again: after a `callback` that could not take a message, for example."""
        if self._task is not None:
            self._task.wake()

    def publish(self, topic, msg, retain=False, qos=0):
        """Send `msg` (text or bytes); -> False when it cannot be taken now, at QoS 1 its identifier.

        At QoS 0 that is without a connection or without room in the buffer; at QoS 1 when
        INFLIGHT_MAX wait already, connected or not. `waiter`, a task, is woken when that changes.
        ValueError for what is over the limits.
        """
        if isinstance(topic, str):
            topic = topic.encode()
        if isinstance(msg, str):
            msg = msg.encode()
        if not 0 < len(topic) <= TOPIC_SIZE_MAX or len(topic) + len(msg) > PACKET_SIZE_MAX - 8:
            _refuse(5)
        if qos:
            if len(self._queue) >= INFLIGHT_MAX:
                return False
            qos = self._next_pid()
            self._queue.append([qos, topic, msg, 0x32 | retain, False])
        elif not self.connected or not self._packets.send(0x30 | retain, msg, topic):
            return False
        self.wake()
        return qos or True

    def run(self, task):
        """The task: connect, serve, and after a loss wait and connect again."""
        self._task = task
        clock = self._clock
        while True:
            while not self._wanted:
                yield
            try:
                borrow("mqttlink").dial(self)
                while True:
                    task.sleep(self._serve())
                    yield
            except (OSError, ValueError) as error:
                left = borrow("mqttlink").hang_up(self, error)
            until = clock.ticks_add(clock.ticks_ms(), left)
            while left > 0:
                task.sleep(left)
                yield
                left = clock.ticks_diff(until, clock.ticks_ms())

    def _serve(self):
        """Do all that can be done now; -> ms until something has to happen. Pings when it is time."""
        packets = self._packets
        clock = self._clock
        # Not before CONNECT is out: TLS wants to be written to first (ports/README.md).
        if self.connected or packets._filled == packets._sent:
            self._receive()
        self._pump()
        while packets.flush(self._stream):
            self._said = clock.ticks_ms()
            self.waiter.wake()
            self._pump()
        # What nobody takes stays with the broker.
        events = (0 if self._held else READ) | (WRITE if packets._filled > packets._sent else 0)
        if events != self._events:
            self._events = events
            self._loop.watch(self._stream, events, self._task)
        if not self._wanted:
            borrow("mqttlink").goodbye(self)
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
        if left <= 0 and packets.send(0xC0, b""):
            self._asked = now
            self.wake()
        return left if left > 0 else _PINGRESP_MS

    def _receive(self):
        packets = self._packets
        if not self._held:
            if not packets.fill(self._stream):
                return
            self._heard = self._clock.ticks_ms()
        self._held = False
        queue = self._queue
        kind = packets.next()
        while kind:
            if not self.connected:
                borrow("mqttlink").welcome(self, kind)
            elif kind & 0xF0 == 0x30:
                topic = packets.topic()
                pid = packets.short() if kind & 6 else 0
                if self._callback(topic, packets.string(packets.stop - packets.pos)) is False:
                    self._held = True
                    packets.stop = packets.head
                    return
                if pid and not packets.send(0x40, b"", None, pid):
                    _refuse(6)
            elif kind == 0x40:
                pid = packets.short()
                for i in range(len(queue)):
                    if queue[i][0] == pid:
                        del queue[i]
                        self.waiter.wake()
                        break
            elif kind == 0xD0:
                self._asked = None
            else:
                borrow("mqttlink").other(kind, packets, self._log)
            kind = packets.next()

    def _pump(self):
        """Send what waits: subscriptions, then messages at QoS 1, as far as there is room."""
        if not self.connected or self._pending and borrow("mqttlink").some_left(self):
            return
        for entry in self._queue:
            if not entry[4]:
                if not self._packets.send(entry[3], entry[2], entry[1], entry[0]):
                    return
                entry[3] |= 8  # DUP, should it have to be sent again (3.3.1.1)
                entry[4] = True

    def _next_pid(self):
        """-> the next identifier 1..65535 that no message in flight has (2.3.1)."""
        while True:
            self._pid = self._pid % 65535 + 1
            for entry in self._queue:
                if entry[0] == self._pid:
                    break
            else:
                return self._pid
