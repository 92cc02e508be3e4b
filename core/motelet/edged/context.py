"""What an application gets: the one argument of its `async def main(context)`.

    env, args         its environment, {name: text}, and the arguments of its command, [text]
    log(*values)      a line in its log, as print(..)
    path(p), open(p)  a file of its volumes: where it is to be found for others, or at once
    publish, subscribe            messages on the EventBus
    read, write, report           properties of the node's devices
    get, put                      values of its own, which survive restarts and updates, and go with the pod

The same names in a process of its own (ports/processes/process.py): whatever may have to wait is `async`.
"""


class Context:
    """Made by the runner. `services`: edged.services, or what stands for it in another process; `steps`, if
    there is one, is what its coroutines go through.

    Whatever is not defined here is a method of the services, which gets the application first:

    await publish(topic, payload)         publish on the EventBus; ValueError for what cannot be a topic
    await subscribe(topic)                have messages (MQTT's wildcards) kept for `receive`; OSError: full
    await receive()                       -> (topic, payload: bytes), the next of them
    await read(device, name)              -> value of a property, None before the first; KeyError without one
    await desired(device, name)           -> its desired value, a text, or None
    await write(device, name, value)      have the mapper of the device write a value
    await report(device, name, value)     say, as the mapper of the device, what a property is
    await state(device, state)            say, as its mapper, that the device is "online" or "offline"
    await get(key), put(key, bytes)       a value of the pod's own; None: there is none; OSError without room
    """

    def __init__(self, app, services, spec, steps=None):
        self.env = spec.get("env", {})
        self.args = spec["command"][1:]
        self._app = app
        self._services = services
        self._steps = steps

    def __getattr__(self, name):
        method = getattr(self._services, name)
        if self._steps is None:
            return lambda *values: method(self._app, *values)
        return lambda *values: self._steps(method(self._app, *values))

    def path(self, path):
        """Where the file `path` of a volume is to be found."""
        return self._services.path(self._app, path)

    def log(self, *values):
        """Write a line to the log."""
        self._services.log(self._app.container, " ".join([str(each) for each in values]))

    def open(self, path, mode="r"):
        """Open the file `path` of a volume. OSError."""
        return open(self.path(path), mode)
