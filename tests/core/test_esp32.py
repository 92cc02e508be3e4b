"""The port for ESP32 against doubles of its modules, on both interpreters (streams: test_port_contract)."""

import json
import sys

import esp_doubles
from esp_doubles import CHIP, Restart
from nor import Nor

from motelet.bus import Bus
from motelet.log import Log
from motelet.loop import Loop
from tests_util import IS_MICROPYTHON, Clock, MemoryPoller, heap_locked, raises

esp_doubles.install()
from motelet.ports.esp32 import (  # noqa: E402
    buses,
    crash,
    debugwindow,
    image,
    leave,
    overseer,
    settings,
    vitals,
)
from motelet.ports.esp32.guard import WATCHDOG_MS, Guard  # noqa: E402
from motelet.ports.esp32.uplink import Uplink  # noqa: E402

CONFIG = {"node": "kitchen", "bridge": {"host": "bridge.example", "port": 10000}}


def restarted(function, *args):
    """What `function` restarts the chip for."""
    return raises(Restart, function, *args).args


class Lines:
    """A log to look into."""

    def __init__(self):
        self.lines = []
        self.log = Log(self.lines.append, "info")


# -- settings ---------------------------------------------------------------------------------


def provisioned(config=CONFIG, secrets=None):
    chip = esp_doubles.reset_chip()
    settings.put("secrets", json.dumps(secrets or {}).encode())
    settings.put("config", json.dumps(config).encode())
    return chip


def test_what_was_provisioned_is_loaded():
    config = dict(CONFIG, network={"wifi": [{"ssid": "a"}, {"ssid": "b"}]})
    chip = provisioned(config, {"token": "t", "wifi": {"a": "key a"}})
    settings.put("ca", b"\x30\x00")
    chip.restart()
    loaded = settings.load()
    assert loaded["node"] == "kitchen" and loaded["bridge"]["token"] == "t"
    assert loaded["bridge"]["ca"] == b"\x30\x00" and "cert" not in loaded["bridge"]
    assert loaded["network"]["wifi"] == [{"ssid": "a", "key": "key a"}, {"ssid": "b", "key": None}]
    loaded["bridge"]["enrolled"]()
    chip.restart()
    loaded = settings.load()
    assert "token" not in loaded["bridge"] and loaded["network"]["wifi"][0]["key"] == "key a"
    settings.forget_token()


def test_settings_that_cannot_be_used():
    esp_doubles.reset_chip()
    assert settings.load() is None
    for text in (b"{", b"[]", b"{}", b'{"bridge": 1}'):
        settings.put("config", text)
        raises(settings.SettingsError, settings.load)
    raises(settings.SettingsError, settings.put, "ca", bytes(settings.SIZE_MAX + 1))
    esp_doubles.NVS("motelet").set_blob("ca", bytes(settings.SIZE_MAX + 1))
    raises(settings.SettingsError, settings.get, "ca")
    raises(OSError, settings.put, "a name too long!", b"")
    for name in settings.NAMES:
        assert len(name) <= 15


def test_what_is_not_committed_is_gone():
    chip = esp_doubles.reset_chip()
    esp_doubles.NVS("motelet").set_blob("ca", b"x")
    assert settings.get("ca") == b"x"
    chip.restart()
    assert settings.get("ca") is None
    settings.put("ca", b"y")
    chip.restart()
    assert settings.get("ca") == b"y"


def test_a_traceback_is_kept_once():
    chip = esp_doubles.reset_chip()
    error = raises(ValueError, int, "planted")
    lacking = not hasattr(sys, "print_exception")
    if lacking:  # CPython
        sys.print_exception = lambda error, file: file.write("ValueError: %s" % error)
    try:
        crash.save(error)
        assert b"ValueError" in settings.get("crash")
        commits = []
        chip.nvs["motelet"] = Watched(commits, chip.nvs["motelet"])
        crash.save(error)
        assert commits == []
        crash.save(ValueError("another"))
        assert commits == ["crash"]
    finally:
        if lacking:
            del sys.print_exception


