"""What EdgeHub does seldom: begin and end a link, say what is held, fetch a blob, refuse a message.

Functions of a hub, apart from it because a board borrows this module (`motelet.borrow`) until the link
is in step and gives its memory back then.
"""

from binascii import b2a_base64

from micropython import const

from motelet import __version__, borrow, protocol
from motelet.cbor import MAP, CborError
from motelet.kvrecord import StoreError
from motelet.loop import READ, WRITE
from motelet.websocket import CLOSE, MESSAGE, WebSocketError

_CHUNK = const(1024)  # bytes of a blob in a message: with what is around it, it has room in the buffer
_HAVE_ROOM = const(160)  # bytes: what most entries of HAVE need, a resource and a version
_BACK_OFF_MIN_MS = const(1000)  # the first try after a loss comes within 0.5 to 1 s
_BACK_OFF_MAX_MS = const(60000)
_OPEN_MS = const(30000)  # connect, TLS and upgrade together; a chip takes seconds for TLS
_STABLE_MS = const(30000)  # a link that lived this long starts the back-off anew


class LinkError(ValueError):
    """The link cannot go on; the text says why. EdgeHub closes it and tries again later."""


def dial(hub):
    """Start to connect, and have the upgrade request ready to be sent. OSError, ValueError (TLS)."""
    config = hub.config
    if hub._stream is not None:
        _drop(hub)  # there was no memory even to hang up
    name = config.get("server_name", config["host"])
    hub._rx_seq = hub._ack = hub.acked = 0  # of what comes down: seen, to be said, said
    hub._tx_seq = hub._tx_acked = 0  # of what goes up
    hub._refs = 0
    hub._have = None
    hub._blob_get = hub._blob_done = 0
    port = hub.port
    hub._mask[:] = port.random(4)
    hub._stream = port.tcp(config["host"], config["port"], hub.context, name)
    key = b2a_base64(port.random(16)).decode().strip()
    ws = hub._ws
    request = borrow("wshandshake").request(
        ws, name, config.get("path", protocol.PATH), key, protocol.SUBPROTOCOL
    )
    if len(request) > len(ws.tx):
        hub._writer.n = 0
        borrow("cborroom").make(hub._writer, len(request))
    ws.off = 0
    ws.len = len(request)
    ws.tx[: ws.len] = request
    hub._opened = hub.heard = hub._said = hub.clock.ticks_ms()
    hub._events = READ | WRITE
    hub.loop.watch(hub._stream, hub._events, hub.task)


def hang_up(hub, error):
    """End the link because of `error`; -> ms to wait before the next one."""
    hub.log.warning("edgehub", "link down", "type", type(error).__name__, "error", error)
    if hub._stream is not None and isinstance(error, WebSocketError):
        _say_why(hub, error)
    if hub.connected and hub.clock.ticks_diff(hub.clock.ticks_ms(), hub._opened) >= _STABLE_MS:
        hub._back_off = 0
    _drop(hub)
    hub._back_off = bound = min(max(hub._back_off * 2, _BACK_OFF_MIN_MS), _BACK_OFF_MAX_MS)
    noise = hub.port.random(2)
    return bound // 2 + (noise[0] << 8 | noise[1]) % (bound // 2)


def _drop(hub):
    """Close the stream, and let everybody forget what was said on it."""
    if hub._stream is not None:
        hub.loop.unwatch(hub._stream)
        hub._stream.close()
    hub._transfer_seq = 0  # what has arrived of a blob is kept: the next link goes on from there
    hub._have = hub.csr = None
    hub._ws.len = 0
    for i in range(len(hub._window)):
        hub._window[i] = None
    hub._reports.link_lost()
    if hub.uploads is not None:
        hub.uploads.link_lost()
    if hub.pods is not None:
        hub.pods.link_lost()
    if hub.pair:
        borrow("identity").other_pair(hub)
    hub.connected = hub.synced = False
    hub._stream = None  # last: until then it is not done


def _say_why(hub, error):
    """A last frame for the bridge's log, as far as the stream takes it at once."""
    code, reason = error.args
    borrow("wshandshake").close(hub._ws, code, reason, hub._mask)
    try:
        hub._stream.write(hub._ws.tx, hub._ws.off, hub._ws.len)
    except OSError as gone:
        hub.log.debug("edgehub", "not told", "error", gone)


