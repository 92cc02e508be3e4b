"""The driver of a bus that answers within a call: I2C, pins, 1-Wire. What they have in common.

A read or a write is done in stages, with waits between them in which the loop goes on: a sensor is told to
measure in one and asked for the result in the next. A call of a board's bus takes about a millisecond. Where
one may block, on Linux, the port has a `worker` that runs it in a thread (ports/README.md).

A bus is a subclass with
    open() -> object           opens the bus; OSError
    work(prop, data, stage)    does a stage of a read (data None) or write; -> milliseconds until the next
                               stage, 0 when it was the last. What was read is in `rx`, big-endian, from its
                               start on. OSError: the device does not answer; ValueError: it refuses.

A visitor is (what, size, signed, multiply, divide, add, at): what is the driver's own, the value is
raw * multiply / divide + add, and its bytes lie in device.raw from `at` on.
"""

from micropython import const

from motelet import borrow
from motelet.mappers import CHANGED, DOWN, REFUSED, SAME, SILENT

_CALL_MS = const(5000)  # a call in a thread that takes longer is given up
_KNOWN = const(4096)  # Property.flags: it has been read


class Driver:
    """One bus; the interface is that of motelet.mappers. `key` tells which, `error` is the last text."""

    size_index = 1  # in a visitor: how many bytes the property has in device.raw,
    place_index = 6  # and from where on

    def __init__(self, port, loop, key):
        self.port = port
        self.key = key
        self.error = ""
        self.rx = bytearray(8)
        self.task = self.bus = self._prop = self._data = None
        self._clock = loop.clock
        self._stage = 0
        self._until = loop.clock.ticks_ms()
        self._worker = port.worker(loop) if hasattr(port, "worker") else None

    def seldom(self):
        """What is borrowed of it."""
        return borrow("mappers.directrare")

    def begin(self, prop, data):
        """Begin to write `data`, or to read if it is None."""
        self._prop = prop
        self._data = data
        self._stage = 0
        self._until = self._clock.ticks_ms()

    def wait(self):
        """Milliseconds until step() must be called again."""
        return max(self._clock.ticks_diff(self._until, self._clock.ticks_ms()), 0)

    def step(self):
        """Go on; the result is that of motelet.mappers."""
        prop = self._prop
        busy = self._worker is not None and self._worker.busy
        if prop is None or not busy and self._clock.ticks_diff(self._until, self._clock.ticks_ms()) > 0:
            return None
        try:
            if self._worker is None:
                left = self._work(prop, self._data, self._stage)
            else:
                left = self._worker.call(self.task, _CALL_MS, self._work, prop, self._data, self._stage)
        except OSError as error:
            self._prop = None
            self.error = str(error)
            return DOWN if self.bus is None else SILENT
        except ValueError as error:
            self._prop = None
            self.error = str(error)
            return REFUSED
        if left is None:  # the thread is at it, and wakes the task
            self._until = self._clock.ticks_add(self._clock.ticks_ms(), _CALL_MS)
            return None
        if left:
            self._stage += 1
            self._until = self._clock.ticks_add(self._clock.ticks_ms(), left)
            return None
        self._prop = None
        return SAME if self._data else self._compare(prop)

    def _work(self, prop, data, stage):
        if self.bus is None:
            self.bus = self.open()
        return self.work(prop, data, stage)

    def close(self):
        """Forget what was begun, and the bus."""
        self._prop = self.bus = None
        if self._worker is not None:
            self._worker.close()

    def _compare(self, prop):
        visitor = prop.spec.visitor
        size = visitor[self.size_index]
        at = visitor[self.place_index]
        raw = prop.device.raw
        result = SAME
        if not prop.flags & _KNOWN:
            prop.flags |= _KNOWN
            result = CHANGED
        for i in range(size):
            if raw[at + i] != self.rx[i]:
                raw[at + i] = self.rx[i]
                result = CHANGED
        return result

    def value(self, prop):
        """What was read last means: int, float, bool, str or bytes. ValueError if a STRING is not UTF-8."""
        _, size, signed, multiply, divide, add, at = prop.spec.visitor
        data = bytes(prop.device.raw[at : at + size])
        kind = prop.type
        if kind == "BYTES":
            return data
        if kind == "STRING":
            return str(data.rstrip(b"\0"), "utf-8")
        value = int.from_bytes(data, "big")
        if signed and data[0] & 128:
            value -= 1 << 8 * size
        if kind == "BOOLEAN":
            return value != 0
        value = value * multiply
        if divide != 1:
            value /= divide
        value += add
        return round(value) if kind == "INT" else float(value)
