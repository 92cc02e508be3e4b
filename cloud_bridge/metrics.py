"""What the bridge counts, for Prometheus; names and units by Prometheus' naming guide.

One process is one bridge, so the metrics are the module's: whoever does a thing counts it there and then.
`node` is a label only where a number for each board is the point; there are as many as an operator has
given certificates to.
"""

import functools

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)

connected_nodes = Gauge("motelet_connected_nodes", "Boards connected now")
reconnects = Counter("motelet_reconnects", "Connections of boards that had been connected before")
messages = Counter("motelet_messages", "Messages of the link", ["direction", "kind"])
refusals = Counter("motelet_refusals", "Messages refused by their receiver", ["direction"])
ack_seconds = Histogram(
    "motelet_ack_seconds",
    "From a message to its acknowledgement: up, received to durable; down, sent to durable on the board",
    ["direction"],
    buckets=_SECONDS,
)
queued_messages = Gauge(
    "motelet_queued_messages", "Up: received, not durable yet; down: to be sent or under way", ["direction"]
)
dropped_connections = Counter("motelet_dropped_connections", "Connections closed unasked", ["reason"])
twin_lag_seconds = Histogram(
    "motelet_twin_lag_seconds",
    "From the time a board gives a report to its being in the status; a wrong clock shows here",
    buckets=_SECONDS,
)
api_requests = Counter("motelet_api_requests", "Requests to the API server", ["verb", "code"])
api_failures = Counter("motelet_api_failures", "Requests to the API server without an answer", ["verb"])
certificate_expiry = Gauge(
    "motelet_certificate_expiry_timestamp_seconds", "End of the certificate a board connected with", ["node"]
)
last_seen = Gauge("motelet_last_seen_timestamp_seconds", "When the last frame of a board came", ["node"])
uploads_dropped = Gauge(
    "motelet_uploads_dropped",
    "Messages of applications that a board had no room for since it started",
    ["node"],
)

KINDS = [
    "hello",
    "welcome",
    "list",
    "have",
    "synced",
    "ack",
    "nack",
    "put",
    "delete",
    "putblob",
    "blobget",
    "blob",
    "name",
    "report",
    "state",
    "event",
    "time",
    "renew",
    "csr",
    "certificate",
    "node",
    "pod",
    "logget",
    "log",
    "publish",
]
"""Names of the link's messages by their number, as in motelet.protocol."""


def kind(message: bytes) -> str:
    """What a message of the link (one CBOR array) is counted as; "other" when it is none that is known."""
    # RFC 8949, section 3: an argument of 24 and more is in the next byte.
    at = 2 if message[1:2] == b"\x18" else 1
    number = message[at] if len(message) > at else len(KINDS)
    return KINDS[number] if number < len(KINDS) else "other"


def count(direction: str, message: bytes) -> None:
    """Count a message of the link that went "up" or "down"."""
    _counter(direction, kind(message)).inc()


@functools.cache  # finding a counter takes longer than counting
def _counter(direction: str, of_kind: str) -> Counter:
    return messages.labels(direction, of_kind)
