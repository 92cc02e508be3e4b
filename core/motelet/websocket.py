"""The client half of WebSocket (RFC 6455) without input or output, for one connection at a time.

The caller moves bytes: it reads from its stream into `room()`, adds their number to `fill`, asks `next`
what has come, and writes what `frame` and `pong` made. Both buffers are made once and serve every connection,
and a frame that came in one piece is handed out where it lies, so an exchange of messages runs without
an allocation.

What this client has no use for is refused with the closing code the RFC has for it: extensions (1002) and
text messages (1003; every message of the link is binary).

How a connection begins and ends is in `wshandshake`, which a board borrows.
"""

from micropython import const

from motelet import borrow

# What `next` returns. MESSAGE, CLOSE, PING and PONG are the opcodes of RFC 6455, 5.2, and serve to send too.
NEED_MORE = const(0)
OPEN = const(1)
MESSAGE = const(2)
CLOSE = const(8)
PING = const(9)
PONG = const(10)

# Offset in `tx` of the payload to send: the header of a masked frame of up to 65535 bytes lies before it.
PAYLOAD = const(8)
# Bytes of the server's answer to the request, without the empty line that ends it.
ANSWER_SIZE_MAX = const(1024)
# Bytes of a message in either direction: what a length of 16 bits can say.
SIZE_MAX = const(65535)

_CONTROL_MAX = const(125)  # bytes of payload of a control frame
_CONTROL_FRAME_MAX = const(127)  # the same with its header


class WebSocketError(ValueError):
    """The connection is of no use any more.

    Its `args` are the status to close with (RFC 6455, 7.4.1), if it is open, and a text: what is wrong.
    """


class Client:
    """One end of a connection, which `wshandshake.request` begins.

    rx_size: bytes of the largest message that is taken, in fragments or not, ANSWER_SIZE_MAX to SIZE_MAX.
    tx_size: bytes of the largest message that is sent, 125 to SIZE_MAX. ValueError for others.

    After MESSAGE, PING and PONG the payload is rx[start:end] until `next` is called again. After CLOSE there
    are `code` (1005 when the server gave none) and `reason`. What is to be sent is
    tx[off : off + len]; it has to be out before anything else is made in `tx`.
    """

    def __init__(self, rx_size, tx_size):
        if not (ANSWER_SIZE_MAX <= rx_size <= SIZE_MAX and _CONTROL_MAX <= tx_size <= SIZE_MAX):
            raise ValueError("WebSocket buffers of %d and %d bytes" % (rx_size, tx_size))
        # A control frame may come before the last fragment of the largest message.
        self.rx = bytearray(rx_size + _CONTROL_FRAME_MAX)
        self._view = memoryview(self.rx)
        # Masking takes four bytes at a time.
        self.tx = bytearray(PAYLOAD + (tx_size + 3 & ~3))
        # Here, so that the first frame does not make the table of attributes grow.
        self.off = self.len = 0

    def room(self):
        """Where to read the next bytes to; count them in `fill` then. After NEED_MORE there is room."""
        return self._view[self.fill :] if self.fill else self.rx

    def next(self):
        """What came: once OPEN, then MESSAGE, PING, PONG or CLOSE; NEED_MORE when no more of it is whole.

        Raises WebSocketError.
        """
        if self._accept:
            return borrow("wshandshake").answer(self)
        # rx[:_held]: fragments of a message, _more to come; rx[_at:fill]: came, but not looked at yet.
        self._held = self._held if self._more else 0
        rx = self.rx
        while self.fill - self._at > 1:
            first = rx[self._at]
            size = rx[self._at + 1]
            start = self._at + 2
            opcode = first & 15
            wrong = (
                opcode > PONG or size > _CONTROL_MAX or first < 0x80
                if opcode & CLOSE
                else opcode > MESSAGE or (opcode == 0) != self._more
            )
            if wrong or first & 0x70 or size & 0x80:  # out of place, or a bit of an extension, or masked
                raise WebSocketError(1002, "frame header %02x %02x" % (first, size))
            if opcode == 1:
                raise WebSocketError(1003, "text message")
            if size == 126:
                if self.fill - start < 2:
                    break
                size = rx[start] << 8 | rx[start + 1]
                start += 2
                if size < 126:
                    raise WebSocketError(1002, "length longer than need be")
            elif size == 127:  # a length of 64 bits follows
                size = SIZE_MAX + 1
            if not opcode & CLOSE and self._held + size > len(rx) - _CONTROL_FRAME_MAX:
                raise WebSocketError(1009, "message too big")
            end = start + size
            if end > self.fill:
                break
            self._at = end
            if not opcode & CLOSE and first != 0x80 | MESSAGE:
                # A fragment: its payload goes right behind what there is of the message.
                self._view[self._held : self._held + size] = self._view[start:end]
                self._held = end = self._held + size
                self._more = first < 0x80
                if self._more:
                    continue
                start = 0
                opcode = MESSAGE
            self.start = start
            self.end = end
            if opcode == CLOSE:
                borrow("wshandshake").closed(self)
            return opcode
        # What is left is a part of a frame. At the front there is room behind it for the rest.
        size = self.fill - self._at
        if size and self._at > self._held:
            self._view[self._held : self._held + size] = self._view[self._at : self.fill]
        self._at = self._held
        self.fill = self._held + size
        return NEED_MORE

    def frame(self, opcode, size, mask):
        """Make a frame of the `size` bytes at tx[PAYLOAD:], which are masked where they lie.

        opcode: MESSAGE, PING, PONG or CLOSE. mask: buffer of 4 bytes that nobody can predict.
        """
        tx = self.tx
        a = tx[4] = mask[0]
        b = tx[5] = mask[1]
        c = tx[6] = mask[2]
        d = tx[7] = mask[3]
        for i in range(PAYLOAD, PAYLOAD + size, 4):
            tx[i] ^= a
            tx[i + 1] ^= b
            tx[i + 2] ^= c
            tx[i + 3] ^= d
        if size > 125:
            self.off = 0
            tx[1] = 0x80 | 126
            tx[2] = size >> 8
            tx[3] = size & 255
        else:
            self.off = 2
            tx[3] = 0x80 | size
        tx[self.off] = 0x80 | opcode
        self.len = PAYLOAD - self.off + size

    def pong(self, mask):
        """Make the frame that answers the PING which `next` returned last."""
        size = self.end - self.start
        for i in range(size):
            self.tx[PAYLOAD + i] = self.rx[self.start + i]
        self.frame(PONG, size, mask)
