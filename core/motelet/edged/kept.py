"""What is kept of a pod's containers over a restart of the board: `.pod/<namespace>/<name>`. Borrowed.

A record is CBOR: [uid, started, [[name, state, restarts, code, since, until, reason, message, pause, last],
..]]. The key-value space of the pod's applications and its emptyDirs are below the same key, and go with it.
"""

from motelet.cbor import Reader, Writer
from motelet.edged import RUNNING, TERMINATED, WAITING
from motelet.kvlog import StoreError

_ROW_MAX = 640  # bytes; texts are cut to fit, at the front: an error is in the last line
_TEXT_MAX = 80
PREFIX = ".pod/"
_UNKNOWN = "ContainerStatusUnknown"


def key(pod):
    """-> the key of what is kept of a pod."""
    return PREFIX + pod.resource.replace("/pod/", "/")


def keep(edged, pod):
    """Write down how the containers are. A flash that is full costs the memory of it, not the pod."""
    rows = []
    for each in pod.all():
        rows.append(
            [each.name, each.state, each.restarts, each.code, each.since, each.until]
            + [each.reason, each.message[-_TEXT_MAX:], each.pause_s, each.last and _cut(each.last)]
        )
    writer = Writer(bytearray(128 + _ROW_MAX * len(rows)))
    writer.value([pod.uid, pod.start_ms, rows])
    try:
        edged.store.put(key(pod), bytes(memoryview(writer.buf)[: writer.n]))
    except StoreError as error:
        edged.log.error("edged", "state not kept", "pod", pod.resource, "error", error)


def _cut(last):
    return last[:4] + (last[4][-_TEXT_MAX:],)


def restore(edged, pod):
    """Give the containers of `pod` what was kept; -> whether there was anything of this pod.

    What ran when the power went is over, and counts as a restart without a pause, unless the mark that a
    watchdog leaves says that it hung.
    """
    value = edged.store.get(key(pod))
    if value is None:
        return False
    reader = Reader()
    reader.open(value, 0, len(value))
    uid, start_ms, rows = reader.value()
    if uid != pod.uid:
        forget(edged, pod)
        return False
    pod.start_ms = start_ms
    for row in rows:
        for each in pod.all():
            if each.name == row[0]:
                _restore(edged, each, row)
    return True


def _restore(edged, each, row):
    (_, each.state, each.restarts, each.code, each.since, each.until) = row[:6]
    each.reason, each.message, each.pause_s, last = row[6:]
    each.last = last and tuple(last)
    if each.state == RUNNING:
        each.state = TERMINATED
        each.code, each.reason, each.message = 137, _UNKNOWN, "the board was restarted"
        each.until = edged.epoch_ms()
        hung = edged.config.get("hung") == each.pod.resource + "/" + each.name
        if hung:
            each.reason, each.message = "Error", "it did not let others run, the watchdog reset the board"
            each.pause_s = max(each.pause_s, 10)
        elif each.pod.policy != "Never":
            each.pause_s = -1
    elif each.state == WAITING and each.last is not None:
        # Its pause goes on: it ended then as `last` says.
        each.state = TERMINATED
        each.code, each.since, each.until, each.reason, each.message = each.last
        each.restarts -= 1
        each.pause_s //= 2


def forget(edged, pod):
    """Remove all that is kept of `pod`."""
    name = key(pod)
    for each in list(edged.store.keys(name)):
        if each == name or each.startswith(name + "/"):
            edged.store.delete(each)


def prune(store):
    """Remove what is kept of pods that went while the power did."""
    for each in list(store.keys(PREFIX)):
        parts = each.split("/")
        if parts[1] + "/pod/" + parts[2] not in store:
            store.delete(each)
