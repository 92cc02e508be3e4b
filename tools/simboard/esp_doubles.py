"""Doubles of MicroPython's `machine`, `esp32` and `network` for a chip that is not here.

They behave as the documentation says, errors included: NOR flash clears bits only, NVS names have 15 bytes
and values are there after `commit`, Wi-Fi refuses what is not in the air. `CHIP` is the one chip; `reset`
makes it new. What would end the program (reset, deep sleep) raises `Restart`.
"""

import sys

IN_ERASE = 6
SECTOR = 4096
PIECE = 256  # bytes: what is blank takes no RAM, and small pieces find a place in a board's heap


class Restart(BaseException):
    """The chip restarts: args are "reset", "watchdog" or "deepsleep", and ms for the latter."""


class Chip:
    """What survives a restart (nvs, flash) and what happened."""

    def __init__(self):
        self.nvs = {}
        self.partitions = {}
        self.aps = {}  # ssid: (key, rssi)
        self.link = True  # the Ethernet cable
        self.cause = 1
        self.datetime = None
        self.largest = 53248
        self.pins = {}
        self.rtc = b""
        self.restart()

    def restart(self):
        """What RAM holds is gone."""
        self.uncommitted = {}
        self.fed = 0
        self.watchdog_ms = None
        self.wlan = None
        self.attempts = []
        self.uarts = {}
        self.timers = {}
        self.made = []  # constructors called: (name, arguments)


CHIP = Chip()


def partition(label, blocks):
    """Give the chip a data partition of erased flash."""
    CHIP.partitions[label] = (blocks * SECTOR, {})


# -- esp32 ------------------------------------------------------------------------------------


class NVS:
    def __init__(self, namespace):
        _name(namespace)
        self._stored = CHIP.nvs.setdefault(namespace, {})
        self._new = CHIP.uncommitted.setdefault(namespace, {})

    def set_blob(self, key, value):
        _name(key)
        if sum([len(each) for each in self._stored.values()]) + len(value) > 12000:
            raise OSError(-0x1105, "ESP_ERR_NVS_NOT_ENOUGH_SPACE")
        self._new[key] = bytes(value)

    def get_blob(self, key, buffer):
        _name(key)
        if not isinstance(buffer, bytearray):
            raise TypeError("object with buffer protocol required")
        value = self._new[key] if key in self._new else self._stored.get(key)
        if value is None:
            raise OSError(-0x1102, "ESP_ERR_NVS_NOT_FOUND")
        if len(value) > len(buffer):
            raise OSError(-0x110C, "ESP_ERR_NVS_INVALID_LENGTH")
        buffer[: len(value)] = value
        return len(value)

    def erase_key(self, key):
        _name(key)
        if self._new.get(key, self._stored.get(key)) is None:
            raise OSError(-0x1102, "ESP_ERR_NVS_NOT_FOUND")
        self._new[key] = None

    def commit(self):
        for key, value in self._new.items():
            if value is None:
                self._stored.pop(key, None)
            else:
                self._stored[key] = value
        self._new.clear()


def _name(name):
    if not 0 < len(name.encode()) <= 15:
        raise OSError(-0x1109, "ESP_ERR_NVS_KEY_TOO_LONG")