class Watched(dict):
    """NVS that notes each write."""

    def __init__(self, notes, content):
        super().__init__(content)
        self._notes = notes

    def __setitem__(self, key, value):
        self._notes.append(key)
        super().__setitem__(key, value)


def test_the_date_of_an_image():
    assert image.of_version("3.4.0; MicroPython v1.26.0 on 2025-08-09") == 1754697600000
    assert image.of_version("3.4.0; MicroPython v1.28.0 on 2024-03-01; x") == 1709251200000
    assert image.of_version("x on 2024-02-29") == 1709164800000
    raises(ValueError, image.of_version, "3.11.7 (main)")


# -- network ----------------------------------------------------------------------------------


def uplink(config):
    clock = Clock()
    lines = Lines()
    return Uplink(config, clock, lines.log), clock, lines.lines


def test_wifi_connects_and_comes_back():
    chip = esp_doubles.reset_chip()
    chip.aps["a"] = ("secret", -60)
    link, clock, lines = uplink({"wifi": [{"ssid": "a", "key": "secret"}]})
    assert ("WLAN.config", {"reconnects": 0}) in chip.made
    assert not link.step()
    clock.advance(1000)
    assert link.step()
    del chip.aps["a"]
    for _ in range(5):
        clock.advance(1000)
        assert not link.step()
    chip.aps["a"] = ("secret", -70)
    clock.advance(1000)
    link.step()
    assert link.step()
    assert [line.split(" ")[0] for line in lines] == ["info", "warning", "info"]
    assert "secret" not in "".join(lines)


def test_the_second_network_is_tried_when_the_first_is_out():
    chip = esp_doubles.reset_chip()
    chip.aps["b"] = ("key", -60)
    link, clock, _ = uplink({"wifi": [{"ssid": "a", "key": "x"}, {"ssid": "b", "key": "key"}]})
    for _ in range(3):
        link.step()
        clock.advance(1000)
    assert link.step() and chip.attempts == ["a", "b"]
    del chip.aps["b"]
    chip.aps["a"] = ("x", -50)
    for _ in range(4):
        clock.advance(1000)
        link.step()
    assert link.step()
    assert chip.attempts == ["a", "b", "b", "a"]  # the one that was lost comes first


def test_a_network_that_says_nothing_is_given_its_time():
    chip = esp_doubles.reset_chip()
    link, clock, _ = uplink({"wifi": [{"ssid": "a"}, {"ssid": "b"}]})
    chip.wlan.air = lambda: None  # neither in nor refused
    for _ in range(15):
        link.step()
        clock.advance(1000)
    assert chip.attempts == ["a"]
    link.step()
    assert chip.attempts == ["a", "b"]


def test_a_fixed_address():
    chip = esp_doubles.reset_chip()
    address = ["192.168.1.7", "255.255.255.0", "192.168.1.1", "192.168.1.1"]
    link, _, _ = uplink({"wifi": [{"ssid": "a"}], "address": address})
    chip.aps["a"] = (None, -60)
    link.step()
    assert link.step() and link.nic.ifconfig()[0] == "192.168.1.7"


def test_ethernet_is_started_anew_when_its_link_stays_away():
    chip = esp_doubles.reset_chip()
    chip.link = False
    link, clock, _ = uplink({"ethernet": {"phy_type": "PHY_LAN8720", "phy_addr": 0, "mdc": 23, "mdio": 18}})
    name, options = chip.made[0]
    assert name == "LAN" and options["phy_type"] == 1 and options["mdc"].number == 23
    for _ in range(30):
        assert not link.step()
        clock.advance(1000)
    assert chip.lan.starts == 1
    link.step()
    assert chip.lan.starts == 2
    chip.link = True
    assert link.step()


def test_networks_there_are_not():
    esp_doubles.reset_chip()
    for config in ({}, {"wifi": []}, {"wifi": [{}] * 3}, {"wifi": [{"ssid": "a"}], "ethernet": {}}):
        raises(ValueError, uplink, config)


