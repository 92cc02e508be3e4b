"""What EdgeHub does seldom: begin and end a link, say what is held, fetch a blob, refuse a message.

Functions of a hub, apart from it because a board borrows this module (`motelet.borrow`) until the link
is in step and gives its memory back then.
"""

from binascii import b2a_base64

from micropython import const

from motelet import __version__, protocol
from motelet.kvlog import StoreError, StoreFull
from motelet.loop import READ, WRITE
from motelet.websocket import MESSAGE, WebSocketError

_HAVE_ROOM = const(520)  # bytes: the longest entry of HAVE, a resource and a version
_BACK_OFF_MIN_MS = const(1000)  # the first try after a loss comes within 0.5 to 1 s
_BACK_OFF_MAX_MS = const(60000)
_STABLE_MS = const(30000)  # a link that lived this long starts the back-off anew


class LinkError(Exception):
    """The link cannot go on; the text says why. EdgeHub closes it and tries again later."""


def dial(hub):
    """Start to connect, and have the upgrade request ready to be sent. OSError, ValueError (TLS)."""
    config = hub.config
    name = config.get("server_name", config["host"])
    hub.rx_seq = hub.ack = hub.acked = 0  # of what comes down: seen, to be said, said
    hub.tx_seq = hub.tx_acked = 0  # of what goes up
    hub.refs = 0
    hub.have = None
    hub.blob_get = hub.blob_done = 0
    port = hub.port
    hub.mask[:] = port.random(4)
    hub.stream = port.tcp(config["host"], config["port"], hub.context, name)
    key = b2a_base64(port.random(16)).decode().strip()
    hub.pending = hub.ws.request(name, config.get("path", protocol.PATH), key, protocol.SUBPROTOCOL)
    hub.off = 0
    hub.left = len(hub.pending)
    hub.opened = hub.heard = hub.said = hub.clock.ticks_ms()
    hub.events = READ | WRITE
    hub.loop.watch(hub.stream, hub.events, hub.task)


def hang_up(hub, error):
    """End the link because of `error`; -> ms to wait before the next one."""
    hub.log.warning("edgehub", "link down", "type", type(error).__name__, "error", error)
    if hub.stream is not None:
        if isinstance(error, WebSocketError):
            _say_why(hub, error)
        hub.loop.unwatch(hub.stream)
        hub.stream.close()
        hub.stream = None
    hub.transfer_seq = 0  # what has arrived of a blob is kept: the next link goes on from there
    hub.pending = hub.have = None
    for i in range(len(hub.window)):
        hub.window[i] = None
    hub.reports.link_lost()
    if hub.uploads is not None:
        hub.uploads.link_lost()
    if hub.connected and hub.clock.ticks_diff(hub.clock.ticks_ms(), hub.opened) >= _STABLE_MS:
        hub.back_off = 0
    hub.connected = hub.synced = False
    hub.back_off = bound = min(max(hub.back_off * 2, _BACK_OFF_MIN_MS), _BACK_OFF_MAX_MS)
    noise = hub.port.random(2)
    return bound // 2 + (noise[0] << 8 | noise[1]) % (bound // 2)


def _say_why(hub, error):
    """A last frame for the bridge's log, as far as the stream takes it at once."""
    hub.ws.close(error.code, error.reason, hub.mask)
    try:
        hub.stream.write(hub.ws.tx, hub.ws.off, hub.ws.len)
    except OSError as gone:
        hub.log.debug("edgehub", "not told", "error", gone)


# -- what goes up -----------------------------------------------------------------------------


def hello(hub, message_max):
    """HELLO: versions, what is held, and what fits."""
    writer = hub.begin(protocol.HELLO, 5)
    writer.uint(protocol.VERSION)
    writer.uint(protocol.VERSION)
    writer.bytes(hub.meta.digest())
    info = hub.config["info"]
    writer.map(3 + len(info))
    writer.text("max_message")
    writer.uint(message_max)
    writer.text("window")
    writer.uint(len(hub.window))
    writer.text("software")
    writer.text("motelet " + __version__)
    for key in info:
        writer.text(key)
        writer.value(info[key])
    hub.frame(MESSAGE)


