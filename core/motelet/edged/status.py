"""The status of a pod, for the cloud: POD of protocol.cddl. Borrowed."""

from motelet import protocol
from motelet.cbor import CborError, Writer
from motelet.websocket import MESSAGE

_SIZE_MAX = 1024  # bytes of a status; what does not fit loses its messages


def say(pod, hub):
    """Put the status of `pod` into the hub's buffer, which must be free."""
    for length in (200, 40, 0):
        try:
            body = encoded(pod, length)
            break
        except CborError:
            if not length:
                raise
    writer = hub._begin(protocol.POD, 4, pod)
    writer.value(pod.resource)
    writer.value(body)
    pod.dirty = False
    pod.sent = True
    hub._frame(MESSAGE)


def encoded(pod, length):
    """-> CBOR of the status; of texts in words the last `length` characters. CborError: it is too large."""
    status = {"uid": pod.uid}
    if pod.gone:
        status["gone"] = True
    if pod.reason:
        status["reason"] = pod.reason
        status["message"] = _end(pod.message, length)
    status["start"] = pod.start_ms
    if pod.init:
        status["init"] = [_row(each, length) for each in pod.init]
    status["containers"] = [_row(each, length) for each in pod.containers]
    writer = Writer(bytearray(_SIZE_MAX))
    writer.value(status)
    return writer.buf[: writer.n]


def _row(each, length):
    row = [each.state, each.ready, each.restarts, each.code, each.since, each.until]
    row += [each.reason, _end(each.message, length)]
    if each.last is not None:
        row.append(each.last[:4] + (_end(each.last[4], length),))
    return row


def _end(text, length):
    # What went wrong is in the last line of a traceback.
    return text[max(0, len(text) - length) :]
