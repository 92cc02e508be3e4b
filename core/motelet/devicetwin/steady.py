"""The update that mappers send all day, without garbage: one actual value of a property that has a record.

What `update` makes of a message - texts, dictionaries, texts again - is 4 KB of garbage with objects of 64
bits, half of it on a board: a collection every few dozen updates. Here nothing is made of it. Places in the
broker's buffer are looked up; what is stored and published is written into one buffer that stays, and goes
from there into those of the clients. What is left is the value that is kept, its time, and a few views.

Whatever is of another shape is `update`'s to judge: a text with an escape or beyond ASCII, two properties, an
expected value, a version, a value of a wrong type. Nothing is refused here, and what is done is
what `update` would have done. Loaded with `update` where the internal broker is the only one.
"""

import json

from micropython import const

from motelet.devicetwin import find
from motelet.devicetwin.payload import VALUE_SIZE_MAX, Text
from motelet.devicetwin.twin import delta, view
from motelet.devicetwin.update import check
from motelet.kvlog import StoreError

_SIZE = const(640)  # bytes of a payload that is sent without a copy
_PREFIX = const("$hw/events/device/")
_NUMBER_MAX = const(18)  # digits

# The parts of a record that devicetwin.twin describes.
_ACTUAL = const(4)
_TIME = const(5)
_EDGE = const(7)
_TYPE = const(8)
_DELETED = const("deleted")

# What is written.
_RECORD = const(0)
_RESULT = const(1)
_DOCUMENT = const(2)

# Where in an update an object is.
_ROOT = const(0)
_TWIN = const(1)
_PROPERTY = const(2)
_VALUE = const(3)
_METADATA = const(4)  # of a property
_TOLD = const(5)  # metadata of a value


