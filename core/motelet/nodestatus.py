"""What the board says of itself in NODE: on each connection, and when the bridge tells the time. Borrowed.

The bridge makes the conditions of the cluster's Node from it. The platform says what it knows
(`Port.status`, ports/README.md), the store how full it is. Nothing is kept to compare with: a message
an hour costs less than the memory for what was said before.
"""

from micropython import const

from motelet import protocol
from motelet.cbor import MAP
from motelet.websocket import MESSAGE

_TEXT_MAX = const(300)  # characters of a text, its end: of a traceback that is what counts


def say(hub):
    """Put NODE into the hub's buffer, which must be free.

    Not if the window is full (then the next time does), nor where the platform knows nothing.
    """
    fields = hub.port.status()
    if not fields or hub._tx_seq - hub._tx_acked >= len(hub._window):
        return
    store = hub.meta.store
    fields["flash"] = store.flash.blocks * store.flash.block_size
    fields["flash_free"] = store.spare * store.flash.block_size
    if hub.uploads is not None:
        fields["uploads_dropped"] = hub.uploads.dropped
    hub._tx_seq += 1  # its place in the window stays empty: a lost one is not said again
    writer = hub._begin(protocol.NODE, 3)
    writer.value(hub._tx_seq)
    writer.head(MAP, len(fields))
    for key in fields:
        value = fields[key]
        writer.value(key)
        writer.value(value[-_TEXT_MAX:] if isinstance(value, str) else value)
    hub._frame(MESSAGE)
