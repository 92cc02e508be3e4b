"""One gateway: its modules, and the way a device finds the mapper of its bus."""

from motelet import borrow


class ConfigError(ValueError):
    """The configuration cannot be used; the text names the field."""


class Gateway:
    """One node of the cluster.

    Args: `port` the platform (ports/README.md); `config` a dict: node; bridge {host, port,
    server_name, ca, cert, key: DER bytes, path}; store {path, size}; mqtt {host, port, ..}, optional;
    drivers {protocolName: module with what `motelet.mappers` asks of <protocolName>load}, optional;
    log_level. Raises ConfigError, and OSError when the store cannot be opened.

    Attributes: log, bus, loop, store, twin, meta, edgehub, eventbus (None without mqtt).
    """

    def __init__(self, port, config):
        self.port = port
        self.eventbus = None
        self._mappers = {}
        borrow("assembly").assemble(self, port, config)

    def run(self):
        """Serve until `loop.stop()`."""
        self.log.info("gateway", "started", "node", self.node, "platform", self.port.name)
        self.loop.run()

    def attach(self, device):
        """Give a device to the mapper of its bus, which its first device starts. ValueError without one."""
        borrow("attach").attach(self, device, self._mappers)

    def detach(self, device):
        """Take a device from its mapper, if it has one."""
        if device.mapper is not None:
            borrow("attach").remove(device)

    def task_failed(self, task, error):
        """The loop starts a failed task again; this is what a user sees of it."""
        borrow("logtext").exception(self.log, task.name, error)
