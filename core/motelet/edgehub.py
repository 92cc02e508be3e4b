"""EdgeHub: the board's end of the link to CloudHub (protocol.cddl), as a task of the loop.

One frame is under way at a time in either direction, in two buffers made once. Whatever has to be
said later is state, never a queue: the highest sequence number to acknowledge, the place in the
list of held objects, the next chunk of a blob, the twin's newest unsent values. So a slow link
costs no memory, and a lost one loses nothing that the next connection does not derive anew.

Acknowledged means durable: MetaManager's put has returned before a sequence number counts.

This is what a link needs while objects and reports go over it; `edgelink` has the rest and is borrowed. It
works on the same private attributes.
"""

from micropython import const

from motelet import borrow, protocol
from motelet.cbor import ARRAY, Reader, Writer
from motelet.device import Device
from motelet.kvrecord import StoreError
from motelet.loop import READ, WRITE
from motelet.websocket import CLOSE, MESSAGE, NEED_MORE, OPEN, PAYLOAD, PING, Client

MESSAGE_MAX = const(1280)  # bytes: announced in HELLO; a chunk of a blob and what is around it
WINDOW = const(8)  # messages that may wait for an acknowledgement, either way
_TURN_MS = const(50)  # after which other tasks come first
_TX_SIZE = const(384)  # bytes: the request for a link, NODE; what is larger takes more (cborroom)


