"""A user's own driver: a counter that goes up at each read."""

from motelet.mappers import CHANGED, SAME


def bus(device, keys):
    return ("counter",)


def driver(key):
    return Driver


def attach(driver, device, devices):
    device.raw = bytearray(1)


class Driver:
    def __init__(self, port, loop, key):
        self.task = self._prop = None

    def begin(self, prop, data):
        self._prop = prop

    def step(self):
        if self._prop is None:
            return None
        raw = self._prop.device.raw
        raw[0] = min(raw[0] + 1, 200)
        self._prop = None
        return CHANGED if raw[0] < 200 else SAME

    def wait(self):
        return 0

    def value(self, prop):
        return prop.device.raw[0]

    def close(self):
        self._prop = None
