"""The gateway's side of a Modbus bus, on both interpreters: `gateway_side.py MODE FILE...`.

Each FILE holds the CBOR of an effective Device; they become d0, d1, ... Prints what the twin is told.
MODE is `run`, until it is killed; `rpi`, the same with port and driver of a Raspberry Pi; or `locked`:
when every property was reported, POLLS more polls run while MicroPython refuses every allocation.
"""

import sys

from motelet import borrow
from motelet.loop import Loop
from motelet.mappers import Mapper

MICROPYTHON = sys.implementation.name == "micropython"
if MICROPYTHON:
    from micropython import heap_lock, heap_unlock

POLLS = 300
HURRY_MS = 100


def say(*words):
    print(*words)
    if not MICROPYTHON:  # which writes at once
        sys.stdout.flush()


def name_of(prop):
    return prop.device.id.split("/")[1] + "." + prop.name


class Twin:
    def __init__(self):
        self.commands = []

    def reported(self, prop, value):
        prop.value = value
        say("reported", name_of(prop), repr(value))

    def applied(self, prop):
        say("applied", name_of(prop), prop.desired)

    def state(self, device, state, reason):
        device.state = state
        device.reason = reason
        say("state", device.id.split("/")[1], state, reason)

    def once(self, prop):
        command = (name_of(prop), prop.desired)
        if command in self.commands:
            return False
        self.commands.append(command)
        return True


class Log:
    def debug(self, *_pairs):
        pass

    info = warning = debug


def fail(_task, error):
    raise error


def locked(loop, driver, devices):
    """Poll under the heap lock; transaction ids count the polls."""
    while not all(prop.value is not None for device in devices for prop in device.properties):
        loop.step(-1)
    for _ in range(20):
        loop.step(100)
    tx = driver.tx
    target = (tx[0] << 8 | tx[1]) + POLLS
    if MICROPYTHON:
        heap_lock()
    try:
        while (tx[0] << 8 | tx[1]) < target:
            loop.step(-1)
    finally:
        if MICROPYTHON:
            heap_unlock()
    say("polled", POLLS)


def hurry(clock, devices):
    """A task that cuts the pauses after failures short, which core's tests show on a virtual clock."""

    def run(task):
        while True:
            soon = clock.ticks_add(clock.ticks_ms(), HURRY_MS)
            for device in devices:
                for prop in device.properties:
                    if clock.ticks_diff(prop.due, soon) > 0:
                        prop.due = soon
                        device.mapper.task.wake()
            task.sleep(HURRY_MS)
            yield

    return run


def main(mode, *files):
    if mode == "rpi":
        from motelet.ports.rpi import Port, modbusload
    else:
        from motelet.ports.unix import Port

        modbusload = borrow("mappers.modbusload")
    port = Port()
    loop = Loop(port.clock, port.poller(), fail)
    twin = Twin()
    mappers = {}
    devices = []
    for path in files:
        with open(path, "rb") as file:
            content = file.read()
        device = borrow("devload").load(f"default/device/d{len(devices)}", content, devices)
        key = modbusload.bus(device, mappers)
        if key not in mappers:
            mappers[key] = Mapper(loop, Log(), twin, modbusload.driver(key)(port, loop, key))
        borrow("attach").add(mappers[key], device, modbusload)
        devices.append(device)
    if mode == "locked":
        locked(loop, mappers[key].driver, devices)
        mappers[key].driver.close()
    else:
        loop.spawn("hurry", hurry(port.clock, devices))
        loop.run()


main(*sys.argv[1:])
