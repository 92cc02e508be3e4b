"""Edged on a virtual clock with a runner that does what it is told: for the tests of its lifecycle."""

from link_world import DictStore

from motelet.cbor import Reader, Writer
from motelet.edged import Edged
from motelet.log import Log
from motelet.loop import Loop
from tests_util import Clock, MemoryPoller

POD = "default/pod/p"
APP = "default/configmap/app"


def encode(value):
    buf = bytearray(4096)
    writer = Writer(buf)
    writer.value(value)
    return bytes(buf[: writer.n])


def decode(body):
    reader = Reader()
    reader.open(body, 0, len(body))
    return reader.value()


def held(content, version="v1"):
    """What MetaManager has in flash of an object."""
    body = encode(content)
    writer = Writer(bytearray(len(body) + 80))
    writer.value(version)
    writer.value(body)
    return bytes(writer.buf[: writer.n])


def container(name="main", **fields):
    spec = {"name": name, "command": ["main"], "digest": 1, "memory": 0}
    spec.update(fields)
    return spec


def pod(*containers, **fields):
    spec = {"uid": "u1", "containers": list(containers) or [container()], "memory": 1000}
    spec.update(fields)
    return spec


class Runner:
    """Keeps what Edged asks of it; `refuse` is raised by start."""

    def __init__(self):
        self.log = []
        self.refuse = None

    def start(self, container, spec):
        if self.refuse is not None:
            raise self.refuse
        self.log.append(("start", container.name))
        container.run = spec

    def stop(self, container):
        self.log.append(("stop", container.name))

    def kill(self, container):
        self.log.append(("kill", container.name))
        self.edged.exited(container, 137, "Error", "killed")


class Hub:
    """EdgeHub's half, with a link: once woken, takes between two steps of the loop what there is to say."""

    def __init__(self, edged):
        self.task = self
        self.edged = edged
        self.said = []
        self.woken = True

    def wake(self):
        self.woken = True

    def take(self):
        if self.woken:
            self.woken = self.edged.say(self)

    def _begin(self, kind, size, pod):
        self._pod = pod
        self._writer = Writer(bytearray(2048))
        return self._writer

    def _frame(self, opcode):
        reader = Reader()
        reader.open(self._writer.buf, 0, self._writer.n)
        assert reader.value() == self._pod.resource
        self.said.append(decode(reader.value()))
        self.edged.acked(self._pod)


class World:
    """One board; `restart` takes everything but the flash."""

    def __init__(self, memory=10000):
        self.store = DictStore()
        self.clock = Clock()
        self.memory = memory
        self.hung = ""
        self.linked = False
        self.lines = []
        self.errors = []
        self.restart()

    def restart(self):
        self.loop = Loop(self.clock, MemoryPoller(self.clock), lambda task, error: self.errors.append(error))
        config = {"memory": self.memory, "hung": self.hung}
        log = Log(self.lines.append, "debug")
        self.edged = Edged(self.loop, self.store, log, self.clock.epoch_ms, config)
        self.runner = self.edged.runner = Runner()
        self.runner.edged = self.edged
        if self.linked:
            self.edged.hub = Hub(self.edged)
        for resource in list(self.store.keys()):
            if resource[0] != ".":
                self.edged.changed(resource)
        self.run()

    def run(self, ms=0):
        """Let `ms` pass."""
        while True:
            while self.loop.step(0):
                if self.edged.hub is not None:
                    self.edged.hub.take()
            assert self.errors == [], repr(self.errors)
            due = self.loop.due()
            if ms <= 0:
                return
            forward = ms if due < 0 else max(1, min(ms, due))
            self.clock.advance(forward)
            ms -= forward

    def put(self, resource, content):
        self.store.put(resource, held(content))
        self.edged.changed(resource)
        self.run()

    def delete(self, resource):
        self.store.delete(resource)
        self.edged.changed(resource)
        self.run()

    def exit(self, code, name="main", resource=POD):
        for each in self.edged.pods[resource].all():
            if each.name == name:
                self.edged.exited(each, code, "Completed" if code == 0 else "Error")
        self.run()

    def container(self, name="main", resource=POD):
        for each in self.edged.pods[resource].all():
            if each.name == name:
                return each

    def status(self, resource=POD):
        """What would be told of a pod: its CBOR, decoded."""
        from motelet.edged.status import encoded

        return decode(bytes(encoded(self.edged.pods[resource], 200)))
