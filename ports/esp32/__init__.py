"""The port for ESP32 chips, behind the interface of ports/README.md: MicroPython's own modules do the work.

What is used once a boot, a connection or a configuration is in modules of its own, which are borrowed.
"""

import os
import select
import sys
import time
from collections import deque

import machine
from micropython import const

from motelet import borrow
from motelet.ports import net

TAIL_LINES = const(16)

_EPOCH_2000 = const(946684800)  # where the chip's clock counts from, in seconds since 1970

_CBC = const(2)  # a mode of cryptolib


class Port:
    """The chip a gateway runs on. ports/README.md says what each member guarantees.

    `settings` is the board's configuration (settings.py): of it the port uses "pins". `sleep_until` (ms since
    1970, 0: not) is when the board means to be back; `tail` the last lines of the log, and while `quiet` they
    go nowhere else; `nic` the network interface that is in use, or None;
    `reset` why the chip started.
    """

    name = "esp32"
    clock = time

    def __init__(self, settings):
        self.settings = settings
        self.sleep_until = 0
        self.nic = self._reserve = None
        self.tail = deque((), TAIL_LINES)
        self.quiet = False
        self._addresses = net.Addresses(time)
        self._offset_ms = 1000 * (_EPOCH_2000 if time.gmtime(0)[0] == 2000 else 0)
        self.reset = borrow("ports.esp32.vitals").reset_cause()
        self.built_ms = borrow("ports.esp32.image").built_ms()

    def poller(self):
        return select.poll()

    def epoch_ms(self):
        return time.time_ns() // 1000000 + self._offset_ms

    def set_time(self, epoch_ms):
        t = time.gmtime((epoch_ms - self._offset_ms) // 1000)
        machine.RTC().datetime((t[0], t[1], t[2], t[6], t[3], t[4], t[5], epoch_ms % 1000 * 1000))

    def random(self, n):
        return os.urandom(n)

    def secret_key(self):
        return borrow("ports.esp32.settings").secret_key()

    def aes(self, key, iv):
        from cryptolib import aes

        return aes(key, _CBC, iv)

    def tls(self, ca_der, cert_der=None, key_der=None):
        authorities = borrow("ports.der").authorities(ca_der, cert_der)
        return borrow("ports.sockets").tls_context(authorities, cert_der, key_der)

    def tls_unchecked(self):
        return borrow("ports.sockets").tls_unchecked()

    def reserve(self):
        """Take the memory of a TLS connection now, and keep it for the first one.

        TLS wants 17 KB in one piece of what the firmware has; modules that are loaded before would have
        Python's heap grow into it.
        """
        import socket

        self._reserve = borrow("ports.sockets").stream(socket.socket(), self.tls_unchecked(), None)

    def tcp(self, host, port, context=None, server_name=None):
        sock = net.connect(self._addresses.next(host, port))
        if context is None:
            return sock
        if self._reserve is not None:
            self._reserve.close()
            self._reserve = None
        return borrow("ports.sockets").stream(sock, context, server_name or host)

    def udp(self, host, port):
        return net.connect(self._addresses.next(host, port), net.DATAGRAMS)

    def tls_server(self, ca_der, cert_der, key_der):
        authorities = borrow("ports.der").authorities(ca_der, cert_der)
        return borrow("ports.sockets").tls_server(authorities, cert_der, key_der)

    def listen(self, host, port, context=None):
        from motelet.ports.listener import Listener

        return Listener(host, port, context)

    def serial(self, path, baudrate, parity="N", stopbits=1):
        return borrow("ports.esp32.buses").serial(self.settings, path, baudrate, parity, stopbits)

    def bus(self, kind, name, **options):
        """-> MicroPython's object for the bus or pin `name` of the settings; see buses.py."""
        return borrow("ports.esp32.buses").open_bus(self.settings, kind, name, options)

    def flash(self, path, size, block_size=4096, prog_size=32):
        if path.startswith("partition:"):
            from motelet.ports.esp32.partition import PartitionFlash

            return PartitionFlash(path[10:], size, block_size, prog_size)
        from motelet.ports.esp32.folder import FolderFlash

        return FolderFlash(path, size, block_size, prog_size)

    def asyncio_host(self, loop):
        return borrow("ports.sockets").asyncio_host(loop)

    def log_sink(self, line):
        self.tail.append(line)
        if not self.quiet:
            sys.stdout.write(line + "\n")

    def pods(self, settings):
        """Applications run in this interpreter: there is no other."""
        return {"process": False, "mpy": sys.implementation._mpy}

    def overseer(self, settings):
        from motelet.ports.esp32.overseer import Overseer

        return Overseer(self.reset)

    def status(self):
        """What the chip knows of the fields of NODE (protocol.cddl)."""
        return borrow("ports.esp32.vitals").status(self)
