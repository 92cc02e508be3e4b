"""Texas Instruments ADS1115: four inputs, or differences of them, at 16 bits over I2C.

Source: SBAS444 (section 8.6: registers). Each read is a single conversion, 128 a second; between reads the
chip is off.
"""

from micropython import const

_CONVERSION = const(0)
_CONFIG = const(1)
_CONVERT_MS = const(9)  # 7.8 and 10 % for its oscillator
_STAGES_MAX = const(50)  # a conversion that never ends is a chip that is not there
_START = const(0x8183)  # begin one conversion at 128 a second, comparator off

_INPUTS = ("0-1", "0-3", "1-3", "2-3", "0", "1", "2", "3")  # MUX
_GAINS = (6.144, 4.096, 2.048, 1.024, 0.512, 0.256)  # PGA


def channel(where, fields):
    """What a visitor wants: (what, size, signed, divide). ValueError."""
    name = str(fields.get("channel"))
    gain = fields.get("gain", 2.048)
    if name not in _INPUTS:
        raise ValueError("%s: channel %s is none of %s" % (where, name, ", ".join(_INPUTS)))
    if gain not in _GAINS:
        raise ValueError(
            "%s: gain %s is none of %s" % (where, gain, ", ".join([str(each) for each in _GAINS]))
        )
    return _START | _INPUTS.index(name) << 12 | _GAINS.index(gain) << 9, 2, True, 32768 / gain


class Chip:
    """One chip. It keeps nothing."""

    def work(self, bus, address, what, data, stage, rx):
        """A stage of a read: see `direct`. OSError, ValueError."""
        if data:
            raise ValueError("an ADS1115 cannot be written")
        if not stage:
            bus.writeto_mem(address, _CONFIG, what.to_bytes(2, "big"))
            return _CONVERT_MS
        if not bus.readfrom_mem(address, _CONFIG, 2)[0] & 0x80:
            if stage >= _STAGES_MAX:
                raise OSError(110, "the conversion does not end")  # ETIMEDOUT
            return 1
        rx[:2] = bus.readfrom_mem(address, _CONVERSION, 2)
        return 0
