"""MetaManager: the node's copy of its Kubernetes objects, on flash, under KubeEdge's keys.

EdgeHub calls `put` and `delete` and may acknowledge as soon as they return: the store is
synchronous, so a mailbox between the two would only copy each object once more. What has to act on
an object hears of it through the bus. A stored value is the CBOR sequence (version: tstr,
content: bstr), which is a contiguous piece of the link's PUT message: it goes to flash as received.

Keys that start with "." are the node's own (".boot", ".twin/..") and are never listed or synced.
What is done once a connection or for a large object is in `metalist` and `metatransfer`, which are borrowed.
"""

from micropython import const

from motelet.cbor import Reader
from motelet.messages import DELETE, PUT, READY

_BUSY_MS = const(50)  # between two pieces of the store's housekeeping, each an erase at the most
_IDLE_MS = const(10000)
_RULES = const("kubeedge/rules/subscriptions")


class MetaManager:
    """Holds the objects of this node.

    Args: `store` a mounted kvlog.Store; `bus`. An object that a module cannot use is stored and
    acknowledged like any other; the module says in the device's state what is wrong with it.
    """

    def __init__(self, store, bus):
        self.store = store
        self._twin = bus["devicetwin"]
        self._reader = Reader()
        self._task = self._waiting = None
        self._more = True  # the store's housekeeping has perhaps more to do
        self.rules = None  # function, called when the topics of Router rules (`eventrules`) have changed
        self.pods = None  # function of a resource: told of all but devices

    def run(self, task):
        """Hand what flash holds to the modules, then say READY: an offline start needs no link.

        After that, keep the store's house, which wakes this task when there is need of it.
        """
        for resource in list(self.store.keys()):
            while self._full(task):
                yield
            if resource[0] != ".":
                self.changed(resource)
        while not self._twin.put(READY):
            yield
        self._task = self.store.task = task
        while True:
            more = self._more = self.store.step()
            task.sleep(_BUSY_MS if more else _IDLE_MS)
            if self._waiting:
                self._waiting.wake()
                self._waiting = None
            yield

    def room(self, task):
        """True when one more object can be taken; otherwise `task` is woken when it can.

        The store may be behind with its housekeeping, and then a put would wait for one erase after the
        other. Its pieces come first, and other tasks between them.
        """
        if self._task and self._more and self.store.behind():
            self._waiting = task
            self._task.wake()
            return False
        return not self._full(task)

    def _full(self, task):
        self._twin.sender = task
        return self._twin.full()

    def put(self, resource, message, start, end):
        """Store message[start:end] (version and content) under `resource`; durable on return.

        Raises kvlog.StoreError when flash does not take it.
        """
        self.store.put(resource, memoryview(message)[start:end])
        self._more = True
        self._hand_on(resource, message, start, end)

    def delete(self, resource):
        """Forget `resource`; durable on return. An object that is not there is no error."""
        self.store.delete(resource)
        if "/device/" in resource:
            self._twin.put(DELETE, resource)
        elif self.rules is not None and resource == _RULES:
            self.rules()
        elif self.pods is not None:
            self.pods(resource)

    def changed(self, resource):
        """Flash holds `resource` anew: whoever acts on it gets its content, whole in RAM."""
        value = self.store.get(resource) if "/device/" in resource else b""
        if value is not None:
            self._hand_on(resource, value, 0, len(value))

    def _hand_on(self, resource, value, start, end):
        if "/device/" in resource:
            self._reader.open(value, start, end)
            self._reader.skip()
            self._twin.put(PUT, resource, self._reader.bytes())
            self._reader.open(b"", 0, 0)  # not to keep what it read
        elif self.rules is not None and resource == _RULES:
            self.rules()
        elif self.pods is not None:
            self.pods(resource)
