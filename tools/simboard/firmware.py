"""Runs on MicroPython in the place of a chip's firmware: boot.py, main.py, and then the REPL (option -i).

What outlives a restart is in the folder SIM_STATE: chip.json (NVS, access points), rtc (the RTC's memory).
`why` tells the host why the chip restarts, `watchdog` is touched when it is fed, `repl` is there when main.py
has come to its end.
"""

import json
import os
import sys
import termios
import time

import micropython

_state = os.getenv("SIM_STATE")
sys.path.insert(0, os.getenv("SIM_CODE"))
import _thread  # noqa: E402

import esp_doubles  # noqa: E402

esp_doubles.install()
sys.path[0] = ""  # the current folder, as on a chip
_chip = esp_doubles.CHIP


def _write(name, text):
    with open(_state + "/" + name, "w") as file:
        file.write(text)


def _restart(why):
    """The chip restarts, from whichever thread."""
    _write("why", why)
    os.system("kill -9 $PPID")
    while True:
        time.sleep(1)


def _load():
    with open(_state + "/chip.json") as file:
        stored = json.load(file)
    _chip.cause = stored["cause"]
    _chip.aps.update(stored["aps"])
    for space, values in stored["nvs"].items():
        _chip.nvs[space] = {name: bytes.fromhex(value) for name, value in values.items()}


class NVS(esp_doubles.NVS):
    """NVS that is in a file once it is committed."""

    def commit(self):
        super().commit()
        nvs = {space: {name: values[name].hex() for name in values} for space, values in _chip.nvs.items()}
        _write("chip.new", json.dumps({"aps": _chip.aps, "cause": _chip.cause, "nvs": nvs}))
        os.rename(_state + "/chip.new", _state + "/chip.json")


class WDT:
    """The watchdog; the host bites."""

    def __init__(self, id=0, timeout=5000):
        self.timeout = str(timeout)
        self.feed()

    def feed(self):
        _write("watchdog", self.timeout)


class RTC(esp_doubles.RTC):
    def memory(self, data=None):
        if data is not None:
            with open(_state + "/rtc", "wb") as file:
                file.write(data)
            return None
        try:
            with open(_state + "/rtc", "rb") as file:
                return file.read()
        except OSError:
            return b""


_turns = {}  # of each hardware timer: a new one for each init and deinit


class Timer:
    """A thread in the place of the hardware."""

    PERIODIC = 1
    ONE_SHOT = 0

    def __init__(self, id):
        self.id = id
        _turns.setdefault(id, 0)

    def init(self, mode, period, callback):
        _turns[self.id] += 1
        _thread.start_new_thread(self._run, (_turns[self.id], period, callback))

    def _run(self, turn, period, callback):
        while True:
            time.sleep_ms(period)
            if _turns[self.id] != turn:
                return
            callback(self)

    def deinit(self):
        _turns[self.id] += 1


class Micropython:
    """The module micropython, where the terminal decides whether Ctrl-C is a byte."""

    @staticmethod
    def kbd_intr(char):
        attributes = termios.tcgetattr(0)
        attributes[3] = attributes[3] | 1 if char >= 0 else attributes[3] & ~1  # ISIG
        termios.tcsetattr(0, termios.TCSANOW, attributes)


def _run(name):
    try:
        with open(name) as file:
            text = file.read()
    except OSError:
        return
    try:
        exec(compile(text, name, "exec"), {"__name__": "__main__"})
    except Exception as error:
        sys.print_exception(error)
    except KeyboardInterrupt as error:
        sys.print_exception(error)
    except SystemExit:
        _restart("soft")


_load()
esp_doubles.NVS = NVS
esp_doubles.WDT = WDT
esp_doubles.RTC = RTC
esp_doubles.Timer = Timer
esp_doubles.reset = lambda: _restart("reset")
esp_doubles.deepsleep = lambda ms=0: _restart("deepsleep")
for _name in dir(micropython):
    if _name not in ("kbd_intr", "__class__", "__dict__"):
        setattr(Micropython, _name, getattr(micropython, _name))
sys.modules["micropython"] = Micropython
_run("boot.py")
if os.getenv("SIM_MAIN"):
    _run("main.py")
_write("repl", "")
