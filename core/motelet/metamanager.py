"""MetaManager: the node's copy of its Kubernetes objects, on flash, under KubeEdge's keys.

EdgeHub calls `put` and `delete` and may acknowledge as soon as they return: the store is
synchronous, so a mailbox between the two would only copy each object once more. What has to act on
an object hears of it through the bus. A stored value is the CBOR sequence (version: tstr,
content: bstr), which is a contiguous piece of the link's PUT message: it goes to flash as received.

Keys that start with "." are the node's own (".boot", ".twin/..") and are never listed or synced.
"""

from micropython import const

from motelet import borrow, protocol
from motelet.cbor import Reader
from motelet.messages import DELETE, PUT, READY

_HEAD = const(80)  # bytes of a value that always hold its version: tstr head, 64 bytes at most, bstr head


def _malformed(resource):
    raise ValueError("stored object %s has no version" % resource)


class MetaManager:
    """Holds the objects of this node.

    Args: `store` a mounted kvlog.Store; `bus`. An object that a module cannot use is stored and
    acknowledged like any other; the module says in the device's state what is wrong with it.
    """

    def __init__(self, store, bus):
        self.store = store
        self._twin = bus["devicetwin"]
        self._head = bytearray(_HEAD)
        self._reader = Reader()
        self._digest = None

    def run(self, task):
        """Hand what flash holds to the modules, then say READY: an offline start needs no link."""
        twin = self._twin
        for resource in list(self.resources()):
            while not self.room(task):
                yield
            self.changed(resource)
        while not twin.put(READY):
            yield

    def room(self, task):
        """True when one more object can be taken; otherwise `task` is woken when it can."""
        self._twin.sender = task
        return not self._twin.full()

    def put(self, resource, message, start, end):
        """Store message[start:end] (version and content) under `resource`; durable on return.

        Raises kvlog.StoreError when flash does not take it.
        """
        self.store.put(resource, memoryview(message)[start:end])
        self.changed(resource)

    def delete(self, resource):
        """Forget `resource`; durable on return. An object that is not there is no error."""
        self._digest = None
        self.store.delete(resource)
        if "/device/" in resource:
            self._twin.put(DELETE, resource)

    def changed(self, resource):
        """Flash holds `resource` anew: whoever acts on it is told."""
        self._digest = None
        if "/device/" in resource:
            content = self.content(resource)
            if content is not None:
                self._twin.put(PUT, resource, content)

    def receive(self, resource, version, total, digest):
        """-> metatransfer.Transfer of an object too large for one message. Raises as `put` does."""
        return borrow("metatransfer").Transfer(self, resource, version, total, digest)

    def resources(self):
        """Iterate over the keys of the objects, none of the node's own."""
        for key in self.store.keys():
            if not key.startswith("."):
                yield key

    def version(self, resource):
        """-> version text of a held object. Raises ValueError for a value that is not one of ours."""
        count = self.store.readinto(resource, 0, self._head)
        self._reader.open(self._head, 0, count)
        return self._reader.text() if count else _malformed(resource)

    def content(self, resource):
        """-> bytes of the object's CBOR, whole in RAM, or None."""
        value = self.store.get(resource)
        if value is None:
            return None
        reader = self._reader
        reader.open(value, 0, len(value))
        reader.skip()
        return reader.bytes()

    def digest(self):
        """-> 8 bytes over what is held (protocol.digest_item); kept until something changes."""
        if self._digest is None:
            total = bytearray(8)
            for resource in self.resources():
                protocol.digest_xor(total, protocol.digest_item(resource, self.version(resource)))
            self._digest = total
        return self._digest
