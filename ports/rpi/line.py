"""A serial port by pyserial, as a stream: any speed the driver has, RS-485 where it can switch direction."""

import errno

import serial


class Line:
    """ValueError for settings there are not, OSError when there is no such port."""

    poller = None  # as of every stream of the unix port

    def __init__(self, path, baudrate, parity, stopbits):
        if parity not in ("N", "E", "O") or stopbits not in (1, 2):
            raise ValueError(f"parity {parity}, {stopbits} stop bits")
        try:
            self._serial = serial.Serial(
                path, baudrate, parity=parity, stopbits=stopbits, timeout=0, write_timeout=0, exclusive=True
            )
        except serial.SerialException as error:
            raise OSError(error.errno or errno.EIO, str(error)) from error
        self.fd = self._serial.fileno()

    def readinto(self, buf, n=-1):
        if not self._serial.in_waiting:
            return None
        return self._serial.readinto(memoryview(buf)[:n] if n >= 0 else buf)

    def write(self, buf, off, n):
        try:
            return self._serial.write(bytes(memoryview(buf)[off : off + n])) or None
        except serial.SerialTimeoutException:
            return None

    def close(self):
        if self.poller is not None:
            self.poller.unregister(self)
        self._serial.close()

    def waits_for(self, event):
        """What the descriptor must be ready for to get on with `event`."""
        return event

    def pending(self):
        """Whether there are bytes to read that the descriptor does not show."""
        return False
