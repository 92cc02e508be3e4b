"""DeviceTwin and EventBus of a gateway, for both interpreters: `gateway_side.py CONFIG.json`.

CONFIG: store (path of its flash), mqtt (as in gateway.py), devices ([[resource, CBOR in hexadecimal]]).
It says "ready" when it runs, with the number of uploads in its store and the bytes of heap in use, and
runs until it is killed; what follows is its log. There is no cloud: uploads stay in the store.
"""

import gc
import json
import sys
from binascii import unhexlify

from motelet.bus import Bus
from motelet.devicetwin import DeviceTwin
from motelet.eventbus import EventBus
from motelet.kvlog import Store
from motelet.log import Log
from motelet.loop import Loop
from motelet.messages import PUT, READY
from motelet.ports.unix import Port


def failed(task, error):
    if hasattr(sys, "print_exception"):
        sys.print_exception(error, sys.stderr)
    sys.exit(task.name + " failed: " + repr(error))


def no_driver(device):
    raise ValueError("no driver")


def say(*words):
    print(*words)
    if sys.implementation.name != "micropython":
        sys.stdout.flush()


def main(path):
    with open(path) as file:
        config = json.load(file)
    for section in (config["mqtt"], config["mqtt"].get("broker", {})):
        for name in ("ca", "cert", "key"):
            if name in section:
                with open(section[name], "rb") as file:
                    section[name] = file.read()
    port = Port()
    bus = Bus()
    loop = Loop(port.clock, port.poller(), failed)
    store = Store(port.flash(config["store"], 262144))
    store.mount()
    log = Log(say, config.get("log", "warning"))
    twin = DeviceTwin(loop, bus, store, log, port, no_driver, None)
    eventbus = EventBus(port, loop, bus, log, twin, "edge-1", config["mqtt"])
    loop.spawn("devicetwin", twin.run)

    def tend(task):
        for resource, content in config["devices"]:
            while not bus["devicetwin"].put(PUT, resource, unhexlify(content)):
                bus["devicetwin"].sender = task
                yield
        bus["devicetwin"].put(READY)
        gc.collect()
        say("ready", len(eventbus.uploads or ()), "heap", gc.mem_alloc() if hasattr(gc, "mem_alloc") else 0)
        while True:
            store.step()
            task.sleep(50)
            yield

    loop.spawn("tend", tend)
    loop.run()


main(sys.argv[1])