class EdgeHub:
    """The link to the bridge at config["host"], config["port"].

    Args: `port` the platform; `loop`, `log`; `meta` the MetaManager; `reports` what has values for
    the cloud (next_report, sent, acked, refused, link_lost, in_step: see devicetwin); `config` as
    in gateway.py; `context` the TLS context, None for a plain link (tests only). `uploads`, None
    unless an EventBus sets it, is what applications send to the cloud; `eventbus` takes what it publishes.
    `pods`, None unless there are some, has messages of its own (say, acked, refused, link_lost, in_step;
    `kind`: the class of its items).

    `connected`: WELCOME was received and the link is up; `synced`: the bridge said that everything
    is here; `connects` counts the links; `heard`: tick at which bytes came last; `acked`: number of
    the last message whose acknowledgement was made.
    """

    def __init__(self, port, loop, log, meta, reports, config, context):
        self.port = port
        self.loop = loop
        self.clock = loop.clock
        self.log = log
        self.meta = meta
        self._reports = reports
        self.config = config
        self.context = context
        self._ws = Client(MESSAGE_MAX, _TX_SIZE)
        self._writer = Writer(self._ws.tx)
        self._writer.link = self._ws
        self._reader = Reader()
        self._mask = bytearray(4)
        self._window = [None] * WINDOW  # by sequence number: the item that waits for its acknowledgement
        self.uploads = self.eventbus = self.pods = None
        self._transfer = self._stream = self.task = self._link = self.csr = None
        self._back_off = self._opened = self.connects = self._transfer_seq = self.pair = 0
        self.connected = self.synced = False

    def _rare(self):
        # edgelink, kept until a link is open, while it is said what is held, and while a blob is under way.
        # Not while objects come: each device that comes needs the memory to be loaded.
        if self._link is None:
            self._link = borrow("edgelink")
        return self._link

    def run(self, task):
        """The task: connect, serve, close, wait, for ever."""
        self.task = task
        clock = self.clock
        if self._stream is not None:
            self._rare().hang_up(self, OSError("the task was started again"))
        if self.context is None and "token" in self.config:
            yield from borrow("enrol").enrol(self)
        while True:
            try:
                if "sntp" in self.config:
                    yield from borrow("sntp").ask(self, task)
                self._rare().dial(self)
                while True:
                    task.sleep(self._serve())
                    yield
            except (OSError, ValueError, MemoryError) as error:
                # TLS reports a refused certificate as ValueError, a broken connection as OSError.
                left = self._rare().hang_up(self, error)
            self._link = None
            until = clock.ticks_add(clock.ticks_ms(), left)
            while left > 0:
                task.sleep(left)
                yield
                left = clock.ticks_diff(until, clock.ticks_ms())

    def _serve(self):
        # Do all that can be done now; -> ms until the next deadline. A received message is handled only
        # while nothing waits to be sent, so that its answer always has a buffer, and the bridge feels a
        # slow uplink as back-pressure.
        began = self.clock.ticks_ms()
        while self._flush() and (self._receive() or self._send()):
            if self.clock.ticks_diff(self.clock.ticks_ms(), began) > _TURN_MS:
                return 1  # flash had to be erased, and the next message may ask for that too
        now = self.clock.ticks_ms()
        left = protocol.DEAD_MS - self.clock.ticks_diff(now, self.heard)
        if left <= 0 or not self.connected:
            return self._rare().deadline(self, left)
        if self._have is None and self._transfer is None:
            self._link = None
        return max(1, min(left, protocol.PING_MS - self.clock.ticks_diff(now, self._said)))

    def _flush(self):
        # Write what is pending; -> True when the buffer is free.
        ws = self._ws
        if ws.len:
            count = self._stream.write(ws.tx, ws.off, ws.len)
            if count is not None:
                ws.off += count
                ws.len -= count
                self._said = self.clock.ticks_ms()
        events = READ | WRITE if ws.len else READ
        if self._events != events:
            self._events = events
            self.loop.watch(self._stream, events, self.task)
        return not ws.len

    def _receive(self):
        # Handle at most one received frame; -> True when there was one.
        if not self.meta.room(self.task):
            return False
        ws = self._ws
        event = ws.next()
        while event == NEED_MORE:
            count = self._stream.readinto(ws.room())
            if count is None:
                return False
            if count == 0:
                self._rare().closed(self, event)
            self.heard = self.clock.ticks_ms()
            ws.fill += count
            event = ws.next()
        if event == MESSAGE:
            self._reader.open(ws.rx, ws.start, ws.end)
            self._message(self._reader)
        elif event == OPEN:
            self._rare().hello(self, MESSAGE_MAX)
        elif event == PING:
            ws.pong(self._mask)
        elif event == CLOSE:
            self._rare().closed(self, event)
        return True

    def _message(self, reader):
        size = reader.array()
        kind = reader.uint()
        if self.connected and (kind == protocol.ACK or kind == protocol.NACK):
            self._settle(kind == protocol.NACK, reader)
            return
        if (
            not self.connected
            or kind != protocol.PUT
            and kind != protocol.DELETE
            and kind != protocol.PUTBLOB
        ):
            self._rare().other(self, kind, size, reader)
            return
        # Store what has a sequence number, then let it count; refuse it by number if need be.
        seq = reader.uint()
        if seq != self._rx_seq + 1:
            self._rare().out_of_step(self, seq)
        self._rx_seq = seq
        try:
            resource = reader.text()
            if resource.startswith(".") or len(resource) > protocol.RESOURCE_SIZE_MAX:
                raise ValueError("resource %s" % resource[:64])
            if kind == protocol.DELETE:
                self.meta.delete(resource)
            else:
                start = reader.pos
                version = reader.text()
                if len(version) > protocol.VERSION_SIZE_MAX:
                    raise ValueError("version of %s is too long" % resource)
                if kind == protocol.PUT:
                    reader.span(2)
                    self.meta.put(resource, self._ws.rx, start, reader.pos)
                else:
                    self._rare().offer(self, seq, resource, version, reader)
        except (ValueError, StoreError) as error:
            self._rare().refuse(self, seq, error)
        # A blob is acknowledged by its own number when it is whole; the others need not wait for it.
        self._ack = seq

    def _settle(self, refused, reader):
        # The bridge has taken all up to a number, or refused just that one.
        seq = reader.uint()
        if seq > self._tx_seq:
            self._rare().out_of_step(self, seq)
        window = self._window
        first = seq if refused else self._tx_acked + 1
        while self._tx_acked < first <= seq:
            item = window[first % WINDOW]
            window[first % WINDOW] = None
            if item is not None:
                owner = self.uploads if isinstance(item, int) else self._reports
                if self.pods is not None and isinstance(item, self.pods.kind):
                    owner = self.pods
                if refused:
                    owner.refused(item, reader.uint(), reader.text())
                else:
                    owner.acked(item)
            first += 1
        if not refused and seq > self._tx_acked:
            self._tx_acked = seq

    # -- what goes up -------------------------------------------------------------------------

    def _send(self):
        # Put the next thing that waits to be said into the buffer; -> True when there was one.
        if not self.connected:
            return False
        if self._ack != self.acked:
            self._begin(protocol.ACK, 2).value(self._ack)
            self.acked = self._ack
            self._frame(MESSAGE)
        elif self._have is not None or self.csr is not None:
            self._rare().say_have(self)
        elif self._blob_done or self._blob_get:
            self._rare().say_blob(self)
        elif self._tx_seq - self._tx_acked >= WINDOW or not (
            self._report() or self._upload() or self.pods is not None and self.pods.say(self)
        ):
            if self.clock.ticks_diff(self.clock.ticks_ms(), self._said) < protocol.PING_MS:
                return False
            self._writer.n = PAYLOAD
            self._frame(PING)
        return True

    def _report(self):
        # The twin's next unsent value or state; -> False without one.
        item = self._reports.next_report()
        if item is None:
            return False
        device = isinstance(item, Device)
        if not item.ref:
            self._refs += 1
            item.ref = self._refs
            writer = self._begin(protocol.NAME, 4)
            writer.value(item.ref)
            writer.value(item.resource if device else item.device.resource)
            writer.value(None if device else item.name)
        else:
            last = item.reason if device else item.observed
            if device and 4 * len(last) > protocol.REASON_SIZE_MAX:
                last = self._rare().cut(last)
            writer = self._begin(
                protocol.STATE if device else protocol.REPORT, 5 if last is None else 6, item
            )
            writer.value(item.ref)
            writer.value(item.state if device else item.value)
            writer.value(item.time_ms)
            if last is not None:
                writer.value(last)
            self._reports.sent(item)
        self._frame(MESSAGE)
        return True

    def _upload(self):
        # An application's next unsent message; -> False without one.
        uploads = self.uploads
        number = uploads.next() if uploads is not None else 0
        if not number:
            return False
        parts = uploads.read(number)
        if parts is None:
            uploads.refused(number, 0, "unreadable")
            return True
        writer = self._begin(protocol.EVENT, 5, number)
        for part in parts:
            writer.value(part)
        uploads.sent(number)
        self._frame(MESSAGE)
        return True

    def _begin(self, kind, size, item=None):
        # Start a message of `size` items; `item` gives it a number and waits for its acknowledgement.
        writer = self._writer
        writer.n = PAYLOAD
        writer.head(ARRAY, size)
        writer.value(kind)
        if item is not None:
            self._tx_seq += 1
            self._window[self._tx_seq % WINDOW] = item
            writer.value(self._tx_seq)
        return writer

    def _frame(self, opcode):
        # Have what was begun ready to be written.
        mask = self._mask
        # A full-period 16-bit generator, seeded from the port at connect: no allocation a frame. The
        # mask only keeps chosen bytes from a proxy's cache, which TLS does anyway.
        state = ((mask[0] << 8 | mask[1]) * 8405 + 13849) & 0xFFFF
        mask[0] = mask[2] = state >> 8
        mask[1] = mask[3] = state & 0xFF
        self._ws.frame(opcode, self._writer.n - PAYLOAD, mask)
