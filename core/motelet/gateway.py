"""One gateway: its modules, and the way a device finds the mapper of its bus."""

import gc

from micropython import const

from motelet import borrow

_AGAIN_MS = const(1000)  # after which a gateway that could not begin to run pods tries again


class ConfigError(ValueError):
    """The configuration cannot be used; the text names the field."""


class Gateway:
    """One node of the cluster.

    Args: `port` the platform (ports/README.md); `config` a dict: node; bridge {host, port,
    server_name, ca, cert, key: DER bytes, path}; store {path, size}; mqtt {host, port, ..}, optional;
    drivers {protocolName: module with what `motelet.mappers` asks of <protocolName>load}, optional;
    log_level; edged {memory, process}, optional, False for no pods.
    Raises ConfigError, and OSError when the store cannot be opened.

    Attributes: log, bus, loop, store, twin, meta, edgehub, eventbus (None without mqtt), edged (None
    before the first pod); shortages: how often memory ran out.
    """

    def __init__(self, port, config):
        self.port = port
        self.shortages = 0
        self.eventbus = self.edged = self.host = None
        self._mappers = {}
        borrow("assembly").assemble(self, port, config)

    def run(self):
        """Serve until `loop.stop()`."""
        self.log.info("gateway", "started", "node", self.node, "platform", self.port.name)
        while True:
            try:
                if self.host is None:
                    self.loop.run()
                if self.host is not None:
                    # The first pod has come: from now on asyncio, which applications live in, hosts the loop.
                    self.host.run()
                return
            except MemoryError:
                # Not in a task, which the loop would have started again.
                self.short()

    def pod_changed(self, resource):
        """MetaManager: flash holds a pod, or a file for pods, anew or no longer."""
        if self.edged is None:
            if "/pod/" not in resource:
                return
            try:
                borrow("podstart").begin(self)
            except (OSError, MemoryError) as error:
                # The pod is on flash and will not be sent again: it is for this node to try again.
                task = self.loop.spawn("podstart", self._start_pods)
                self.task_failed(task, error)
                return
        self.edged.changed(resource)

    def _start_pods(self, task):
        task.sleep(_AGAIN_MS)
        yield
        if self.edged is None:
            borrow("podstart").begin(self)
        for resource in list(self.meta.store.keys()):
            if resource[0] != "." and "/device/" not in resource:
                self.edged.changed(resource)

    def attach(self, device):
        """Give a device to the mapper of its bus, which its first device starts. ValueError without one."""
        borrow("attach").attach(self, device, self._mappers)

    def detach(self, device):
        """Take a device from its mapper, if it has one."""
        if device.mapper is not None:
            borrow("attach").remove(device)

    def task_failed(self, task, error):
        """The loop starts a failed task again; this is what a user sees of it."""
        try:
            if isinstance(error, MemoryError):
                self.short()
            borrow("logtext").exception(self.log, task.name, error)
        except MemoryError:
            self.log.lost += 1  # no memory to say so

    def short(self):
        """Memory has run out: make room."""
        self.shortages += 1
        gc.collect()
        if self.edged is not None:
            self.edged.short()
