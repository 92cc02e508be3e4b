"""EdgeHub: the board's end of the link to CloudHub (protocol.cddl), as a task of the loop.

One frame is under way at a time in either direction, in two buffers made once. Whatever has to be
said later is state, never a queue: the highest sequence number to acknowledge, the place in the
list of held objects, the next chunk of a blob, the twin's newest unsent values. So a slow link
costs no memory, and a lost one loses nothing that the next connection does not derive anew.

Acknowledged means durable: MetaManager's put has returned before a sequence number counts.

This is what a link in step needs; `edgelink` has the rest and is borrowed until then.
"""

from micropython import const

from motelet import borrow, protocol
from motelet.cbor import Reader, Writer
from motelet.device import Device
from motelet.kvlog import StoreError
from motelet.loop import READ, WRITE
from motelet.websocket import CLOSE, MESSAGE, NEED_MORE, OPEN, PAYLOAD, PING, Client, WebSocketError

MESSAGE_MAX = const(2304)  # bytes: announced in HELLO; a chunk of a blob and what is around it
WINDOW = const(8)  # messages that may wait for an acknowledgement, either way
_TX_SIZE = const(1280)  # bytes: a page of HAVE, an upload, or a report of the largest value
_OPEN_MS = const(30000)  # connect, TLS and upgrade together; a chip takes seconds for TLS


