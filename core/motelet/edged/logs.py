"""Lines of a container's log for the cloud: LOGGET and LOG of protocol.cddl. Borrowed."""

from micropython import const

from motelet import protocol
from motelet.websocket import MESSAGE

_PART = const(768)  # bytes of text in one LOG


def get(edged, resource, lines):
    """The cloud asks: `resource` is that of a pod, with "/" and the container's name."""
    resource, _, name = resource.rpartition("/")
    pod = edged.pods.get(resource)
    data = b""
    for container in pod.all() if pod is not None else ():
        if container.name == name and container.ring is not None:
            data = container.ring.read(lines)
    edged.answer = (resource + "/" + name, data)
    edged.hub.task.wake()


def say(edged, hub):
    """Put the next part of the answer into the hub's buffer, which must be free."""
    resource, data = edged.answer
    size = min(_PART, len(data))
    while size < len(data) and size and data[size] & 0xC0 == 0x80:
        size -= 1  # not within a character
    writer = hub._begin(protocol.LOG, 4)
    writer.value(resource)
    writer.value(size < len(data))
    writer.value(_text(data[:size]))
    edged.answer = (resource, data[size:]) if size < len(data) else None
    hub._frame(MESSAGE)


def _text(data):
    """-> `data` as text, whatever it is."""
    try:
        return str(data, "utf-8")
    except UnicodeError:
        return "".join([chr(each) if each < 128 else "?" for each in data])
