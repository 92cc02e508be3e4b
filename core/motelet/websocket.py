"""The client half of WebSocket (RFC 6455) without input or output, for one connection at a time.

The caller moves bytes: it reads from its stream into `room()` and says so with `received`, asks `next`
what has come, and writes what `request`, `frame`, `pong` and `close` made. Both buffers are made once and
serve every connection, and a frame that came in one piece is handed out where it lies, so an exchange of
messages runs without an allocation.

What this client has no use for is refused with the closing code the RFC has for it: extensions (1002) and
text messages (1003; every message of the link is binary).
"""

from binascii import b2a_base64
from hashlib import sha1

from micropython import const

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
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class WebSocketError(ValueError):
    """The server broke the protocol or a limit; the connection is of no use any more.

    `code` is the status (RFC 6455, 7.4.1) to close with, if it is open; `reason` says what is wrong.
    """

    def __init__(self, code, reason):
        super().__init__("WebSocket: %d %s" % (code, reason))
        self.code = code
        self.reason = reason


class Client:
    """One end of a connection.

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
        self.off = self.len = 0

    def request(self, host, path, key, subprotocol):
        """Forget the last connection; return the request (bytes) that begins a new one.

        host: value of the Host header; path: absolute, maybe with a query; subprotocol: the one that the
        answer has to name; key: base64 of 16 random bytes. All are str. ValueError for white space in one.
        """
        if len((host + path + key + subprotocol).split()) != 1:
            raise ValueError("WebSocket request with white space")
        # rx[:_held]: fragments of a message, _more to come; rx[_at:_fill]: bytes that came, not looked at.
        self._held = self._at = self._fill = self.start = self.end = 0
        self._more = False
        self._subprotocol = subprotocol.encode()
        self._accept = b2a_base64(sha1(key.encode() + _GUID).digest()).strip()
        return (
            "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n"
            % (path, host, key, subprotocol)
        ).encode()

    def room(self):
        """Where the next bytes are to be read to; after NEED_MORE there is always room."""
        return self._view[self._fill :] if self._fill else self.rx

    def received(self, count):
        """`count` bytes have been read to the beginning of `room()`."""
        self._fill += count

    def next(self):
        """What came: once OPEN, then MESSAGE, PING, PONG or CLOSE; NEED_MORE when no more of it is whole.

        Raises WebSocketError.
        """
        if self._accept:
            return self._answer()
        if not self._more:
            self._held = 0
        view = self._view
        size = self._header()
        while 0 <= size <= self._fill - self.start:
            first = self.rx[self._at]
            self._at = self.end = self.start + size
            if first & CLOSE:
                if first & 15 == CLOSE:
                    self._closed()
                return first & 15
            if first == 0x80 | MESSAGE:
                return MESSAGE
            # A fragment: its payload goes right behind what there is of the message.
            view[self._held : self._held + size] = view[self.start : self.end]
            self.start = 0
            self._held += size
            self.end = self._held
            self._more = first < 0x80
            if not self._more:
                return MESSAGE
            size = self._header()
        # What is left is a part of a frame. At the front there is room behind it for the rest.
        size = self._fill - self._at
        if size and self._at > self._held:
            view[self._held : self._held + size] = view[self._at : self._fill]
        self._at = self._held
        self._fill = self._held + size
        return NEED_MORE

    def _header(self):
        # RFC 6455, 5.2. Sets start and returns the size of the payload, -1 when the header is not whole.
        rx = self.rx
        at = self._at
        left = self._fill - at
        if left < 2:
            return -1
        first = rx[at]
        size = rx[at + 1]
        opcode = first & 15
        self.start = at + 2
        if opcode & CLOSE:
            wrong = opcode > PONG or size > _CONTROL_MAX or first < 0x80
        else:
            wrong = opcode > MESSAGE or (opcode == 0) != self._more
        if wrong or first & 0x70 or size & 0x80:  # out of place, or a bit of an extension, or masked
            raise WebSocketError(1002, "frame header %02x %02x" % (first, size))
        if opcode == 1:
            raise WebSocketError(1003, "text message")
        if opcode & CLOSE:
            return size
        if size == 126:
            if left < 4:
                return -1
            self.start = at + 4
            size = rx[at + 2] << 8 | rx[at + 3]
            if size < 126:
                raise WebSocketError(1002, "length longer than need be")
        elif size == 127:  # a length of 64 bits follows
            size = SIZE_MAX + 1
        if self._held + size > len(rx) - _CONTROL_FRAME_MAX:
            raise WebSocketError(1009, "message too big")
        return size

    def _answer(self):
        # RFC 6455, 4.1: what the client has to check.
        head = bytes(self._view[: self._fill])
        size = head.find(b"\r\n\r\n")
        if size > ANSWER_SIZE_MAX or size < 0 and self._fill >= ANSWER_SIZE_MAX + 4:
            raise WebSocketError(1009, "answer too long")
        if size < 0:
            return NEED_MORE
        self._at = size + 4
        lines = head[:size].split(b"\r\n")
        if lines[0].split(None, 2)[:2] != [b"HTTP/1.1", b"101"]:
            raise WebSocketError(1002, "answer %r" % lines[0][:80])
        fields = {}
        for line in lines:
            name, _, value = line.partition(b":")
            fields[name.lower()] = value.strip()
        if fields.get(b"sec-websocket-protocol") != self._subprotocol:
            raise WebSocketError(1002, "another subprotocol")
        if (
            fields.get(b"sec-websocket-accept") != self._accept
            or fields.get(b"upgrade", b"").lower() != b"websocket"
            or b"upgrade" not in fields.get(b"connection", b"").lower()
            or b"sec-websocket-extensions" in fields
        ):
            raise WebSocketError(1002, "answer that does not fit the request")
        self._accept = None
        return OPEN

    def _closed(self):
        # RFC 6455, 5.5.1 and 7.4: nothing, or a code and maybe a reason.
        at = self.start
        self.code = code = self.rx[at] << 8 | self.rx[at + 1] if self.end > at + 1 else 1005
        if self.end == at:
            self.reason = ""
        elif 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999:
            try:
                self.reason = str(self._view[at + 2 : self.end], "utf-8")
            except UnicodeError:
                raise WebSocketError(1007, "close reason that is not UTF-8")
        else:
            raise WebSocketError(1002, "close code %d" % code)

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

    def close(self, code, reason, mask):
        """Make a closing frame with as much of `reason` (str) as fits."""
        data = reason.encode()
        while len(data) > _CONTROL_MAX - 2:
            reason = reason[:-1]
            data = reason.encode()
        self.tx[PAYLOAD] = code >> 8
        self.tx[PAYLOAD + 1] = code & 255
        self.tx[PAYLOAD + 2 : PAYLOAD + 2 + len(data)] = data
        self.frame(CLOSE, 2 + len(data), mask)
