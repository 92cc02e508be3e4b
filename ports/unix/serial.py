"""Sets a terminal up as a raw serial line: speed, parity, stop bits, no waiting.

MicroPython's `termios` names few of its constants. Those missing have the value of Linux's
<asm-generic/termbits.h>, which x86, Arm and RISC-V share.
"""

import termios

from micropython import const

PARITIES = "NEO"

_NO_TERMINAL = const(25)  # ENOTTY
_IFLAG = const(0)  # places in what tcgetattr returns
_OFLAG = const(1)
_CFLAG = const(2)
_LFLAG = const(3)
_ISPEED = const(4)
_OSPEED = const(5)
_CC = const(6)

LINUX = {
    "B1200": 9,
    "B2400": 11,
    "B4800": 12,
    "B19200": 14,
    "B38400": 15,
    "CS8": 0o60,
    "CSTOPB": 0o100,
    "CREAD": 0o200,
    "PARENB": 0o400,
    "PARODD": 0o1000,
    "CLOCAL": 0o4000,
    "INPCK": 0o20,
    "VTIME": 5,
    "VMIN": 6,
}


def setup(stream, baudrate, parity, stopbits):
    """Set the terminal `stream.fd` to raw with 8 data bits, and return the stream.

    `stream.vmin` is what termios calls MIN: 0 makes a read that finds nothing return, 1 leaves that to
    O_NONBLOCK.

    ValueError for a speed, parity or number of stop bits there is not, OSError when it is no terminal;
    the stream is closed then.
    """
    try:
        attributes = termios.tcgetattr(stream.fd)
        fill(attributes, baudrate, parity, stopbits)
        attributes[_CC][_value("VMIN")] = stream.vmin
        termios.tcsetattr(stream.fd, termios.TCSANOW, attributes)
    except Exception as exc:
        stream.close()
        if isinstance(exc, (OSError, ValueError)):
            raise
        raise OSError(_NO_TERMINAL, str(exc))  # CPython's termios.error is not an OSError
    return stream


def fill(attributes, baudrate, parity, stopbits):
    """Change what `termios.tcgetattr` returned to those settings; ValueError as for `setup`."""
    if parity not in PARITIES or len(parity) != 1:
        raise ValueError("parity %r is none of %s" % (parity, PARITIES))
    if stopbits not in (1, 2):
        raise ValueError("%r stop bits, not 1 or 2" % (stopbits,))
    flags = _value("CS8") | _value("CREAD") | _value("CLOCAL")
    if parity != "N":
        flags |= _value("PARENB") | (_value("PARODD") if parity == "O" else 0)
    if stopbits == 2:
        flags |= _value("CSTOPB")
    attributes[_IFLAG] = 0 if parity == "N" else _value("INPCK")
    attributes[_OFLAG] = attributes[_LFLAG] = 0
    attributes[_CFLAG] = flags
    attributes[_ISPEED] = attributes[_OSPEED] = _speed(baudrate)
    attributes[_CC][_value("VTIME")] = 0


def _speed(baudrate):
    try:
        return _value("B%d" % baudrate)
    except KeyError:
        raise ValueError("no speed of %d baud" % baudrate)


def _value(name):
    value = getattr(termios, name, None)
    return LINUX[name] if value is None else value
