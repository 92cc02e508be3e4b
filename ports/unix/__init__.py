"""The port for Linux and macOS, on MicroPython and on CPython, behind the interface of ports/README.md.

MicroPython's sockets, TLS sockets and `select.poll` are streams and a poller as they are; CPython's
are wrapped. Each interpreter imports its own half only.
"""

import os
import sys
import time

from motelet import borrow
from motelet.ports import der, net

if sys.implementation.name == "micropython":
    from motelet.ports.unix import native as runtime
else:
    from motelet.ports.unix import cpython as runtime


class Port:
    """The platform a gateway runs on. ports/README.md says what each member guarantees."""

    name = "unix"
    built_ms = 0

    def __init__(self, key_path=None):
        self.key_path = key_path  # the file of `secret_key`
        self.clock = runtime.clock
        self._addresses = net.Addresses(self.clock)

    def poller(self):
        return runtime.Poller()

    def epoch_ms(self):
        return int(time.time() * 1000)  # half the garbage of time_ns

    def status(self):
        return runtime.status()

    def set_time(self, epoch_ms):
        """The bridge's clock, which a host that keeps its own time has no use for."""

    def random(self, n):
        return os.urandom(n)

    def secret_key(self):
        return borrow("ports.unix.keyfile").key(self.key_path)

    def aes(self, key, iv):
        return runtime.aes(key, iv)

    def tls(self, ca_der, cert_der=None, key_der=None):
        return runtime.tls_context(der.authorities(ca_der, cert_der), cert_der, key_der)

    def tls_unchecked(self):
        return runtime.tls_unchecked()

    def tcp(self, host, port, context=None, server_name=None):
        sock = net.connect(self._addresses.next(host, port))
        return runtime.stream(sock, context, server_name or host)

    def udp(self, host, port):
        return runtime.stream(net.connect(self._addresses.next(host, port), net.DATAGRAMS), None, host)

    def tls_server(self, ca_der, cert_der, key_der):
        return runtime.tls_server(der.authorities(ca_der, cert_der), cert_der, key_der)

    def listen(self, host, port, context=None):
        from motelet.ports.listener import Listener

        return Listener(host, port, context)

    def serial(self, path, baudrate, parity="N", stopbits=1):
        from motelet.ports.unix import serial

        return serial.setup(runtime.open_serial(path), baudrate, parity, stopbits)

    def flash(self, path, size, block_size=4096, prog_size=32):
        from motelet.ports.unix.flash import FileFlash

        return FileFlash(path, size, block_size, prog_size)

    def asyncio_host(self, loop):
        return runtime.asyncio_host(loop)

    def pods(self, settings):
        from motelet.ports.unix import pods

        return pods.how(settings)

    def overseer(self, settings):
        """None but for tests, which say "mark", a file, and perhaps "alarm_s"."""
        from motelet.ports.unix.overseer import Overseer

        return Overseer(settings) if "mark" in settings else None

    def pod_processes(self, edged, services, settings):
        from motelet.ports.processes import Processes

        return Processes(edged, services, settings)

    def log_sink(self, line):
        sys.stderr.write(line + "\n")
