"""Builds the modules of a gateway from its configuration; borrowed by `Gateway` while it starts.

Only this module and `gateway` know them all. What a configuration does not name is never imported,
because an imported module costs a board about as much RAM as its source has characters.
"""

import gc

from micropython import const

from motelet import borrow
from motelet.bus import Bus
from motelet.devicetwin import DeviceTwin
from motelet.edgehub import EdgeHub
from motelet.gateway import ConfigError
from motelet.kvlog import Store
from motelet.log import LEVELS, Log
from motelet.loop import Loop
from motelet.metamanager import MetaManager

# Bytes after which garbage is collected. Left to itself MicroPython collects when no room is left. By then
# what stays lies between garbage all over the heap, and the code of a module to be borrowed fits nowhere.
# In a larger heap, which takes longer to go over and has the room, after more: a part of the whole.
_COLLECT_BYTES = const(8192)
_COLLECT_PART = const(16)


def field(config, name, kind, default=None):
    """-> config[name], checked; `name` may be dotted. Raises ConfigError naming it."""
    value = config
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if value is None:
        value = default
    if not isinstance(value, kind) or (kind is int and (value < 1 or value is True)) or value == "":
        raise ConfigError("%s: expected %s, got %s" % (name, kind.__name__, repr(value)))
    return value


def assemble(gateway, port, config):
    """Give `gateway` its parts and spawn their tasks. Raises as `Gateway` does."""
    if hasattr(gc, "threshold"):  # CPython has none
        gc.threshold(max(_COLLECT_BYTES, (gc.mem_alloc() + gc.mem_free()) // _COLLECT_PART))
    gateway.node = field(config, "node", str)
    gateway.drivers = dict(getattr(port, "drivers", ()))
    gateway.drivers.update(field(config, "drivers", dict, {}))
    bridge = field(config, "bridge", dict)
    field(config, "bridge.host", str)
    field(config, "bridge.port", int)
    level = field(config, "log_level", str, "info")
    if level not in LEVELS:
        raise ConfigError("log_level: %s is none of %s" % (level, ", ".join(LEVELS)))
    log = gateway.log = Log(port.log_sink, level)
    bus = gateway.bus = Bus()
    loop = gateway.loop = Loop(port.clock, port.poller(), gateway.task_failed)
    path, size = field(config, "store.path", str), field(config, "store.size", int)
    store = gateway.store = _mounted(port, path, size, log)
    twin = gateway.twin = DeviceTwin(loop, bus, store, log, port, gateway.attach, gateway.detach)
    meta = gateway.meta = MetaManager(store, bus)
    link = {"info": {"platform": port.name, "boot": _boots(store)}, "node": gateway.node}
    gateway.pod_settings = borrow("podhost").offer(port, config, link["info"])
    if gateway.pod_settings:
        meta.pods = gateway.pod_changed
    link.update(bridge)
    if borrow("wallclock").start(port, store, log):
        link["sntp"] = field(config, "sntp", list, ["pool.ntp.org"])
    hub = gateway.edgehub = EdgeHub(port, loop, log, meta, twin, link, None)
    _identify(hub)
    loop.spawn("metamanager", meta.run)
    loop.spawn("devicetwin", twin.run)
    twin.hub = loop.spawn("edgehub", hub.run)
    if "mqtt" in config:
        from motelet.eventbus import EventBus

        mqtt = field(config, "mqtt", dict)
        gateway.eventbus = EventBus(port, loop, bus, log, twin, gateway.node, mqtt, hub)


def _identify(hub):
    try:
        known = borrow("identity").load(hub)
        if "token" in hub.config:
            borrow("enrol").begin(hub, known)
    except (ValueError, OSError) as error:
        raise ConfigError("bridge: %s" % error)


def _mounted(port, path, size, log):
    try:
        store = Store(port.flash(path, size))
    except ValueError as error:
        raise ConfigError("store.size: %s" % error)
    store.vault = port
    store.mount()
    if store.damaged:
        log.warning("metamanager", "store was damaged", "records", store.damaged)
    return store


def _boots(store):
    """How often this node has started, this time included."""
    boots = int(store.get(".boot") or b"0") + 1
    store.put(".boot", str(boots).encode())
    return boots
