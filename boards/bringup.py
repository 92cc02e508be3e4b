"""Runs on a provisioned board: mpremote run boards/bringup.py. Prints PASS or FAIL line by line.

BRINGUP.md says what to do with the output. It touches the key ".bringup" of the store and nothing else. A
gateway that runs on that store meanwhile would not know: it refuses to run beside one (mpremote resume).
"""

import gc
import sys
import time

LIMITS = {  # at most, unless the name ends in _min
    "heap free at start_min": 30000,
    "largest free block at start_min": 60000,
    "wifi ms": 15000,
    "largest free block with wifi_min": 34000,
    "largest free block with tls_min": 12000,
    "tls handshake ms": 8000,
    "heap used by store": 8000,
    "mount ms": 3000,
    "put ms": 100,
    "slowest put ms": 500,
    "temperature": 85,
}
PUTS = 50


class Report:
    """The lines, and how many of them say FAIL."""

    def __init__(self):
        self.failed = 0

    def line(self, ok, name, text):
        self.failed += not ok
        print("%s %-36s %s" % ("PASS" if ok else "FAIL", name, text))

    def value(self, name, value):
        if name + "_min" in LIMITS:
            limit = LIMITS[name + "_min"]
            self.line(value >= limit, name, "%d, at least %d" % (value, limit))
        else:
            self.line(value <= LIMITS[name], name, "%d, at most %d" % (value, LIMITS[name]))

    def step(self, name, function):
        """Call `function(report)`; what it raises is a FAIL of its own, and the rest goes on."""
        try:
            return function(self)
        except Exception as error:
            self.line(False, name, "%s: %s" % (type(error).__name__, error))
            sys.print_exception(error)
            return None


def stopped(report):
    import motelet

    alone = getattr(motelet, "running", None) is None
    report.line(alone, "gateway stopped", "" if alone else "it runs: mpremote run, without resume")
    return alone


def start(report):
    from motelet.ports.esp32 import vitals

    gc.collect()
    report.value("heap free at start", gc.mem_free())
    report.value("largest free block at start", vitals.largest_free())
    report.value("temperature", vitals.temperature())
    print("     reset cause: %s" % vitals.reset_cause())


def provisioned(report):
    from motelet.ports.esp32 import Port, settings

    config = settings.load()
    report.line(config is not None, "provisioned", "" if config else "run motelet provision first")
    return (Port(config), config) if config else None


def wifi(report, port, config):
    from motelet.ports.esp32 import vitals
    from motelet.ports.esp32.run import Early
    from motelet.ports.esp32.uplink import Uplink

    uplink = Uplink(config.get("network", {}), port.clock, Early())
    began = time.ticks_ms()
    while not uplink.step() and time.ticks_diff(time.ticks_ms(), began) < LIMITS["wifi ms"]:
        time.sleep_ms(100)
    report.value("wifi ms", time.ticks_diff(time.ticks_ms(), began))
    report.value("largest free block with wifi", vitals.largest_free())


def tls(report, port, config):
    from motelet.ports.esp32 import vitals

    bridge = config["bridge"]
    context = port.tls_unchecked()  # the clock is not set yet: no certificate would be valid
    if "cert" in bridge:
        context.load_cert_chain(bridge["cert"], bridge["key"])
    stream = port.tcp(bridge["host"], bridge["port"], context, bridge["host"])
    poller = port.poller()
    poller.register(stream, 4)
    began = time.ticks_ms()
    while not stream.write(b"GET / HTTP/1.0\r\n\r\n", 0, 18):
        if time.ticks_diff(time.ticks_ms(), began) > 2 * LIMITS["tls handshake ms"]:
            raise OSError("no handshake")
        for _ in poller.ipoll(100):
            pass
    report.value("tls handshake ms", time.ticks_diff(time.ticks_ms(), began))
    report.value("largest free block with tls", vitals.largest_free())
    stream.close()


def store(report, port, config):
    from motelet import debug

    flash = port.flash(config["store"]["path"], config["store"]["size"])
    mounted, heap, total, slowest, good = debug.measure(flash, PUTS)
    report.value("mount ms", mounted)
    report.value("heap used by store", heap)
    report.value("put ms", total // PUTS)
    report.value("slowest put ms", slowest)
    report.line(good, "store reads back", "")
    flash.close()


def buses(report, port, config):
    for name in config.get("pins", {}):
        if name.startswith("i2c"):
            report.line(True, name, "answer: %s" % port.bus("i2c", name).scan())
        elif name.startswith("uart"):
            port.serial(name, 9600).close()
            report.line(True, name, "opens at 9600 baud")


def main():
    """-> how many lines say FAIL."""
    report = Report()
    print("motelet bring-up, %s" % (sys.implementation,))
    found = None
    if stopped(report):
        report.step("start", start)
        found = report.step("provisioned", provisioned)
    if found:
        for name, check in (("wifi", wifi), ("tls", tls), ("store", store), ("buses", buses)):
            report.step(name, lambda report, check=check: check(report, *found))
    print("%s: %d failed" % ("FAIL" if report.failed else "PASS", report.failed))
    return report.failed


main()