def deadline(hub, left):
    """-> ms until a link that is not open is given up.

    `left`: ms until the bridge was silent for too long. LinkError when it was, or the link is late.
    """
    if left <= 0:
        raise LinkError("nothing heard for %d ms" % (protocol.DEAD_MS - left))
    left = _OPEN_MS - hub.clock.ticks_diff(hub.clock.ticks_ms(), hub._opened)
    if left <= 0:
        raise LinkError("not open after %d ms" % _OPEN_MS)
    return left


def closed(hub, event):
    """The bridge said CLOSE, or nothing more. Raises LinkError."""
    if event == CLOSE:
        raise LinkError("closed by the bridge: %d %s" % (hub._ws.code, hub._ws.reason))
    raise LinkError("closed by the bridge")


def out_of_step(hub, seq):
    """A number came that was not due. Raises LinkError."""
    raise LinkError("number %d out of step: received %d, sent %d" % (seq, hub._rx_seq, hub._tx_seq))


# -- what goes up -----------------------------------------------------------------------------


def hello(hub, message_max):
    """HELLO: versions, what is held, and what fits."""
    writer = hub._begin(protocol.HELLO, 5)
    writer.value(protocol.VERSION)
    writer.value(protocol.VERSION)
    writer.value(borrow("metalist").digest(hub.meta.store))
    info = hub.config["info"]
    writer.head(MAP, 4 + len(info))
    writer.value("renew")
    writer.value(hub.context is not None)
    writer.value("max_message")
    writer.value(message_max)
    writer.value("window")
    writer.value(len(hub._window))
    writer.value("software")
    writer.value("motelet " + __version__)
    for key in info:
        writer.value(key)
        writer.value(info[key])
    hub._frame(MESSAGE)