class Partition:
    TYPE_APP = 0
    TYPE_DATA = 1

    def __init__(self, label):
        self._label = label
        self._size, self._pieces = CHIP.partitions[label]

    @staticmethod
    def find(type=0, subtype=255, label=None):
        return [Partition(name) for name in CHIP.partitions if type == 1 and label in (None, name)]

    def info(self):
        return (1, 0x83, 0x310000, self._size, self._label, False)

    def readblocks(self, block, buf, offset=0):
        at = self._at(block, offset, len(buf))
        for i in range(len(buf)):
            piece = self._pieces.get((at + i) // PIECE)
            buf[i] = 255 if piece is None else piece[(at + i) % PIECE]

    def writeblocks(self, block, buf, offset=None):
        if offset is None:
            for each in range(len(buf) // SECTOR):
                self.ioctl(IN_ERASE, block + each)
        at = self._at(block, offset or 0, len(buf))
        for i in range(len(buf)):
            number = (at + i) // PIECE
            if number not in self._pieces:
                self._pieces[number] = bytearray(b"\xff" * PIECE)
            self._pieces[number][(at + i) % PIECE] &= buf[i]  # NOR: a program clears bits, it sets none

    def ioctl(self, op, arg=0):
        if op == IN_ERASE:
            at = self._at(arg, 0, SECTOR)
            for number in range(at // PIECE, (at + SECTOR) // PIECE):
                self._pieces.pop(number, None)
            return 0
        return {4: self._size // SECTOR, 5: SECTOR}.get(op)

    def _at(self, block, offset, size):
        at = block * SECTOR + offset
        if at < 0 or at + size > self._size:
            raise OSError(-0x102, "ESP_ERR_INVALID_ARG")
        return at


HEAP_DATA = 4


def idf_heap_info(capabilities):
    assert capabilities == HEAP_DATA
    return [(7288, 0, 0, 0), (113840, 94256, CHIP.largest, 60000)]


def mcu_temperature():
    return 41


# -- network ----------------------------------------------------------------------------------

STAT_IDLE = 1000
STAT_CONNECTING = 1001
STAT_GOT_IP = 1010
STAT_NO_AP_FOUND = 201
STAT_WRONG_PASSWORD = 202
PHY_LAN8720 = 1


class WLAN:
    IF_STA = 0

    def __init__(self, interface=0):
        CHIP.wlan = self
        self._active = False
        self._status = STAT_IDLE
        self._joined = None
        self._address = ("0.0.0.0",) * 4

    def active(self, on=None):
        if on is None:
            return self._active
        self._active = bool(on)

    def config(self, **options):
        CHIP.made.append(("WLAN.config", options))

    def connect(self, ssid, key=None):
        if not self._active:
            raise OSError("Wifi Not Started")
        if self._status == STAT_CONNECTING:
            raise OSError("Wifi Internal State Error")
        CHIP.attempts.append(ssid)
        self._joined = (ssid, key)
        self._status = STAT_CONNECTING

    def disconnect(self):
        self._joined = None
        self._status = STAT_IDLE

    def air(self):
        """The driver's own task: what becomes of an attempt or of a connection."""
        if self._joined is None:
            return
        ap = CHIP.aps.get(self._joined[0])
        if ap is None:
            self._status = STAT_NO_AP_FOUND
        elif ap[0] != self._joined[1]:
            self._status = STAT_WRONG_PASSWORD
        else:
            self._status = STAT_GOT_IP
            if self._address[0] == "0.0.0.0":
                self._address = ("10.0.0.7", "255.255.255.0", "10.0.0.1", "10.0.0.1")

    def isconnected(self):
        self.air()
        return self._status == STAT_GOT_IP

    def status(self, what=None):
        self.air()
        if what is None:
            return self._status
        if what != "rssi":
            raise ValueError("unknown status param")
        return CHIP.aps[self._joined[0]][1]

    def ifconfig(self, address=None):
        if address is None:
            return self._address
        if len(address) != 4:
            raise ValueError("requested length 4 but object has length %d" % len(address))
        self._address = address


class LAN:
    def __init__(self, id, **options):
        CHIP.made.append(("LAN", options))
        self.starts = 0
        self._active = False
        CHIP.lan = self

    def active(self, on=None):
        if on is None:
            return self._active
        self._active = on
        self.starts += on

    def isconnected(self):
        return self._active and CHIP.link

    def ifconfig(self, address=None):
        return ("10.0.0.9", "255.255.255.0", "10.0.0.1", "10.0.0.1")

    def status(self):
        return 0


# -- machine ----------------------------------------------------------------------------------

PWRON_RESET = 1
HARD_RESET = 2
WDT_RESET = 3
DEEPSLEEP_RESET = 4
SOFT_RESET = 5


def reset_cause():
    return CHIP.cause


def reset():
    raise Restart("reset")


def deepsleep(ms=0):
    raise Restart("deepsleep", ms)


def unique_id():
    return b"\x24\x0a\xc4\x01\x02\x03"


class WDT:
    def __init__(self, id=0, timeout=5000):
        if timeout < 1000:
            raise ValueError("WDT timeout too short")
        CHIP.watchdog_ms = timeout

    def feed(self):
        CHIP.fed += 1


class RTC:
    def datetime(self, value):
        assert len(value) == 8
        CHIP.datetime = value

    def memory(self, data=None):
        if data is None:
            return CHIP.rtc
        CHIP.rtc = data.encode() if isinstance(data, str) else bytes(data)


class Timer:
    """One of the chip's timers; `fire` is what the hardware does."""

    PERIODIC = 1
    ONE_SHOT = 0

    def __init__(self, id):
        self.id = id

    def init(self, mode, period, callback):
        CHIP.timers[self.id] = (period, callback)

    def deinit(self):
        CHIP.timers.pop(self.id, None)

    def fire(self):
        CHIP.timers[self.id][1](self)


class Pin:
    IN = 1
    OUT = 3
    PULL_UP = 2
    PULL_DOWN = 1

    def __init__(self, number, mode=-1, pull=-1, value=None):
        if not 0 <= number < 49:
            raise ValueError("invalid pin")
        self.number = number
        self.mode = mode
        self.pull = pull
        if value is not None:
            CHIP.pins[number] = value

    def value(self, level=None):
        if level is None:
            return CHIP.pins.get(self.number, 1)
        CHIP.pins[self.number] = level


class UART:
    def __init__(self, id, baudrate=9600, **options):
        if not 0 <= id <= 2:
            raise ValueError("UART(%d) does not exist" % id)
        CHIP.uarts[id] = self
        self.options = options
        self.received = b""
        self.sent = []  # (bytes, level of pin 4 then)
        self.closed = self.flushed = False

    def any(self):
        return len(self.received)

    def readinto(self, buf, n=None):
        n = min(len(buf) if n is None else n, len(self.received))
        if not n:
            return None
        buf[:n] = self.received[:n]
        self.received = self.received[n:]
        return n

    def write(self, buf, off=0, n=None):
        n = len(buf) if n is None else n
        self.flushed = False
        self.sent.append((bytes(buf[off : off + n]), CHIP.pins.get(4)))
        return n

    def flush(self):
        assert CHIP.pins.get(4, 1) == 1  # the direction is kept until the last bit is out
        self.flushed = True

    def deinit(self):
        self.closed = True


def _noted(name):
    def make(*arguments, **options):
        CHIP.made.append((name, arguments, options))
        return CHIP.made[-1]

    return make


I2C = _noted("I2C")
ADC = _noted("ADC")
PWM = _noted("PWM")
OneWire = _noted("OneWire")


def install():
    """Have `import machine`, `esp32`, `network` and `onewire` find this module."""
    for name in ("machine", "esp32", "network", "onewire"):
        sys.modules[name] = sys.modules["esp_doubles"]


def reset_chip():
    """A new chip, in the place of the one there was."""
    CHIP.__init__()
    return CHIP