def test_a_watched_network_allocates_nothing():
    chip = esp_doubles.reset_chip()
    chip.aps["a"] = (None, -60)
    link, _, _ = uplink({"wifi": [{"ssid": "a"}]})
    link.step()
    link.step()
    chip.wlan.isconnected = lambda: True
    assert heap_locked(link.step)


# -- guard ------------------------------------------------------------------------------------


class Sleeper:
    """A task that only counts how long it sleeps."""

    slept = 0

    def sleep(self, ms):
        self.slept += ms


class World:
    """A gateway's parts that the guard sees, on a virtual clock."""

    def __init__(self, config):
        self.chip = esp_doubles.reset_chip()
        self.clock = Clock()
        self.lines = Lines()
        self.log = self.lines.log
        self.errors = []
        self.loop = Loop(self.clock, MemoryPoller(self.clock), lambda task, error: self.errors.append(error))
        self.bus = Bus()
        self.store = self.edgehub = self
        self.flash = Nor(8)
        self.flash.sync = lambda: None
        self.connected = False
        self.task = self.loop.spawn("edgehub", self.run)
        self.sleep_until = 0
        self.healthy = True
        self.guard = Guard(self, self, config)
        self.loop.spawn("guard", self.guard.run)

    def epoch_ms(self):
        return self.clock.epoch_ms()

    def run(self, task):
        while self.healthy:
            task.sleep(1000)
            yield
        raise ValueError("planted")

    def seconds(self, count):
        until = self.clock.now_ms + 1000 * count
        while self.clock.now_ms < until:
            self.loop.step(-1)


def test_the_watchdog_is_fed_while_every_module_is_healthy():
    world = World({})
    assert world.chip.watchdog_ms == 60000
    world.seconds(30)
    assert world.chip.fed >= 30
    world.healthy = False
    world.seconds(600)  # until its back-off is the longest
    assert len(world.errors) >= 7
    fed = world.chip.fed
    world.seconds(50)
    assert world.chip.fed == fed
    world.healthy = True
    world.seconds(70)
    assert world.chip.fed > fed


def test_memory_that_stays_short_is_a_planned_restart():
    world = World({"low_memory": 16384})
    world.chip.largest = 16000
    world.seconds(8 * 60)
    world.chip.largest = 17000
    world.seconds(60)
    world.chip.largest = 16000
    world.seconds(9 * 60)
    assert not world.sleep_until
    assert restarted(world.seconds, 120) == ("reset",)
    assert "low memory" in world.lines.lines[-1]
    assert world.epoch_ms() < world.sleep_until <= world.epoch_ms() + 30000
    assert vitals.reset_cause() == "low memory" and vitals.reset_cause() == "power on"


def test_the_button_makes_the_board_new():
    world = World({"button": 0})
    settings.put("config", b"{}")
    world.flash.prog(0, b"x" * 32)
    world.chip.pins[0] = 0
    world.seconds(8)
    world.chip.pins[0] = 1
    world.seconds(5)
    world.chip.pins[0] = 0
    world.seconds(8)
    assert settings.get("config") == b"{}"
    assert restarted(world.seconds, 20) == ("reset",)
    buf = bytearray(32)
    world.flash.read(0, buf)
    assert settings.get("config") is None and buf == b"\xff" * 32
    assert settings.get("leaving") == b"factory reset"


def test_deep_sleep_is_announced():
    world = World({"sleep": {"awake_s": 60, "asleep_s": 600}})
    world.seconds(50)
    assert not world.sleep_until
    assert restarted(world.seconds, 30) == ("deepsleep", 600000)
    assert world.clock.now_ms >= 64000
    assert world.sleep_until == 1800000000000 + world.clock.now_ms - 5000 + 600000


def test_an_idle_guard_allocates_nothing():
    world = World({"button": 0})
    world.seconds(3)

    world.task = Sleeper()
    ticking = world.guard.run(world.task)
    next(ticking)
    for _ in range(20):
        heap_locked(next, ticking)
    assert world.task.slept == 21 * 1000


# -- the debug window -----------------------------------------------------------------------


