"""Start the gateway of a board; main.py calls `main()`.

The order is what makes it fit: the network and the memory of one TLS connection first, from what the firmware
has, then the rest of the code, into Python's heap.
"""

import sys

import machine
import micropython
from micropython import const

import motelet
from motelet import borrow
from motelet.ports.esp32 import Port
from motelet.ports.esp32.debugwindow import WINDOW_S
from motelet.ports.esp32.guard import WATCHDOG_MS, Guard
from motelet.ports.esp32.uplink import Uplink

_LOOK_MS = const(200)
_UP_MS = const(20000)  # to wait for the network before the rest is loaded: the gateway works offline too


class Early:
    """What a log does, before there is one: that comes with the gateway."""

    def info(self, *words):
        print(*words)

    warning = info


def main():
    """Serve for ever. Comes back only where there is nothing to serve, having printed why."""
    window = borrow("ports.esp32.debugwindow")
    if window.waits_for_raw():
        seconds = window.seconds()
        window.begin(seconds)  # the next start is an ordinary one
        del window
        _repl(None, seconds).alone()
        return
    window.end()
    del window
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
            motelet.running = gateway
            gateway.run()
    except KeyboardInterrupt:
        seconds = config.get("debug_window_s", WINDOW_S)
        print("motelet: stopped by the keyboard; the board is reset in %d s" % seconds)
        borrow("ports.esp32.debugwindow").begin(seconds)
        motelet.running = None
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
    uplink = Uplink(config.get("network", {}), port.clock, Early())
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
    gateway.loop.spawn("repl", _repl(gateway, config.get("debug_window_s", WINDOW_S)).run)
    gateway.loop.spawn("guard", Guard(gateway, port, config).run)
    return gateway


def _repl(gateway, seconds):
    from motelet.ports.repl import Repl

    def interrupts(on):
        micropython.kbd_intr(3 if on else -1)

    def restart():
        borrow("ports.esp32.debugwindow").begin(seconds, raw=True)
        raise SystemExit  # in main.py that is a soft reset

    port = gateway.port if gateway is not None else None
    return Repl(gateway.loop if gateway is not None else None, port, interrupts, restart)
