"""Start a gateway on a Raspberry Pi; systemd is told that it serves, and again and again that it is well.

Source: sd_notify(3): READY=1 and WATCHDOG=1 to the datagram socket in $NOTIFY_SOCKET, the latter within
$WATCHDOG_USEC. A gateway one of whose modules fails again and again is not well, and is started anew.
"""

import os
import socket
import sys

from motelet.ports.rpi import Port
from motelet.ports.unix import run

SICK_MS = 60000
"""The back-off of a task that has failed at least seven times in a row."""


class Notifier:
    """Tells systemd; nobody when `address` is None. `period_ms` None: no watchdog is set."""

    def __init__(self, address, period_ms):
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self._period_ms = period_ms

    def tell(self, text):
        """Send one state. OSError when systemd is not there."""
        if self._address:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.sendto(text, self._address)

    def start(self, gateway):
        """Say that `gateway` serves, and have a task of its loop say that it is well."""
        self.tell(b"READY=1")
        if self._period_ms:
            gateway.loop.spawn("watchdog", lambda task: self._run(task, gateway))

    def _run(self, task, gateway):
        while True:
            if healthy(gateway.loop):
                self.tell(b"WATCHDOG=1")
            task.sleep(self._period_ms // 3)
            yield


def healthy(loop):
    """Whether no module fails again and again."""
    return all(not task._held or task._backoff < SICK_MS for task in loop._tasks)


def main(argv):
    """-> exit status: 0 stopped, 2 a configuration that cannot be used."""
    watchdog_us = os.environ.get("WATCHDOG_USEC")
    notifier = Notifier(os.environ.get("NOTIFY_SOCKET"), int(watchdog_us) // 1000 if watchdog_us else None)
    return run.main(argv, Port(), notifier.start)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
