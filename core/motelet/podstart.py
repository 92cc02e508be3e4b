"""What a gateway does when its first pod is there. Borrowed, once a boot at most."""

from motelet import borrow


def begin(gateway):
    """The first pod is there: load Edged, and what runs applications."""
    from motelet.edged import Edged

    port, loop, settings = gateway.port, gateway.loop, gateway.pod_settings
    overseer = None if settings["process"] else port.overseer(settings)
    settings["hung"] = "" if overseer is None else overseer.left
    edged = Edged(loop, gateway.meta.store, gateway.log, port.epoch_ms, settings)
    edged.tcp = port.tcp
    borrow("edged.kept").prune(gateway.meta.store)
    from motelet.edged.services import Services

    services = Services(edged, gateway.twin, lambda: gateway.eventbus)
    if settings["process"]:
        edged.runner = port.pod_processes(edged, services, settings)
    else:
        from motelet.edged.apps import Apps

        host = port.asyncio_host(loop)
        edged.runner = Apps(edged, services, host, overseer)
        gateway.host = host
        loop.stop()
    if gateway.eventbus is not None:
        gateway.eventbus.apps = services
    edged.hub = gateway.edgehub
    gateway.edgehub.pods = gateway.edged = edged
    gateway.log.info("edged", "started", "memory", settings["memory"])
