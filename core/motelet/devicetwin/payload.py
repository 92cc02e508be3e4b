"""What the submodules of DeviceTwin that answer on MQTT share: payloads to and from JSON. Borrowed."""

import json
import sys
from binascii import hexlify

from motelet.messages import PUBLISH

if sys.implementation.name == "micropython":
    # It takes text as well, and its value need not be encoded: that would be another copy.
    from io import BytesIO as Text
else:
    from io import BytesIO

    class Text(BytesIO):
        """What MicroPython's BytesIO is and takes: a size, text, a part of a buffer."""

        def __init__(self, size=0):
            super().__init__()

        def write(self, data, at=0, size=None):
            if isinstance(data, str):
                data = data.encode()
            return super().write(data if size is None else data[at : at + size])

        def readinto(self, buf, size):
            return super().readinto(memoryview(buf)[:size])


VALUE_SIZE_MAX = 512  # bytes of a value in UTF-8

UNMARSHAL = "Unmarshal update request body failed, please check the request"


def parse(payload):
    """-> the dict that `payload` (bytes) is in JSON, with event_id made text. Raises ValueError."""
    try:
        message = json.loads(str(payload, "utf-8"))
    except (RuntimeError, MemoryError):  # what too many brackets are to CPython, and to a board
        raise ValueError("nested too deeply")
    if not isinstance(message, dict):
        raise ValueError("no object")
    event_id = message.get("event_id")
    if event_id is None:
        message["event_id"] = ""
    elif not isinstance(event_id, str):
        raise ValueError("event_id is no text")
    return message


def rfc3339(ms):
    """-> text of a time in milliseconds since 1970 UTC. The calendars of boards begin in different years."""
    days, second = divmod(ms // 1000, 86400)
    era, day = divmod(days + 719468, 146097)  # of the 400 years from 1 March of a year that 400 divides
    year = (day - day // 1460 + day // 36524 - day // 146096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153  # 0 is March
    day -= (153 * month + 2) // 5 - 1
    month += 3 if month < 10 else -9
    year += era * 400 + (1 if month < 3 else 0)
    clock = (second // 3600, second // 60 % 60, second % 60)
    return "%04d-%02d-%02dT%02d:%02d:%02dZ" % ((year, month, day) + clock)


def begin(comm, event_id):
    """-> stream with the beginning of a payload, for `end`; `event_id` None: news nobody asked for."""
    if event_id is None:
        event_id = hexlify(comm.twin.random(16)).decode()
    out = Text()
    out.write('{"event_id":')
    json.dump(event_id, out)
    out.write(',"timestamp":%d,' % comm.twin.epoch_ms())
    return out


def end(comm, out, path, device_id="", verb=""):
    """Publish what was written to `out` on `$hw/events/<path><device_id><verb>` (dealSendToEdge)."""
    out.write("}")
    if comm.online:
        topic = "".join(("$hw/events/", path, device_id, verb))
        if not comm._out.put(PUBLISH, topic, out.getvalue()):
            comm.dropped += 1
            comm.twin.log.warning("devicetwin", "no room for a message", "topic", topic, "sum", comm.dropped)
    out.close()  # its buffer is free at once, not only when garbage is collected


def send(comm, path, event_id, body):
    """Publish {"event_id", "timestamp", body..} on `$hw/events/<path>`."""
    if comm.online:
        out = begin(comm, event_id)
        out.write(body)
        end(comm, out, path)


def error(comm, device_id, verb, event_id, code, reason):
    """Answer a request on a topic of the device, `verb` being what comes after its name."""
    body = '"code":%d,"reason":%s' % (code, json.dumps(reason))
    send(comm, "device/" + device_id + "/" + verb + "/result", event_id, body)


def refused(comm, item, code, reason):
    """The cloud does not take a value or a state: its mapper may want to know."""
    device = item.device
    name = "state" if item is device else item.name
    error(comm, device.id, "twin/update", "", 400, "%s refused by the cloud (%d): %s" % (name, code, reason))
