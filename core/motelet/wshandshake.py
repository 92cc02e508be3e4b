"""How a WebSocket connection begins and ends (RFC 6455, 4.1 and 5.5.1): functions of a websocket.Client.

Apart from it because a board borrows this module (`motelet.borrow`) for the two moments.
"""

from binascii import b2a_base64
from hashlib import sha1

from micropython import const

from motelet.websocket import ANSWER_SIZE_MAX, CLOSE, NEED_MORE, OPEN, PAYLOAD, WebSocketError

_REASON_MAX = const(123)  # bytes of UTF-8: what a control frame holds, without the code
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def request(client, host, path, key, subprotocol):
    """Forget the last connection; return the request (bytes) that begins a new one.

    host: value of the Host header; path: absolute, maybe with a query; subprotocol: the one that the
    answer has to name; key: base64 of 16 random bytes. All are str. ValueError for white space in one.
    """
    if len((host + path + key + subprotocol).split()) != 1:
        raise ValueError("WebSocket request with white space")
    client._held = client._at = client.fill = client.start = client.end = 0
    client._more = False
    # What the answer has to say.
    client._accept = (b2a_base64(sha1(key.encode() + _GUID).digest()).strip(), subprotocol.encode())
    return (
        "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n"
        % (path, host, key, subprotocol)
    ).encode()


def answer(client):
    """Check what has come of the answer; -> OPEN or NEED_MORE. Raises WebSocketError."""
    head = bytes(client._view[: client.fill])
    size = head.find(b"\r\n\r\n")
    if size > ANSWER_SIZE_MAX or size < 0 and client.fill >= ANSWER_SIZE_MAX + 4:
        raise WebSocketError(1009, "answer too long")
    if size < 0:
        return NEED_MORE
    client._at = size + 4
    lines = head[:size].split(b"\r\n")
    if lines[0].split(None, 2)[:2] != [b"HTTP/1.1", b"101"]:
        raise WebSocketError(1002, "answer %r" % lines[0][:80])
    fields = {}
    for line in lines:
        name, _, value = line.partition(b":")
        fields[name.lower()] = value.strip()
    accept, subprotocol = client._accept
    if fields.get(b"sec-websocket-protocol") != subprotocol:
        raise WebSocketError(1002, "another subprotocol")
    if (
        fields.get(b"sec-websocket-accept") != accept
        or fields.get(b"upgrade", b"").lower() != b"websocket"
        or b"upgrade" not in fields.get(b"connection", b"").lower()
        or b"sec-websocket-extensions" in fields
    ):
        raise WebSocketError(1002, "answer that does not fit the request")
    client._accept = None
    return OPEN


def closed(client):
    """Read a closing frame: nothing, or a code and maybe a reason. Raises WebSocketError (7.4 of the RFC)."""
    at = client.start
    client.code = code = client.rx[at] << 8 | client.rx[at + 1] if client.end > at + 1 else 1005
    if client.end == at:
        client.reason = ""
    elif 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999:
        try:
            client.reason = str(client._view[at + 2 : client.end], "utf-8")
        except UnicodeError:
            raise WebSocketError(1007, "close reason that is not UTF-8")
    else:
        raise WebSocketError(1002, "close code %d" % code)


def close(client, code, reason, mask):
    """Make a closing frame with as much of `reason` (str) as fits."""
    data = reason.encode()
    while len(data) > _REASON_MAX:
        reason = reason[:-1]
        data = reason.encode()
    tx = client.tx
    tx[PAYLOAD] = code >> 8
    tx[PAYLOAD + 1] = code & 255
    tx[PAYLOAD + 2 : PAYLOAD + 2 + len(data)] = data
    client.frame(CLOSE, 2 + len(data), mask)