class EdgeHub:
    """The link to the bridge at config["host"], config["port"].

    Args: `port` the platform; `loop`, `log`; `meta` the MetaManager; `reports` what has values for
    the cloud (next_report, sent, acked, refused, link_lost: see devicetwin); `config` as in
    gateway.py; `context` the TLS context, None for a plain link (tests only). `uploads`, None
    unless an EventBus sets it, is what applications send to the cloud.
    """

    def __init__(self, port, loop, log, meta, reports, config, context):
        self.port = port
        self.loop = loop
        self.clock = loop.clock
        self.log = log
        self.meta = meta
        self.reports = reports
        self.config = config
        self.context = context
        self.ws = Client(MESSAGE_MAX, _TX_SIZE)
        self.writer = Writer(self.ws.tx)
        self.reader = Reader()
        self.mask = bytearray(4)
        self.window = [None] * WINDOW  # by sequence number: the item that waits for its acknowledgement
        self.uploads = self.transfer = self.stream = self.task = self.link = None
        self.back_off = self.connects = self.left = self.transfer_seq = 0
        self.connected = False  # WELCOME was received and the link is up
        self.synced = False  # the bridge said that everything is here

    def rare(self):
        """-> edgelink, kept as long as a link is not in step or a blob is under way."""
        link = self.link
        if link is None:
            link = self.link = borrow("edgelink")
        return link

    def run(self, task):
        """The task: connect, serve, close, wait, for ever."""
        self.task = task
        clock = self.clock
        while True:
            link = self.rare()
            try:
                link.dial(self)
                while True:
                    task.sleep(self._serve())
                    link = None
                    yield
            except (OSError, ValueError, WebSocketError, self.rare().LinkError) as error:
                # TLS reports a refused certificate as ValueError, a broken connection as OSError.
                wait = self.rare().hang_up(self, error)
            self.link = link = None
            until = clock.ticks_add(clock.ticks_ms(), wait)
            while clock.ticks_diff(until, clock.ticks_ms()) > 0:
                task.sleep(clock.ticks_diff(until, clock.ticks_ms()))
                yield

    def _serve(self):
        """Do all that can be done now; -> ms until the next deadline.

        A received message is handled only while nothing waits to be sent, so that its answer always
        has a buffer, and the bridge feels a slow uplink as back-pressure.
        """
        while self._flush() and (self._receive() or self._send()):
            pass
        now = self.clock.ticks_ms()
        silent = self.clock.ticks_diff(now, self.heard)
        if silent >= protocol.DEAD_MS:
            raise self.rare().LinkError("nothing heard for %d ms" % silent)
        if not self.connected:
            left = _OPEN_MS - self.clock.ticks_diff(now, self.opened)
            if left <= 0:
                raise self.rare().LinkError("not open after %d ms" % _OPEN_MS)
            return left
        if self.synced and self.transfer is None:
            self.link = None
        return max(
            1, min(protocol.DEAD_MS - silent, protocol.PING_MS - self.clock.ticks_diff(now, self.said))
        )

    def _flush(self):
        """Write what is pending; -> True when the buffer is free."""
        if not self.left:
            return True
        count = self.stream.write(self.pending, self.off, self.left)
        if count is not None:
            self.off += count
            self.left -= count
        if self.left:
            self._watch(READ | WRITE)
            return False
        self.said = self.clock.ticks_ms()
        self._watch(READ)
        return True

    def _watch(self, events):
        if self.events != events:
            self.events = events
            self.loop.watch(self.stream, events, self.task)

    def _receive(self):
        """Handle at most one received frame; -> True when there was one."""
        if not self.meta.room(self.task):
            return False
        ws = self.ws
        event = ws.next()
        while event == NEED_MORE:
            count = self.stream.readinto(ws.room())
            if count is None:
                return False
            if count == 0:
                raise self.rare().LinkError("closed by the bridge")
            self.heard = self.clock.ticks_ms()
            ws.received(count)
            event = ws.next()
        if event == MESSAGE:
            self._message()
        elif event == OPEN:
            self.rare().hello(self, MESSAGE_MAX)
        elif event == PING:
            ws.pong(self.mask)
            self._queued()
        elif event == CLOSE:
            raise self.rare().LinkError("closed by the bridge: %d %s" % (ws.code, ws.reason))
        return True

    def _message(self):
        reader = self.reader
        reader.open(self.ws.rx, self.ws.start, self.ws.end)
        size = reader.array()
        kind = reader.uint()
        if not self.connected:
            self.rare().other(self, kind, size, reader)
        elif kind == protocol.PUT or kind == protocol.DELETE or kind == protocol.PUTBLOB:
            self._durable(kind, reader)
        elif kind == protocol.ACK or kind == protocol.NACK:
            self._settle(kind == protocol.NACK, reader)
        else:
            self.rare().other(self, kind, size, reader)

    def next_seq(self, seq):
        """`seq` came down; LinkError when another number was due."""
        if seq != self.rx_seq + 1:
            raise self.rare().LinkError("message %d after %d" % (seq, self.rx_seq))
        self.rx_seq = seq

    def _durable(self, kind, reader):
        """Store what has a sequence number, then let it count; refuse it by number if need be."""
        seq = reader.uint()
        self.next_seq(seq)
        try:
            resource = reader.text()
            if resource.startswith(".") or len(resource) > protocol.RESOURCE_SIZE_MAX:
                raise ValueError("resource %s" % resource[:64])
            if kind == protocol.DELETE:
                self.meta.delete(resource)
            elif kind == protocol.PUT:
                start = reader.pos
                if len(reader.text()) > protocol.VERSION_SIZE_MAX:
                    raise ValueError("version of %s is too long" % resource)
                reader.span(2)
                self.meta.put(resource, self.ws.rx, start, reader.pos)
            else:
                self.rare().offer(self, seq, resource, reader)
        except (ValueError, StoreError) as error:
            self.rare().refuse(self, seq, error)
        # A blob is acknowledged by its own number when it is whole; the others need not wait for it.
        self.ack = seq

    def _settle(self, refused, reader):
        """The bridge has taken all up to a number, or refused just that one."""
        seq = reader.uint()
        if seq > self.tx_seq:
            raise self.rare().LinkError("message %d was never sent" % seq)
        window = self.window
        first = seq if refused else self.tx_acked + 1
        while self.tx_acked < first <= seq:
            item = window[first % WINDOW]
            window[first % WINDOW] = None
            owner = self.uploads if isinstance(item, int) else self.reports
            if item is not None and refused:
                owner.refused(item, reader.uint(), reader.text())
            elif item is not None:
                owner.acked(item)
            first += 1
        if not refused and seq > self.tx_acked:
            self.tx_acked = seq

    # -- what goes up -------------------------------------------------------------------------

    def _send(self):
        """Put the next thing that waits to be said into the buffer; -> True when there was one."""
        if not self.connected:
            return False
        if self.ack != self.acked:
            self.begin(protocol.ACK, 2).uint(self.ack)
            self.acked = self.ack
            self.frame(MESSAGE)
        elif self.have is not None:
            self.rare().say_have(self)
        elif self.blob_done or self.blob_get:
            self.rare().say_blob(self)
        elif self.tx_seq - self.tx_acked >= WINDOW or not self._report():
            if self.clock.ticks_diff(self.clock.ticks_ms(), self.said) < protocol.PING_MS:
                return False
            self.writer.reset(PAYLOAD)
            self.frame(PING)
        return True

    def _report(self):
        """The twin's next unsent value or state, or an upload; -> False without one."""
        item = self.reports.next_report()
        if item is None:
            return self.uploads is not None and self._upload()
        device = isinstance(item, Device)
        if not item.ref:
            self.refs += 1
            item.ref = self.refs
            writer = self.begin(protocol.NAME, 4)
            writer.uint(item.ref)
            writer.text(item.resource if device else item.device.resource)
            writer.value(None if device else item.name)
            self.frame(MESSAGE)
            return True
        if device:
            writer = self.begin(protocol.STATE, 6, item)
        else:
            writer = self.begin(protocol.REPORT, 5 if item.observed is None else 6, item)
        writer.uint(item.ref)
        writer.value(item.state if device else item.value)
        writer.uint(item.time_ms)
        if device:
            writer.text(item.reason)
        elif item.observed is not None:
            writer.text(item.observed)
        self.reports.sent(item)
        self.frame(MESSAGE)
        return True

    def _upload(self):
        number = self.uploads.next()
        if not number:
            return False
        topic, time_ms, payload = self.uploads.read(number)
        writer = self.begin(protocol.EVENT, 5, number)
        writer.text(topic)
        writer.uint(time_ms)
        writer.bytes(payload)
        self.uploads.sent(number)
        self.frame(MESSAGE)
        return True

    def begin(self, kind, size, item=None):
        """Start a message of `size` items; `item` gives it a number and waits for its acknowledgement."""
        writer = self.writer
        writer.reset(PAYLOAD)
        writer.array(size)
        writer.uint(kind)
        if item is not None:
            self.tx_seq += 1
            self.window[self.tx_seq % WINDOW] = item
            writer.uint(self.tx_seq)
        return writer

    def frame(self, opcode):
        """Have what was begun ready to be written."""
        mask = self.mask
        # A full-period 16-bit generator, seeded from the port at connect: no allocation a frame. The
        # mask only keeps chosen bytes from a proxy's cache, which TLS does anyway.
        state = ((mask[0] << 8 | mask[1]) * 8405 + 13849) & 0xFFFF
        mask[0] = mask[2] = state >> 8
        mask[1] = mask[3] = state & 0xFF
        self.ws.frame(opcode, self.writer.n - PAYLOAD, mask)
        self._queued()

    def _queued(self):
        self.pending = self.ws.tx
        self.off = self.ws.off
        self.left = self.ws.len
