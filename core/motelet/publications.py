"""Publications: what the cloud publishes on the edge's EventBus, in flash until the broker has it.

A PUBLISH of the link is acknowledged when it is here. From here it goes to an external broker at QoS 1,
one after the other, and is forgotten with the PUBACK: whatever fails in between, it is published again.
The internal broker has it as soon as it was handed over.
"""

from motelet.flashqueue import FlashQueue
from motelet.kvlog import StoreError, StoreFull
from motelet.mqtt import TOPIC_SIZE_MAX

PREFIX = ".hub/p/"
PUBLICATIONS_MAX = 16
PUBLICATION_SIZE_MAX = 1024  # bytes of a payload


class Publications:
    """The queue in `store`; the task of `eventbus` is woken when there is something new."""

    def __init__(self, store, log, eventbus):
        self._queue = FlashQueue(store, PREFIX)
        self._log = log
        self._eventbus = eventbus
        self._pid = 0  # of the oldest, which waits for its PUBACK

    def put(self, topic, payload):
        """Keep a message; durable on return. ValueError for what cannot be published, StoreError."""
        name = topic.encode()
        if not 0 < len(name) <= TOPIC_SIZE_MAX or "+" in topic or "#" in topic or "\0" in topic:
            raise ValueError("topic that cannot be published to")
        if len(payload) > PUBLICATION_SIZE_MAX:
            raise ValueError("payload of %d bytes, at most %d" % (len(payload), PUBLICATION_SIZE_MAX))
        if len(self._queue.numbers) >= PUBLICATIONS_MAX:
            raise StoreFull()
        self._queue.add(topic, 0, payload)
        self._eventbus.task.wake()

    def serve(self, client, broker, qos):
        """Hand on what can be handed on now: to `client` and to `broker`, either of them perhaps None."""
        queue = self._queue
        while queue.numbers:
            number = queue.numbers[0]
            if self._pid:
                if client.waits(self._pid):
                    return
                self._pid = 0
            else:
                message = queue.read(number)
                if message is None:
                    self._log.error("eventbus", "publication unreadable", "number", number)
                    queue.remove(number)
                    continue
                topic, _, payload = message
                if client is not None:
                    self._pid = client.connected and client.publish(topic, payload, False, 1)
                    if not self._pid:
                        return
                if broker is not None:
                    broker.publish(topic, payload, False, qos)
                if client is not None:
                    continue
            try:
                queue.remove(number)
            except StoreError as error:
                self._log.error("eventbus", "publication not forgotten", "error", error)
