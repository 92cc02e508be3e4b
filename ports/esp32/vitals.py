"""What the chip knows of itself: the fields of NODE (protocol.cddl). Borrowed when they are sent."""

import gc

import esp32
import machine
from micropython import const

from motelet import borrow

_TEXT_MAX = const(1000)  # bytes of a text in the settings

RESETS = (
    ("PWRON_RESET", "power on"),
    ("HARD_RESET", "reset"),
    ("WDT_RESET", "watchdog"),
    ("DEEPSLEEP_RESET", "woke from deep sleep"),
    ("SOFT_RESET", "soft reset"),
)


def status(port):
    """-> dict, see ports/README.md: what cannot be told is not in it."""
    gc.collect()
    fields = {
        "heap": gc.mem_alloc() + gc.mem_free(),
        "heap_free": gc.mem_free(),
        "heap_largest": largest_free(),
        "temperature": temperature(),
        "reset": port.reset,
    }
    crash = borrow("ports.esp32.settings").get("crash", _TEXT_MAX)
    if crash:
        fields["crash"] = crash.decode()
    if port.sleep_until:
        fields["sleep_until"] = port.sleep_until
    nic = port.nic
    if nic is not None and nic.isconnected():
        fields["address"] = nic.ifconfig()[0]
        try:
            fields["signal"] = nic.status("rssi")
        except (OSError, ValueError, TypeError):
            pass  # Ethernet has none
    return fields


def largest_free():
    """-> bytes: the largest piece that the firmware (TLS, Wi-Fi) could still get."""
    return max([region[2] for region in esp32.idf_heap_info(esp32.HEAP_DATA)])


def temperature():
    """-> degrees Celsius inside the chip."""
    if hasattr(esp32, "mcu_temperature"):
        return esp32.mcu_temperature()
    return (esp32.raw_temperature() - 32) * 5 // 9  # the first ESP32 measures in Fahrenheit


def reset_cause():
    """-> why the chip started: what it meant to do, which is forgotten now, else what the hardware says."""
    settings = borrow("ports.esp32.settings")
    leaving = settings.get("leaving", _TEXT_MAX)
    if leaving:
        settings.put("leaving", None)
        return leaving.decode()
    cause = machine.reset_cause()
    for name, text in RESETS:
        if getattr(machine, name, None) == cause:
            return text
    return "cause %d" % cause
