"""What an application gets: the one argument of its `async def main(context)`.

    env, args         its environment, {name: text}, and the arguments of its command, [text]
    log(*values)      a line in its log, as print(..)
    path(p), open(p)  a file of its volumes: where it is to be found for others, or at once
    publish, subscribe            messages on the EventBus
    read, write, report           properties of the node's devices
    get, put, delete, keys        values of its own, which survive restarts and updates, and go with the pod

The same names in a process of its own (ports/unix/process.py): whatever may have to wait is `async`.
"""


class Context:
    """Made by the runner. `services`: edged.services, or what stands for it in another process."""

    def __init__(self, app, services, spec):
        self.env = spec.get("env", {})
        self.args = spec["command"][1:]
        self._app = app
        self._services = services

    def log(self, *values):
        """Write a line to the log."""
        self._services.log(self._app.container, " ".join([str(each) for each in values]))

    def path(self, path):
        """-> where the file `path` of a volume is for `open` and `os`."""
        return self._services.path(self._app, path)

    def open(self, path, mode="r"):
        """Open the file `path` of a volume. OSError."""
        return open(self.path(path), mode)

    async def publish(self, topic, payload):
        """Publish on the EventBus. ValueError for what cannot be a topic."""
        await self._services.publish(self._app, topic, payload)

    async def subscribe(self, topic):
        """Have messages of `topic` (MQTT's wildcards) kept for `receive`. ValueError, OSError: too many."""
        await self._services.subscribe(self._app, topic)

    async def receive(self):
        """-> (topic, payload: bytes) of the next message that was subscribed to."""
        return await self._services.receive(self._app)

    async def read(self, device, name):
        """-> the value of a property, None before the first. `device`: "name" or "ns/name". KeyError."""
        return await self._services.read(self._app, device, name)

    async def desired(self, device, name):
        """-> the desired value of a property, a text, or None. KeyError."""
        return await self._services.desired(self._app, device, name)

    async def write(self, device, name, value):
        """Have the mapper of the device write `value`. KeyError, ValueError."""
        await self._services.write(self._app, device, name, value)

    async def report(self, device, name, value):
        """Say, as the mapper of the device, that the property has `value`. KeyError."""
        await self._services.report(self._app, device, name, value)

    async def state(self, device, state):
        """Say, as the mapper of the device, that it is "online" or "offline". KeyError."""
        await self._services.state(self._app, device, state)

    async def get(self, key):
        """-> the bytes kept under `key`, or None."""
        return await self._services.get(self._app, key)

    async def put(self, key, value):
        """Keep bytes; durable on return. OSError when there is no room, ValueError for a bad key."""
        await self._services.put(self._app, key, value)

    async def delete(self, key):
        """Forget `key`."""
        await self._services.put(self._app, key, None)
