"""A REPL beside the running gateway, on MicroPython's console: Ctrl-C is a byte here, and stops nothing.

This is what is there all the time: it waits for a byte. `session` has the rest and is borrowed while
somebody types. The gateway stands still while a line or a program of mpremote runs; some seconds of that
cost nothing.
"""

import select
import sys

from micropython import const

from motelet import borrow
from motelet.loop import READ

_HUNG_UP = const(0x18)  # POLLERR | POLLHUP


class Repl:
    """`interrupts(on)` says whether Ctrl-C interrupts; `restart()` starts the board anew for the raw REPL."""

    def __init__(self, loop, port, interrupts, restart):
        self._port = port
        self.interrupts = interrupts
        self.restart = restart
        self._loop = loop
        self._byte = bytearray(1)
        self._poll = select.poll()
        self._poll.register(sys.stdin, READ)

    def run(self, task):
        """The task."""
        self.interrupts(False)
        self._loop.watch(sys.stdin, READ, task)
        session = None
        try:
            while True:
                byte = self.read(0)
                while byte >= 0:
                    if session is None:
                        session = borrow("ports.session").Session(self)
                    session.feed(byte)
                    byte = self.read(0)
                if byte == -2:
                    return  # nobody will ever type again
                if session is not None and session.idle():
                    session = None
                yield
        finally:
            self.interrupts(True)

    def alone(self):
        """The raw REPL without a gateway, until Ctrl-B."""
        self.interrupts(False)
        try:
            borrow("ports.session").Session(self).raw()
        finally:
            self.interrupts(True)

    def quiet(self, on):
        """Whether the log is kept from the console."""
        if self._port is not None:
            self._port.quiet = on

    def read(self, wait_ms):
        """-> the next byte, -1 when there is none, -2 when the console has hung up."""
        for _, events in self._poll.ipoll(wait_ms):
            if events & READ:
                return self._byte[0] if sys.stdin.buffer.readinto(self._byte) else -2
            if events & _HUNG_UP:
                return -2
        return -1