def test_a_window_feeds_the_watchdog_then_resets():
    chip = esp_doubles.reset_chip()
    debugwindow.begin(3)
    timer = esp_doubles.Timer(0)
    assert chip.watchdog_ms == 60000 and chip.timers[0][0] == 1000
    for turn in range(3):
        timer.fire()
        assert chip.fed == turn + 1
    assert restarted(timer.fire) == ("reset",)
    assert not chip.timers and chip.fed == 3


def test_a_window_opens_anew_after_a_soft_reset_only():
    chip = esp_doubles.reset_chip()
    debugwindow.begin(7, raw=True)
    chip.restart()
    chip.cause = esp_doubles.SOFT_RESET
    debugwindow.rearm()
    assert 0 in chip.timers and debugwindow.waits_for_raw() and debugwindow.seconds() == 7
    debugwindow.begin(debugwindow.seconds())
    assert not debugwindow.waits_for_raw() and debugwindow.seconds() == 7
    debugwindow.end()
    assert not chip.timers and debugwindow.seconds() == 0
    debugwindow.rearm()
    debugwindow.end()
    assert not chip.timers
    for cause in (esp_doubles.PWRON_RESET, esp_doubles.WDT_RESET, esp_doubles.HARD_RESET):
        debugwindow.begin(7)
        chip.restart()
        chip.cause = cause
        debugwindow.rearm()
        assert not chip.timers and debugwindow.seconds() == 0


# -- buses and vitals -------------------------------------------------------------------------

PINS = {
    "uart1": {"tx": 17, "rx": 16, "de": 4},
    "uart2": {"tx": 10, "rx": 9},
    "i2c0": {"scl": 22, "sda": 21},
    "relay": {"pin": 26},
}


def test_a_uart_with_a_direction_pin():
    chip = esp_doubles.reset_chip()
    stream = buses.serial({"pins": PINS}, "uart1", 9600, "E", 2)
    uart = chip.uarts[1]
    assert uart.options == {"bits": 8, "parity": 0, "stop": 2, "tx": 17, "rx": 16, "timeout": 0}
    assert chip.pins[4] == 0
    assert stream.write(b"..request", 2, 7) == 7
    assert uart.sent == [(b"request", 1)] and uart.flushed and chip.pins[4] == 0
    buf = bytearray(8)
    assert stream.readinto(buf) is None and stream.ioctl(3, 1) == 0 and stream.ioctl(3, 5) == 4
    uart.received = b"answer"
    assert stream.ioctl(3, 5) == 5 and stream.readinto(buf, 3) == 3 and stream.readinto(buf) == 3
    assert stream.ioctl(4, 0) == 0 and stream.ioctl(99, 0) == -22
    stream.close()
    assert uart.closed


def test_a_uart_without_one():
    chip = esp_doubles.reset_chip()
    stream = buses.serial({"pins": PINS}, "uart2", 115200, "N", 1)
    assert stream.write(b"x", 0, 1) == 1
    assert chip.uarts[2].sent == [(b"x", None)] and not chip.uarts[2].flushed
    for wrong in ((1, "N", 1), (9600, "X", 1), (9600, "N", 3)):
        raises(ValueError, buses.serial, {"pins": PINS}, "uart1", *wrong)
    raises(OSError, buses.serial, {"pins": PINS}, "uart0", 9600, "N", 1)
    raises(OSError, buses.serial, {}, "/dev/ttyS0", 9600, "N", 1)
    raises(OSError, buses.serial, {"pins": PINS}, "i2c0", 9600, "N", 1)