def say_have(hub):
    """One page of the list of what is held: as many entries as fit the buffer."""
    page = []
    room = len(hub.ws.tx) - _HAVE_ROOM
    for resource in hub.have:
        version = hub.meta.version(resource)
        page.append(resource)
        page.append(version)
        room -= len(resource.encode()) + len(version.encode()) + 6
        if room < 0:
            break
    else:
        hub.have = None
    writer = hub.begin(protocol.HAVE, 3)
    writer.bool(hub.have is not None)
    writer.map(len(page) // 2)
    for text in page:
        writer.text(text)
    hub.frame(MESSAGE)


def say_blob(hub):
    """That a blob is here, or which part of it is wanted next."""
    if hub.blob_done:
        writer = hub.begin(protocol.ACK, 3)
        writer.uint(hub.blob_done)
        writer.bool(True)
        hub.blob_done = 0
    else:
        transfer = hub.transfer
        writer = hub.begin(protocol.BLOBGET, 4)
        writer.bytes(transfer.digest)
        writer.uint(transfer.offset)
        writer.uint(min(protocol.CHUNK_SIZE_MAX, transfer.total - transfer.offset))
        hub.blob_get = 0
    hub.frame(MESSAGE)


def refuse(hub, seq, error):
    """NACK of the message `seq`, with the code that fits the exception."""
    if isinstance(error, StoreFull):
        code = protocol.STORAGE_FULL
    elif isinstance(error, ValueError) and type(error) is not ValueError:
        code = protocol.MALFORMED  # CborError
    elif isinstance(error, LinkError):
        code = protocol.UNKNOWN
    else:
        code = protocol.INVALID
    hub.log.warning("edgehub", "refused", "seq", seq, "code", code, "error", error)
    writer = hub.begin(protocol.NACK, 4)
    writer.uint(seq)
    writer.uint(code)
    writer.text(str(error)[: protocol.REASON_SIZE_MAX // 4])
    hub.frame(MESSAGE)


# -- what comes down --------------------------------------------------------------------------


def other(hub, kind, size, reader):
    """A message that is none of a link in step."""
    if not hub.connected:
        _welcome(hub, kind, reader)
    elif kind == protocol.LIST:
        hub.have = hub.meta.resources()
    elif kind == protocol.BLOB:
        _blob(hub, reader)
    elif kind == protocol.SYNCED:
        hub.synced = True
        hub.log.info("edgehub", "synced")
    elif kind == protocol.TIME:
        hub.port.set_time(reader.uint())
    elif size > 1:
        hub.next_seq(reader.uint())
        hub.ack = hub.rx_seq
        refuse(hub, hub.rx_seq, LinkError("message kind %d" % kind))
    else:
        raise LinkError("unknown message kind %d" % kind)


def _welcome(hub, kind, reader):
    if kind != protocol.WELCOME:
        raise LinkError("expected WELCOME, got kind %d" % kind)
    version = reader.uint()
    if version != protocol.VERSION:
        raise LinkError("no common protocol version, the bridge says %d" % version)
    hub.port.set_time(reader.uint())
    hub.connected = True
    hub.connects += 1
    hub.log.info("edgehub", "connected", "host", hub.config["host"], "port", hub.config["port"])


def offer(hub, seq, resource, reader):
    """PUTBLOB: begin to fetch, or go on with what an earlier link began. ValueError, StoreError."""
    version = reader.text()
    if len(version) > protocol.VERSION_SIZE_MAX:
        raise ValueError("version of %s is too long" % resource)
    total = reader.uint()
    digest = reader.bytes()
    transfer = hub.transfer
    if transfer is not None and transfer.key != (resource, version, digest):
        if hub.transfer_seq:
            raise ValueError("%s: another blob is under way" % resource)
        transfer.abort()
        transfer = None
    hub.transfer = transfer or hub.meta.receive(resource, version, total, digest)
    hub.transfer_seq = seq
    hub.blob_get = 1


def _blob(hub, reader):
    transfer = hub.transfer
    digest = reader.bytes()
    if transfer is None or digest != transfer.digest:
        return  # an answer that crossed our giving up
    try:
        if reader.uint() != transfer.offset or reader.uint() != transfer.total:
            raise ValueError("%s: chunk out of place" % transfer.resource)
        reader.span()
        if not 0 < reader.end - reader.start <= transfer.total - transfer.offset:
            raise ValueError("%s: chunk of a wrong size" % transfer.resource)
        transfer.write(memoryview(hub.ws.rx)[reader.start : reader.end])
        if transfer.offset < transfer.total:
            hub.blob_get = 1
            return
        transfer.commit()
        hub.blob_done = hub.transfer_seq
    except (ValueError, StoreError) as error:
        transfer.abort()
        refuse(hub, hub.transfer_seq, error)
    hub.blob_get = 0  # a chunk nobody asked for may have been the last
    hub.transfer = None
