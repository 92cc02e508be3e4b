"""A UART as a stream, with the direction pin of an RS-485 driver where there is one."""

import io

from micropython import const

from motelet.loop import READ, WRITE

_POLL = const(3)  # MP_STREAM_POLL, the request by which poll asks a stream what it is ready for
_CLOSE = const(4)  # MP_STREAM_CLOSE
_EINVAL = const(22)


class Uart(io.IOBase):
    """`uart` is machine.UART; `direction`, if not None, a pin that is high while bytes go out.

    With one, a write returns when its last bit is on the line, since an answer may begin two milliseconds
    later: it blocks for as long as its bytes take, 8 ms for a Modbus request at 9,600 baud.
    """

    def __init__(self, uart, direction):
        self._uart = uart
        self._direction = direction

    def ioctl(self, request, argument):
        if request == _POLL:
            return argument & (READ | WRITE) if self._uart.any() else argument & WRITE
        return 0 if request == _CLOSE else -_EINVAL

    def readinto(self, buf, n=-1):
        if not self._uart.any():
            return None
        return self._uart.readinto(buf, n) if n >= 0 else self._uart.readinto(buf)

    def write(self, buf, off, n):
        if self._direction is None:
            return self._uart.write(buf, off, n)
        self._direction.value(1)
        try:
            count = self._uart.write(buf, off, n)
            self._uart.flush()
        finally:
            self._direction.value(0)
        return count

    def close(self):
        self._uart.deinit()
