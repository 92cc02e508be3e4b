"""Start the gateway of a board; main.py calls `main()`.

The order is what makes it fit: the network and the memory of one TLS connection first, from what the firmware
has, then the rest of the code, into Python's heap.
"""

import sys

import machine
from micropython import const

from motelet import borrow
from motelet.log import Log
from motelet.ports.esp32 import Port
from motelet.ports.esp32.guard import WATCHDOG_MS, Guard
from motelet.ports.esp32.uplink import Uplink

_LOOK_MS = const(200)
_UP_MS = const(
    20000
)  # to wait for the network before the rest is loaded; without it the gateway works offline


def main():
    """Serve for ever. Comes back only where there is nothing to serve, having printed why."""
    settings = borrow("ports.esp32.settings")
    try:
        config = settings.load()
    except settings.SettingsError as error:
        print("motelet: %s" % error)
        return
    if config is None:
        print("motelet: this board is not provisioned; on your computer: motelet provision --help")
        return
    del settings
    try:
        gateway = start(Port(config), config)
        if gateway is not None:
            gateway.run()
    except KeyboardInterrupt:
        print("motelet: stopped by the keyboard")
    except Exception as error:
        sys.print_exception(error)
        borrow("ports.esp32.crash").save(error)
        machine.reset()


def start(port, config):
    """-> the gateway, ready to run; None when the settings cannot be used, which is printed.

    The watchdog tries again a minute after that, in which the REPL can mend them. Raises OSError.
    """
    watchdog = machine.WDT(timeout=WATCHDOG_MS)
    try:
        return _start(port, config, watchdog)
    except ValueError as error:
        print("motelet: %s" % error)
        return None


def _start(port, config, watchdog):
    uplink = Uplink(config.get("network", {}), port.clock, Log(port.log_sink, "info"))
    port.nic = uplink.nic
    began = port.clock.ticks_ms()
    while not uplink.step() and port.clock.ticks_diff(port.clock.ticks_ms(), began) < _UP_MS:
        watchdog.feed()
        port.clock.sleep_ms(_LOOK_MS)
    port.reserve()
    from motelet.ports.esp32.board import Board

    gateway = Board(port, config)
    uplink.log = gateway.log
    gateway.loop.spawn("uplink", uplink.run)
    gateway.loop.spawn("guard", Guard(gateway, port, config).run)
    return gateway
