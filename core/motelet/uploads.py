"""Uploads: what applications send to the cloud, in flash until the cloud has it.

A bounded queue of messages in the order they came, for EdgeHub's EVENT. When it is full the oldest
goes, and is counted: after a long outage the newest are what is wanted.
"""

from motelet.flashqueue import FlashQueue
from motelet.kvlog import StoreError

PREFIX = ".hub/q/"
UPLOADS_MAX = 64  # messages
UPLOAD_SIZE_MAX = 1024  # bytes of a payload: EVENT has to fit the link's buffer (cborroom)


class Uploads:
    """The queue in `store`; `dropped` counts what was lost to bounds or to a flash that failed.

    EdgeHub takes `next()`, a number, sends what `read(number)` gives, and says `acked(number)`,
    `refused(number)` or `link_lost()`. `hub`, its task or None, is woken when there is something new.
    """

    def __init__(self, store, log, epoch_ms):
        self._queue = FlashQueue(store, PREFIX)
        self.read = self._queue.read
        self._log = log
        self._epoch_ms = epoch_ms
        self._sent = 0  # every number up to this one is under way
        self.dropped = 0
        self.hub = None

    def __len__(self):
        return len(self._queue.numbers)

    def put(self, topic, payload):
        """Keep a message; durable on return, unless it is counted in `dropped`.

        False when nothing was done, for the store has to make room first.
        """
        if len(payload) > UPLOAD_SIZE_MAX:
            self._drop("too large", topic)
            return True
        numbers = self._queue.numbers
        try:
            if len(numbers) >= UPLOADS_MAX:
                self._forget(numbers[0], "queue full")
            self._queue.add(topic, self._epoch_ms(), payload)
        except StoreError as error:
            if error.code == "busy":
                return False
            self._drop(str(error), topic)
            return True
        if self.hub is not None:
            self.hub.wake()
        return True

    def next(self):
        """-> number of the oldest message that is not under way, 0 when there is none."""
        for number in self._queue.numbers:
            if number > self._sent:
                return number
        return 0

    def sent(self, number):
        self._sent = number

    def acked(self, number):
        """The cloud has it."""
        self._queue.remove(number)

    def refused(self, number, code, reason):
        """The cloud will not have it: it makes room for others, and is counted."""
        if number in self._queue.numbers:
            self._forget(number, "refused: " + reason)

    def link_lost(self):
        self._sent = 0

    def _forget(self, number, reason):
        message = self.read(number)
        self._drop(reason, message[0] if message else "?")
        self._queue.remove(number)

    def _drop(self, reason, topic):
        self.dropped += 1
        self._log.warning("eventbus", "upload dropped", "reason", reason, "topic", topic, "sum", self.dropped)
