"""What a developer asks a running gateway, at its REPL or by mpremote: `from motelet import debug`.

    debug.status()   debug.devices()   debug.twins()   debug.queues()
    debug.heap()     debug.tasks()     debug.store()   debug.log()

Each prints lines, and changes nothing. Nothing here shows a key, a token or a Secret's data. The module takes
RAM from its import to the next start.
"""

import gc
import sys
import time

import motelet

LINES = 16  # of the log, which keeps no more


def _gateway():
    if motelet.running is None:
        raise RuntimeError("no gateway is running")
    return motelet.running


def status():
    """Who this is, and how its link does."""
    gateway = _gateway()
    hub = gateway.edgehub
    print("node      ", gateway.node, "on", gateway.port.name, "motelet", motelet.__version__)
    link = "synced" if hub.synced else "connected" if hub.connected else "down"
    print("link      ", link, hub.config["host"], hub.config["port"], "links made:", hub.connects)
    print("devices   ", len(gateway.twin.devices))
    fields = gateway.port.status()
    for name in sorted(fields):
        print("%-10s" % name, fields[name])


def devices():
    """Each device: its state, why, and how many properties it has."""
    for device in _gateway().twin.devices.values():
        print(device.id, device.state, repr(device.reason), "properties:", len(device.properties))


def twins():
    """Each property: what is wanted, what was read, when."""
    for device in _gateway().twin.devices.values():
        for prop in device.properties:
            print(device.id, prop.name, "desired:", prop.desired, "reported:", prop.value, "at", prop.time_ms)


def queues():
    """Each mailbox: how many messages wait, how many were lost."""
    bus = _gateway().bus
    for name in bus:
        print(name, len(bus[name]), "dropped:", bus[name].dropped)


def heap():
    """What is free, in Python's heap and in what the firmware has."""
    gc.collect()
    if hasattr(gc, "mem_free"):
        print("python     free:", gc.mem_free(), "used:", gc.mem_alloc())
    if "esp32" in sys.modules:
        esp32 = sys.modules["esp32"]
        for region in esp32.idf_heap_info(esp32.HEAP_DATA):
            print("firmware   free:", region[1], "largest:", region[2], "of", region[0])


def tasks():
    """Each task of the loop: when it is due."""
    loop = _gateway().loop
    now = loop.clock.ticks_ms()
    for task in loop._tasks:
        left = "-" if task.deadline is None else loop.clock.ticks_diff(task.deadline, now)
        print("%-14s" % task.name, "failed" if task._held else "ready" if task.ready else "waits", left)


def store():
    """How full the flash is, and what was found damaged."""
    log = _gateway().store
    size = log.flash.block_size
    print("store     ", log.flash.blocks * size, "bytes, free:", log.spare * size)
    print("objects   ", len(list(log.keys())), "damaged:", log.damaged, "blocks retired:", log.retired)


def measure(flash, puts):
    """Mount a store on `flash` and put `puts` values there, under a key that goes again.

    -> ms to mount, bytes of heap, ms of all puts, ms of the slowest, whether the last was read back. For the
    bring-up of a board (boards/bringup.py); no gateway may run on that flash.
    """
    from motelet.kvlog import Store

    gc.collect()
    before = gc.mem_alloc()
    kept = Store(flash)
    began = time.ticks_ms()
    kept.mount()
    mounted = time.ticks_diff(time.ticks_ms(), began)
    gc.collect()
    heap = gc.mem_alloc() - before
    total = slowest = 0
    for number in range(puts):
        value = b"%d " % number + bytes(100)
        began = time.ticks_ms()
        kept.put(".bringup", value)
        took = time.ticks_diff(time.ticks_ms(), began)
        total += took
        slowest = max(slowest, took)
    good = kept.get(".bringup") == value
    kept.delete(".bringup")
    return mounted, heap, total, slowest, good


def log(lines=LINES):
    """The last lines of the log."""
    for line in list(getattr(_gateway().port, "tail", ()))[-lines:]:
        print(line)