class Steady:
    """For Communication `comm` of an `eventbus` that has the internal broker and no other."""

    def __init__(self, comm, eventbus):
        self._comm = comm
        self._eventbus = eventbus
        self._text = self._bytes = None
        self._out = Text(_SIZE)
        self._buf = bytearray(_SIZE)
        self._views = [memoryview(self._buf)] * 3  # on what was stored, answered and told last
        # Of the update before, which the next one most often resembles.
        self._device = self._name = None
        self._topic = self._result = self._document = self._key = ""
        self._raw = self._results = self._documents = b""

    def update(self, topic, buf, at, stop):
        """Do what the message buf[at:stop] on `topic` tells; -> False when `update` has to."""
        comm = self._comm
        busy = (
            comm._held
            or comm._news
            or comm._again
            or len(comm._out)
            or len(comm.twin._inbox)
            or comm.twin._tries
        )
        if busy or not comm.online or self._eventbus.apps is not None:
            return False  # what came before comes first
        try:
            if buf is not self._text:  # another client's
                self._text = buf
                self._bytes = memoryview(buf)
            self.at = at
            self._stop = stop
            self._event = self._name_at = self._value = 0
            if not self._members(_ROOT) or self._blank() or not self._value:
                return False
            return self._known(topic) and self._told(comm)
        except MemoryError:
            return False  # the long way may be tried again

    # -- what the message is ------------------------------------------------------------------

    def _members(self, where):
        """Pass an object; -> False unless it is what may be there."""
        if not self._is(123):
            return False
        while self._string():
            at = self._start
            end = self._end
            if not self._is(58) or not self._member(where, at, end):
                return False
            if not self._is(44):
                return self._is(125)
        return False

    def _member(self, where, at, end):
        """Pass the value of the key at `at`..`end`; -> False unless it is what may be there."""
        if where == _ROOT:
            if self._same(b"twin", at, end):
                return not self._name_at and self._members(_TWIN)
            if self._same(b"timestamp", at, end):
                return self._number()
            if not self._same(b"event_id", at, end) or self._event or not self._string():
                return False
            self._event = self._start
            self._event_end = self._end
        elif where == _TWIN:
            if self._name_at:
                return False
            self._name_at = at
            self._name_end = end
            return self._members(_PROPERTY)
        elif where == _PROPERTY:
            if self._same(b"actual", at, end):
                return not self._value and self._members(_VALUE)
            return self._same(b"metadata", at, end) and self._members(_METADATA)
        elif where == _VALUE:
            if self._same(b"metadata", at, end):
                return self._members(_TOLD)
            if not self._same(b"value", at, end) or self._value or not self._string():
                return False
            self._value = self._start
            self._value_end = self._end
        elif where == _METADATA:
            return self._same(b"type", at, end) and self._string()
        else:
            return self._same(b"timestamp", at, end) and self._number()
        return True

    def _blank(self):
        """Pass white space; -> the next byte, 0 at the end."""
        text = self._text
        at = self.at
        stop = self._stop
        while at < stop and (text[at] == 32 or 9 <= text[at] <= 13 and not 11 <= text[at] <= 12):
            at += 1
        self.at = at
        return text[at] if at < stop else 0

    def _is(self, byte):
        """Pass this byte; -> False when another one is there."""
        if self._blank() != byte:
            return False
        self.at += 1
        return True

    def _string(self):
        """Pass a text; -> False unless it is one, of plain ASCII. It is at `_start`.._end`."""
        if not self._is(34):
            return False
        text = self._text
        at = self._start = self.at
        end = self._end = text.find(b'"', at, self._stop)
        self.at = end + 1
        while at < end:
            if not 32 <= text[at] < 127 or text[at] == 92:
                return False
            at += 1
        return end >= 0

    def _number(self):
        """Pass a whole number that is not negative."""
        first = self._blank()
        start = self.at
        while 48 <= self._digit() <= 57:
            self.at += 1
        count = self.at - start
        return 0 < count <= _NUMBER_MAX and (first != 48 or count == 1)

    def _digit(self):
        return self._text[self.at] if self.at < self._stop else 0

    def _same(self, word, at, end):
        return end - at == len(word) and self._text.find(word, at, end) == at

    # -- what it does -------------------------------------------------------------------------

    def _known(self, topic):
        """Have device, name and key of what the message is about; -> False when there is no record of it."""
        comm = self._comm
        devices = comm.twin.devices
        if topic != self._topic or devices.get(self._device.id) is not self._device:
            self._topic = ""  # until all of it is there: memory may run out
            self._device = self._name = None
            for device_id in devices:
                size = len(_PREFIX) + len(device_id)
                if topic.startswith(device_id, len(_PREFIX)) and topic.find("/", size) == size:
                    if len(topic) == size + len("/twin/update"):
                        self._device = devices[device_id]
            if self._device is None:
                return False
            self._result = topic + "/result"
            self._results = self._result.encode()
            self._document = topic + "/document"
            self._documents = self._document.encode()
            self._topic = topic
        at = self._name_at
        end = self._name_end
        if self._name is None or not self._same(self._raw, at, end):
            self._name = None
            self._raw = bytes(self._bytes[at:end])
            name = str(self._raw, "utf-8")
            self._key = "".join((".twin/", self._device.id, "/=", name))
            self._name = name
        record = comm.records.get(self._device.id, {}).get(self._name)
        if record is None or record[_TYPE] == _DELETED or self._value_end - self._value > VALUE_SIZE_MAX:
            return False
        self._record = record
        return True

    def _told(self, comm):
        """Store the value, answer, and tell everybody; -> False when it could not be stored."""
        record = self._record
        value = str(self._bytes[self._value : self._value_end], "utf-8")
        if record[_TYPE] != "string":
            try:
                check(record[_TYPE].lower(), value)
            except ValueError:
                return False
        now = comm.twin.epoch_ms()
        last = record[_ACTUAL]
        last_ms = record[_TIME]
        if not self._keep(comm.twin.store, record, value, now):
            return False
        out = self._begin(now)
        view(out, record, False)
        out.write("}}")
        self._say(self._result, self._results, _RESULT)
        out = self._begin(now)
        out.write('{"last":')
        record[_ACTUAL] = last
        record[_TIME] = last_ms
        view(out, record)
        record[_ACTUAL] = value
        record[_TIME] = now
        out.write(',"current":')
        view(out, record)
        out.write("}}}")
        self._say(self._document, self._documents, _DOCUMENT)
        prop = find(self._device, self._name)
        if prop is not None:
            prop.value = value
            prop.time_ms = now
            if value == prop.desired:
                prop.observed = value
            comm.twin.mark(prop)
        delta(comm, self._device)
        return True

    def _keep(self, store, record, value, now):
        """Have the record say `value`, durably; -> False, and it says what it said, when that failed."""
        last = record[_ACTUAL]
        last_ms = record[_TIME]
        kept = False
        record[_ACTUAL] = value
        record[_TIME] = now
        record[_EDGE] += 1
        try:
            self._out.seek(0)
            json.dump(record, self._out)
            store.put(self._key, self._written(_RECORD))
            kept = True
        except StoreError:
            pass  # `update` meets the same, and has somebody to tell
        finally:
            if not kept:
                record[_ACTUAL] = last
                record[_TIME] = last_ms
                record[_EDGE] -= 1
        return kept

    def _begin(self, now):
        """-> the stream, with the beginning of an answer."""
        out = self._out
        out.seek(0)
        out.write('{"event_id":"')
        if self._event:
            out.write(self._text, self._event, self._event_end - self._event)
        out.write('","timestamp":')
        json.dump(now, out)
        out.write(',"twin":{"')
        out.write(self._name)
        out.write('":')
        return out

    def _written(self, which):
        """-> what was written to the stream. Most often it is as long as what was written last."""
        out = self._out
        size = out.tell()
        out.seek(0)
        if size > _SIZE:
            return out.read(size)
        out.readinto(self._buf, size)
        view = self._views[which]
        if len(view) != size:
            view = self._views[which] = memoryview(self._buf)[:size]
        return view

    def _say(self, topic, raw, which):
        self._eventbus.broker.publish(topic, self._written(which), False, self._eventbus.qos, raw)