def test_buses_by_name():
    chip = esp_doubles.reset_chip()
    use = {"pins": PINS}
    made = buses.open_bus(use, "i2c", "i2c0", {"freq": 400000})
    assert made[0] == "I2C" and made[1] == (0,) and made[2]["freq"] == 400000 and made[2]["scl"].number == 22
    assert buses.open_bus(use, "pin", "relay", {"mode": 3, "value": 1}).number == 26
    pin = buses.open_bus(use, "pin", "relay", {"mode": "out", "pull": "down"})
    assert (pin.mode, pin.pull) == (3, 1)
    pin = buses.open_bus(use, "pin", "relay", {"mode": "in", "pull": "up"})
    assert (pin.mode, pin.pull) == (1, 2)
    assert chip.pins[26] == 1
    assert buses.open_bus(use, "pwm", "relay", {"freq": 50})[0] == "PWM"
    assert buses.open_bus(use, "adc", "relay", {})[0] == "ADC"
    assert buses.open_bus(use, "onewire", "relay", {})[0] == "OneWire"
    assert len(buses.KINDS) == 5
    raises(ValueError, buses.open_bus, use, "can", "relay", {})
    raises(OSError, buses.open_bus, use, "pin", "nothing", {})
    raises(OSError, buses.open_bus, use, "i2c", "relay", {})
    assert PINS["i2c0"] == {"scl": 22, "sda": 21}


def test_what_the_chip_says_of_itself():
    world = World({})
    world.chip.cause = 3
    world.reset = vitals.reset_cause()
    world.nic = None
    if IS_MICROPYTHON:
        fields = vitals.status(world)
        assert fields["reset"] == "watchdog" and fields["temperature"] == 41
        assert fields["heap_largest"] == 53248 and fields["heap_free"] > 0
        assert "address" not in fields and "crash" not in fields and "sleep_until" not in fields
        settings.put("crash", b"Traceback")
        world.sleep_until = 1800000000000
        world.chip.aps["a"] = (None, -61)
        link, _, _ = uplink({"wifi": [{"ssid": "a"}]})
        link.step()
        world.nic = link.nic
        fields = vitals.status(world)
        assert fields["crash"] == "Traceback" and fields["sleep_until"] == 1800000000000
        assert fields["signal"] == -61 and fields["address"] == "10.0.0.7"
        world.nic = esp_doubles.LAN(0)
        world.nic.active(True)
        assert vitals.status(world)["address"] == "10.0.0.9"
    world.chip.cause = 77
    assert vitals.reset_cause() == "cause 77"
    del esp_doubles.mcu_temperature
    esp_doubles.raw_temperature = lambda: 122
    assert vitals.temperature() == 50


def test_forgetting_is_complete():
    world = World({})
    for name in settings.NAMES + ("crash", "leaving"):
        settings.put(name, b"{}")
    leave.forget(world, settings)
    assert CHIP.nvs["motelet"] == {} and world.flash.erases == 8


# -- the overseer -----------------------------------------------------------------------------


class Terminal:
    """What MicroPython's os and micropython do about terminals; somebody has the one place there is."""

    def __init__(self):
        self.place = "webrepl"
        self.char = -1
        self.interrupts = 0

    def kbd_intr(self, char):
        self.char = char

    def dupterm(self, stream):
        before, self.place = self.place, stream
        return before

    def dupterm_notify(self, _):
        buf = bytearray(1)
        assert self.place.readinto(buf) == 1
        self.interrupts += buf[0] == self.char


def test_an_interrupt_is_a_character_of_a_terminal_that_is_there_for_that():
    chip = esp_doubles.reset_chip()
    terminal = Terminal()
    kept = overseer.os, overseer.micropython
    overseer.os = overseer.micropython = terminal
    try:
        one = overseer.Overseer("power on")
        one.alarm(lambda timer: one.interrupt())
        period, _ = chip.timers[0]
        assert 2 * period * 2 == WATCHDOG_MS
        esp_doubles.Timer(0).fire()
        assert terminal.interrupts == 1
        # A Ctrl-C that is typed is a byte again, and who had the terminal has it back.
        assert terminal.char == -1 and terminal.place == "webrepl"
    finally:
        overseer.os, overseer.micropython = kept


def test_without_the_means_there_is_no_alarm():
    chip = esp_doubles.reset_chip()
    overseer.Overseer("power on").alarm(print)  # the unix build has no dupterm
    assert chip.timers == {}


def test_who_ran_is_known_after_the_watchdog_only():
    chip = esp_doubles.reset_chip()
    overseer.Overseer("power on").mark("default/pod/p/main")
    chip.restart()
    assert overseer.Overseer("watchdog").left == "default/pod/p/main"
    assert overseer.Overseer("power on").left == ""
