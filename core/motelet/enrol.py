"""A board's first certificate: from a token, over KubeEdge's two requests (cloud_bridge/identity). Borrowed.

The CA comes over a connection that proves nothing, and counts only if its SHA-256 is that in the token;
everything after it goes over one that it checks.
"""

from binascii import hexlify
from hashlib import sha256

from micropython import const

from motelet import borrow
from motelet.kvrecord import StoreError
from motelet.loop import READ, WRITE

PORT = const(10002)
_ANSWER_MAX = const(2048)  # bytes, head included; a certificate has about 500
_ANSWER_MS = const(40000)  # connect, TLS and answer together; a chip takes seconds for TLS
_BACK_OFF_MIN_MS = const(1000)
_BACK_OFF_MAX_MS = const(60000)


class EnrolError(Exception):
    """Enrolment has failed for now; the text says why."""


def check(token):
    """ValueError when `token` is not a text of the form that `motelet bridge token create` prints."""
    parts = token.split(".") if isinstance(token, str) else ()
    if len(parts) != 4 or len(parts[0]) != 64 or "" in parts or len(token) > 1024:
        raise ValueError("not a token")
    for letter in token:
        if not ("-" <= letter <= "z"):
            raise ValueError("not a token")


def begin(hub, known):
    """The board starts with a token. `known`: it has the certificate already that the token was for.

    Then power was cut before the token was forgotten. ValueError for what is no token.
    """
    if known:
        _forget(hub)
    else:
        check(hub.config["token"])


def enrol(hub):
    """A generator within EdgeHub's task: returns when the board has its certificate."""
    wait = _BACK_OFF_MIN_MS
    while True:
        try:
            yield from _once(hub)
            break
        except (OSError, ValueError, StoreError, EnrolError) as error:
            hub.log.warning("edgehub", "not enrolled", "type", type(error).__name__, "error", error)
        noise = hub.port.random(2)
        yield from _pause(hub, wait // 2 + (noise[0] << 8 | noise[1]) % (wait // 2))
        wait = min(wait * 2, _BACK_OFF_MAX_MS)
    _forget(hub)
    hub.log.info("edgehub", "enrolled", "node", hub.config["node"])


def _forget(hub):
    hub.config.pop("token")
    try:
        if "enrolled" in hub.config:
            hub.config.pop("enrolled")()
    except OSError as error:  # a folder that may only be read, for example: the board can do without
        hub.log.warning("edgehub", "the token is still there", "error", error)


def _once(hub):
    digest, _, bearer = hub.config["token"].partition(".")
    ca = yield from _ask(hub, hub.port.tls_unchecked(), "GET /ca.crt", b"", "")
    if hexlify(sha256(ca).digest()).decode() != digest:
        raise EnrolError("the CA is not that of the token")
    identity = borrow("identity")
    request = yield from identity.request(hub, hub.task)
    headers = "Authorization: Bearer %s\r\nNodeName: %s\r\n" % (bearer, hub.config["node"])
    certificate = yield from _ask(hub, hub.port.tls(ca), "POST /edge.crt", request, headers)
    identity.store_first(hub, ca, certificate)


def _ask(hub, context, line, body, headers):
    """A generator; returns the content of the answer to one HTTP request. EnrolError, OSError, ValueError."""
    config = hub.config
    name = config.get("server_name", config["host"])
    head = "%s HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %d\r\n\r\n" % (line, name, headers, len(body))
    message = head.encode() + body
    stream = hub.port.tcp(config["host"], config.get("enrol_port", PORT), context, name)
    try:
        return (yield from _exchange(hub, stream, message))
    finally:
        hub.loop.unwatch(stream)
        stream.close()


def _exchange(hub, stream, message):
    clock = hub.clock
    started = clock.ticks_ms()
    answer = bytearray(_ANSWER_MAX)
    sent = got = 0
    hub.loop.watch(stream, READ | WRITE, hub.task)
    while True:
        if sent < len(message):
            count = stream.write(message, sent, len(message) - sent)
            sent += count or 0
            if sent == len(message):
                hub.loop.watch(stream, READ, hub.task)
        else:
            count = stream.readinto(memoryview(answer)[got:])
            if count == 0:
                raise EnrolError("the bridge has closed the connection")
            got += count or 0
            content = _content(answer, got)
            if content is not None:
                return content
        left = _ANSWER_MS - clock.ticks_diff(clock.ticks_ms(), started)
        if left <= 0:
            raise EnrolError("no answer for %d ms" % _ANSWER_MS)
        if count is None:
            hub.task.sleep(left)
            yield


def _content(answer, got):
    """The content of an HTTP answer (RFC 9112) as bytes, None while it is not whole. EnrolError otherwise."""
    end = answer.find(b"\r\n\r\n", 0, got)
    if end < 0:
        if got == len(answer):
            raise EnrolError("answer of more than %d bytes" % len(answer))
        return None
    lines = bytes(answer[:end]).split(b"\r\n")
    size = -1
    for line in lines:
        if line.lower().startswith(b"content-length:"):
            size = int(line[15:])
    if not lines[0].startswith(b"HTTP/1.1 ") or not 0 <= size <= len(answer) - end - 4:
        raise EnrolError("not an answer")
    if got < end + 4 + size:
        return None
    content = bytes(answer[end + 4 : end + 4 + size])
    if lines[0][9:13] != b"200 ":
        raise EnrolError("the bridge says %s: %s" % (repr(lines[0][9:60])[2:-1], repr(content[:80])[2:-1]))
    return content


def _pause(hub, ms):
    clock = hub.clock
    until = clock.ticks_add(clock.ticks_ms(), ms)
    while clock.ticks_diff(until, clock.ticks_ms()) > 0:
        hub.task.sleep(clock.ticks_diff(until, clock.ticks_ms()))
        yield
