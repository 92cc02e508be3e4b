"""A queue of MQTT messages in flash, in the order they came: what may neither be lost nor hurried.

Each message is a record of the store, `<prefix><number>`: [topic, time] as JSON, a newline, the payload.
"""

import json


class FlashQueue:
    """The messages under `prefix` of `store`, a mounted kvlog.Store; `numbers` are theirs, oldest first."""

    def __init__(self, store, prefix):
        self.store = store
        self.prefix = prefix
        self.numbers = sorted([int(key[len(prefix) :]) for key in store.keys(prefix)])
        self._next = self.numbers[-1] + 1 if self.numbers else 1

    def add(self, topic, time_ms, payload):
        """Keep a message; durable on return. Raises kvlog.StoreError."""
        head = json.dumps([topic, time_ms]).encode()
        self.store.put(self.prefix + str(self._next), head + b"\n" + payload)
        self.numbers.append(self._next)
        self._next += 1

    def read(self, number):
        """-> (topic, epoch_ms, payload), None when flash has damaged it."""
        value = self.store.get(self.prefix + str(number))
        if value is None:
            return None
        end = value.find(b"\n")
        topic, time_ms = json.loads(value[:end])
        return topic, time_ms, value[end + 1 :]

    def remove(self, number):
        """Forget a message, if it is there."""
        if number in self.numbers:
            self.numbers.remove(number)
            self.store.delete(self.prefix + str(number))
