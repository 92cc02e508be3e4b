"""Uploads: what applications send to the cloud, in flash until the cloud has it.

A bounded queue of messages in the order they came, for EdgeHub's EVENT. When it is full the oldest
goes, and is counted: after a long outage the newest are what is wanted. Keys are `.hub/q/<number>`.
"""

import json

from motelet.kvlog import StoreError

_PREFIX = ".hub/q/"
UPLOADS_MAX = 64  # messages
UPLOAD_SIZE_MAX = 1024  # bytes of a payload: EVENT has to fit EdgeHub's buffer


class Uploads:
    """The queue in `store`; `dropped` counts what was lost to bounds or to a flash that failed.

    EdgeHub takes `next()`, a number, sends what `read(number)` gives, and says `acked(number)`,
    `refused(number)` or `link_lost()`. `hub`, its task or None, is woken when there is something new.
    """

    def __init__(self, store, log, epoch_ms):
        self._store = store
        self._log = log
        self._epoch_ms = epoch_ms
        self._numbers = sorted([int(key[len(_PREFIX) :]) for key in store.keys(_PREFIX)])
        self._next = self._numbers[-1] + 1 if self._numbers else 1
        self._sent = 0  # every number up to this one is under way
        self.dropped = 0
        self.hub = None

    def __len__(self):
        return len(self._numbers)

    def put(self, topic, payload):
        """Keep a message; durable on return, unless it is counted in `dropped`."""
        if len(payload) > UPLOAD_SIZE_MAX:
            self._drop("too large", topic)
            return
        if len(self._numbers) >= UPLOADS_MAX:
            self._drop("queue full", self.read(self._numbers[0])[0])
            self.acked(self._numbers[0])
        number = self._next
        head = json.dumps([topic, self._epoch_ms()]).encode()
        try:
            self._store.put(_PREFIX + str(number), head + b"\n" + payload)
        except StoreError as error:
            self._drop(str(error), topic)
            return
        self._next += 1
        self._numbers.append(number)
        if self.hub is not None:
            self.hub.wake()

    def next(self):
        """-> number of the oldest message that is not under way, 0 when there is none."""
        for number in self._numbers:
            if number > self._sent:
                return number
        return 0

    def read(self, number):
        """-> (topic, epoch_ms, payload)."""
        value = self._store.get(_PREFIX + str(number))
        end = value.find(b"\n")
        topic, time_ms = json.loads(value[:end])
        return topic, time_ms, value[end + 1 :]

    def sent(self, number):
        self._sent = number

    def acked(self, number):
        """The cloud has it."""
        if number in self._numbers:
            self._numbers.remove(number)
            self._store.delete(_PREFIX + str(number))

    def refused(self, number, code, reason):
        """The cloud will not have it: it makes room for others, and is counted."""
        if number in self._numbers:
            self._drop("refused: " + reason, self.read(number)[0])
            self.acked(number)

    def link_lost(self):
        self._sent = 0

    def _drop(self, reason, topic):
        self.dropped += 1
        self._log.warning("eventbus", "upload dropped", "reason", reason, "topic", topic, "sum", self.dropped)