def say_have(hub):
    """One page of the list of what is held, about as many entries as fit the buffer; a CSR goes first."""
    if hub.csr is not None:
        hub._begin(protocol.CSR, 2).value(hub.csr)
        hub.csr = None
        hub._frame(MESSAGE)
        return
    page = []
    room = len(hub._ws.tx) - _HAVE_ROOM
    for resource, version in hub._have:
        page.append(resource)
        page.append(version)
        room -= len(resource.encode()) + len(version.encode()) + 6
        if room < 0:
            break
    else:
        hub._have = None
    writer = hub._begin(protocol.HAVE, 3)
    writer.value(hub._have is not None)
    writer.head(MAP, len(page) // 2)
    for text in page:
        writer.value(text)
    hub._frame(MESSAGE)


def say_blob(hub):
    """That a blob is here, or which part of it is wanted next."""
    if hub._blob_done:
        writer = hub._begin(protocol.ACK, 3)
        writer.value(hub._blob_done)
        writer.value(True)
        hub._blob_done = 0
    else:
        transfer = hub._transfer
        writer = hub._begin(protocol.BLOBGET, 4)
        writer.value(transfer.digest)
        writer.value(transfer.offset)
        writer.value(min(_CHUNK, transfer.total - transfer.offset))
        hub._blob_get = 0
    hub._frame(MESSAGE)


def refuse(hub, seq, error):
    """NACK of the message `seq`, with the code that fits the exception."""
    if isinstance(error, StoreError) and error.code in ("full", "busy", "flash"):
        code = protocol.STORAGE_FULL  # to be offered again
    elif isinstance(error, LinkError):
        code = protocol.UNKNOWN
    elif isinstance(error, CborError):
        code = protocol.MALFORMED
    else:
        code = protocol.INVALID
    hub.log.warning("edgehub", "refused", "seq", seq, "code", code, "error", error)
    writer = hub._begin(protocol.NACK, 4)
    writer.value(seq)
    writer.value(code)
    writer.value(cut(str(error)))
    hub._frame(MESSAGE)


def cut(reason):
    """-> as much of the beginning of `reason` (str) as the link takes."""
    reason = reason[: protocol.REASON_SIZE_MAX]
    while len(reason.encode()) > protocol.REASON_SIZE_MAX:
        reason = reason[:-1]
    return reason


# -- what comes down --------------------------------------------------------------------------


def other(hub, kind, size, reader):
    """A message that is none of a link in step."""
    if not hub.connected:
        _welcome(hub, kind, reader)
    elif kind == protocol.LIST:
        hub._have = borrow("metalist").versions(hub.meta.store)
    elif kind == protocol.BLOB:
        _blob(hub, reader)
    elif kind == protocol.SYNCED:
        hub.synced = True
        hub._reports.in_step()
        if hub.pods is not None:
            hub.pods.in_step()
        hub.log.info("edgehub", "synced")
    elif kind == protocol.TIME:
        borrow("wallclock").told(hub, reader.uint())
        borrow("nodestatus").say(hub)
    elif kind == protocol.PUBLISH:
        _publish(hub, reader)
    elif kind == protocol.LOGGET:
        if hub.pods is not None:
            borrow("edged.logs").get(hub.pods, reader.text(), reader.uint())
    elif kind == protocol.RENEW:
        hub.loop.spawn("renewal", lambda task: borrow("identity").renew(hub, task))
    elif kind == protocol.CERTIFICATE:
        try:
            borrow("identity").store_next(hub, reader.bytes())
        except StoreError as error:
            raise LinkError("new certificate not stored: %s" % error)
        raise LinkError("changing to the new certificate")
    elif size > 1:
        seq = reader.uint()
        if seq != hub._rx_seq + 1:
            out_of_step(hub, seq)
        hub._rx_seq = hub._ack = seq
        refuse(hub, seq, LinkError("message kind %d" % kind))
    else:
        raise LinkError("unknown message kind %d" % kind)


def _welcome(hub, kind, reader):
    if kind != protocol.WELCOME:
        raise LinkError("expected WELCOME, got kind %d" % kind)
    version = reader.uint()
    if version != protocol.VERSION:
        raise LinkError("no common protocol version, the bridge says %d" % version)
    borrow("wallclock").told(hub, reader.uint())
    hub.connected = True
    hub.connects += 1
    if hub.pair:
        borrow("identity").welcomed(hub)
    borrow("nodestatus").say(hub)
    hub.log.info("edgehub", "connected", "host", hub.config["host"], "port", hub.config["port"])


def _publish(hub, reader):
    """A message for the node's EventBus: acknowledged once it is in flash."""
    seq = reader.uint()
    if seq != hub._rx_seq + 1:
        out_of_step(hub, seq)
    hub._rx_seq = hub._ack = seq
    try:
        borrow("eventrules").publication(hub.eventbus, reader.text(), reader.bytes())
    except (ValueError, StoreError) as error:
        refuse(hub, seq, error)


def offer(hub, seq, resource, version, reader):
    """PUTBLOB: begin to fetch, or go on with what an earlier link began. ValueError, StoreError."""
    total = reader.uint()
    digest = reader.bytes()
    transfer = hub._transfer
    if transfer is not None and transfer.key != (resource, version, digest):
        if hub._transfer_seq:
            raise ValueError("%s: another blob is under way" % resource)
        transfer.abort()
        transfer = None
    hub._transfer = transfer or borrow("metatransfer").Transfer(hub.meta, resource, version, total, digest)
    hub._transfer_seq = seq
    hub._blob_get = 1


def _blob(hub, reader):
    transfer = hub._transfer
    digest = reader.bytes()
    if transfer is None or digest != transfer.digest:
        return  # an answer that crossed our giving up
    try:
        if reader.uint() != transfer.offset or reader.uint() != transfer.total:
            raise ValueError("%s: chunk out of place" % transfer.resource)
        reader.span()
        if not 0 < reader.end - reader.start <= transfer.total - transfer.offset:
            raise ValueError("%s: chunk of a wrong size" % transfer.resource)
        transfer.write(memoryview(hub._ws.rx)[reader.start : reader.end])
        if transfer.offset < transfer.total:
            hub._blob_get = 1
            return
        transfer.commit()
        hub._blob_done = hub._transfer_seq
    except BaseException as error:
        # Whatever it was, nobody knows how much of it is written.
        hub._blob_get = 0
        hub._transfer = None
        transfer.abort()
        if not isinstance(error, (ValueError, StoreError)):
            raise
        refuse(hub, hub._transfer_seq, error)
    hub._blob_get = 0  # a chunk nobody asked for may have been the last
    hub._transfer = None
