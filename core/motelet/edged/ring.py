"""The log of one container: its newest lines in a ring of bytes, and a limit to how fast it may talk."""

from micropython import const

SIZE = const(1024)  # bytes of lines that are kept
LINE_SIZE_MAX = const(256)  # bytes of a line; the rest of a longer one is left out
LINES_PER_S = const(20)
BURST = const(50)  # lines at once
_BELL_MS = const(1000)


class Ring:
    """`dropped` counts the lines that came too fast; `read` says so. `clock` as the loop's."""

    def __init__(self, clock):
        self._clock = clock
        self._buf = bytearray(SIZE)
        self._at = 0  # where the next byte goes
        self._full = False
        self._left = BURST
        self._since = clock.ticks_ms()
        self.dropped = 0

    def write(self, text):
        """Append `text`, which may be several lines, if it is not too soon."""
        now = self._clock.ticks_ms()
        passed = self._clock.ticks_diff(now, self._since)
        if passed >= _BELL_MS:
            self._left = min(BURST, self._left + passed // _BELL_MS * LINES_PER_S)
            self._since = now
        if not self._left:
            self.dropped += 1
            return
        self._left -= 1
        # A text of megabytes must not be copied to be cut.
        self._append(text[:LINE_SIZE_MAX].encode())
        self._append(b"\n")

    def _append(self, data):
        at = self._at  # kept when all is there, for whoever writes may be interrupted
        for byte in data:
            self._buf[at] = byte
            at += 1
            if at == SIZE:
                at = 0
                self._full = True
        self._at = at

    def read(self, lines):
        """-> bytes: the newest `lines` lines."""
        data = bytes(self._buf[: self._at])
        if self._full:
            data = bytes(self._buf[self._at :]) + data
            data = data[data.find(b"\n") + 1 :]  # the oldest is no whole line
        at = len(data)
        while lines and at > 0:
            at = data.rfind(b"\n", 0, at - 1) + 1
            lines -= 1
        return data[at:] + (
            b"[%d lines came too fast and were dropped]\n" % self.dropped if self.dropped else b""
        )
