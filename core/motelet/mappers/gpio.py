"""Pins: digital inputs and outputs, analogue inputs, pulse widths.

The objects are MicroPython's machine.Pin, ADC and PWM, or what a port has that is called the same way. A
pin that the device has not set yet is left as it is: opening an output does not drive it.
"""

from motelet.mappers import direct


class Driver(direct.Driver):
    """All the pins of this computer. The `what` of a visitor is (kind, name, options, inverted)."""

    def __init__(self, port, loop, key):
        direct.Driver.__init__(self, port, loop, key)
        self._pins = {}

    def open(self):
        """See `direct`: pins are opened one by one."""
        self._pins.clear()
        return self

    def work(self, prop, data, stage):
        """See `direct`."""
        what, size, _, _, _, _, _ = prop.spec.visitor
        kind, name, options, inverted = what
        pin = self._pins.get(name)
        if pin is None:
            self._pins[name] = pin = self.port.bus(kind, name, **options)
        if kind == "pin":
            if data:
                pin.value(data[0] ^ inverted)
            else:
                self.rx[0] = (1 if pin.value() else 0) ^ inverted
            return 0
        if data:
            if kind == "adc":
                raise ValueError("an analogue input cannot be written")
            pin.duty_u16(data[0] << 8 | data[1])
            return 0
        number = pin.read_u16() if kind == "adc" else pin.duty_u16()
        self.rx[0] = number >> 8
        self.rx[1] = number & 255
        return 0
