"""CPython's half of the unix port: streams and a poller that behave as MicroPython's do.

CPython's sockets raise where MicroPython's return None, its selectors know descriptors only, and
bytes that wait inside TLS are invisible to them.
"""

import base64
import os
import selectors
import socket
import ssl
import tempfile
import time

from motelet.loop import READ, WRITE

_PERIOD = 1 << 30  # what ticks_ms wraps at on a 32-bit board
_HALF = _PERIOD // 2

_INTEGER = 0x02  # DER tags
_OCTETS = 0x04
_SEQUENCE = 0x30


class Clock:
    """MicroPython's ticks, wrapping where a board's do."""

    def ticks_ms(self):
        return time.monotonic_ns() // 1000000 % _PERIOD

    def ticks_us(self):
        return time.monotonic_ns() // 1000 % _PERIOD

    def sleep_us(self, us):
        time.sleep(us / 1000000)

    def ticks_diff(self, a, b):
        return (a - b + _HALF) % _PERIOD - _HALF

    def ticks_add(self, t, d):
        if not -_HALF < d < _HALF:
            raise OverflowError("ticks interval overflow")
        return (t + d) % _PERIOD


clock = Clock()


def status():
    # What Linux has for programs, of which this is one; macOS does not say.
    names = os.sysconf_names
    if "SC_AVPHYS_PAGES" not in names:
        return {}
    page = os.sysconf("SC_PAGE_SIZE")
    return {"heap": os.sysconf("SC_PHYS_PAGES") * page, "heap_free": os.sysconf("SC_AVPHYS_PAGES") * page}


class Aes:
    """MicroPython's `cryptolib.aes` in CBC mode, of whole blocks."""

    def __init__(self, key, iv):
        try:
            from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
        except ImportError:
            raise ValueError("Python has no AES, the package cryptography has: pip install 'motelet[rpi]'")
        self._cipher = Cipher(algorithms.AES(key), modes.CBC(iv))

    def encrypt(self, data):
        context = self._cipher.encryptor()
        return context.update(data) + context.finalize()

    def decrypt(self, data):
        context = self._cipher.decryptor()
        return context.update(data) + context.finalize()


aes = Aes


class Stream:
    """A non-blocking socket with MicroPython's stream methods."""

    def __init__(self, sock):
        self.fd = sock.fileno()
        self.poller = None  # the one it is registered with
        self._sock = sock

    def readinto(self, buf, n=-1):
        try:
            return self._sock.recv_into(memoryview(buf)[:n] if n >= 0 else buf)
        except BlockingIOError:
            return None

    def write(self, buf, off, n):
        try:
            return self._sock.send(memoryview(buf)[off : off + n])
        except BlockingIOError:
            return None

    def close(self):
        if self.poller is not None:
            self.poller.unregister(self)
        self._sock.close()

    def waits_for(self, event):
        """What the descriptor must be ready for (READ or WRITE) to get on with `event`."""
        return event

    def pending(self):
        """Whether there are bytes to read that the descriptor does not show."""
        return False


class TlsStream(Stream):
    """TLS over a socket that may still be connecting; the handshake goes on in reads and writes.

    `server_name` None: this is the server's side.
    """

    def __init__(self, sock, context, server_name):
        super().__init__(sock)
        self._context = context
        self._server_name = server_name
        self._tls = None
        self._read_waits_for = READ
        self._write_waits_for = WRITE

    def readinto(self, buf, n=-1):
        if not self._connected():
            return None
        try:
            return self._tls.recv_into(memoryview(buf)[:n] if n >= 0 else buf)
        except ssl.SSLWantReadError:
            self._wait(READ, self._write_waits_for)
        except ssl.SSLWantWriteError:
            self._wait(WRITE, self._write_waits_for)
        return None

    def write(self, buf, off, n):
        if not self._connected():
            return None
        try:
            count = self._tls.send(memoryview(buf)[off : off + n])
        except ssl.SSLWantReadError:
            self._wait(self._read_waits_for, READ)
            return None
        except ssl.SSLWantWriteError:
            count = None
        self._wait(self._read_waits_for, WRITE)
        return count

    def waits_for(self, event):
        return self._read_waits_for if event == READ else self._write_waits_for

    def pending(self):
        return self._tls is not None and self._tls.pending() > 0

    def _wait(self, read, write):
        if (read, write) != (self._read_waits_for, self._write_waits_for):
            self._read_waits_for = read
            self._write_waits_for = write
            if self.poller is not None:
                self.poller.renew(self)

    def _connected(self):
        # An SSLSocket can be made of a connected socket only.
        if self._tls is None:
            error = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, os.strerror(error))
            try:
                self._sock.getpeername()
            except OSError:
                return False
            self._tls = self._sock = self._context.wrap_socket(
                self._sock,
                server_side=self._server_name is None,
                server_hostname=self._server_name,
                do_handshake_on_connect=False,
            )
        return True


class Serial(Stream):
    """A terminal opened without blocking."""

    vmin = 1

    def __init__(self, fd):
        self.fd = fd
        self.poller = None

    def readinto(self, buf, n=-1):
        try:
            return os.readv(self.fd, [memoryview(buf)[:n] if n >= 0 else buf])
        except BlockingIOError:
            return None

    def write(self, buf, off, n):
        try:
            return os.write(self.fd, memoryview(buf)[off : off + n])
        except BlockingIOError:
            return None

    def close(self):
        if self.poller is not None:
            self.poller.unregister(self)
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Poller:
    """`select.poll` as MicroPython has it, over streams instead of descriptors."""

    def __init__(self):
        self._selector = selectors.DefaultSelector()
        self._events = {}

    def register(self, stream, events):
        self._selector.register(stream.fd, self._mask(stream, events), stream)
        self._events[stream] = events
        stream.poller = self

    def modify(self, stream, events):
        if self._events[stream] != events:
            self._events[stream] = events
            self.renew(stream)

    def renew(self, stream):
        """A stream waits for something else now than it did."""
        self._selector.modify(stream.fd, self._mask(stream, self._events[stream]), stream)

    def unregister(self, stream):
        if self._events.pop(stream, None) is not None:
            self._selector.unregister(stream.fd)
            stream.poller = None

    def ipoll(self, timeout_ms=-1):
        ready = {s: READ for s, events in self._events.items() if events & READ and s.pending()}
        timeout = 0 if ready else None if timeout_ms < 0 else timeout_ms / 1000
        for key, mask in self._selector.select(timeout):
            stream = key.data
            for event in (READ, WRITE):
                if self._events[stream] & event and mask & self._mask(stream, event):
                    ready[stream] = ready.get(stream, 0) | event
        return iter(ready.items())

    def fileno(self):
        """The descriptor that is readable when a stream is ready, for an event loop around this one."""
        return self._selector.fileno()

    def close(self):
        self._selector.close()

    def _mask(self, stream, events):
        mask = 0
        for event in (READ, WRITE):
            if events & event:
                read = stream.waits_for(event) == READ
                mask |= selectors.EVENT_READ if read else selectors.EVENT_WRITE
        return mask


def stream(sock, context, server_name):
    return Stream(sock) if context is None else TlsStream(sock, context, server_name)


def open_serial(path):
    return Serial(os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK))


def tls_context(authorities, cert_der, key_der):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.check_hostname = True
    for ca in authorities:
        context.load_verify_locations(cadata=ca)
    if cert_der is not None:
        _load_cert_chain(context, bytes(cert_der), bytes(key_der))
    return context


def tls_server(authorities, cert_der, key_der):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    for ca in authorities:
        context.load_verify_locations(cadata=ca)
    _load_cert_chain(context, bytes(cert_der), bytes(key_der))
    return context


def tls_unchecked():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _key_pem(key_der):
    # The three formats begin alike, SEQUENCE { INTEGER version, and differ in what follows.
    head = 2 + (key_der[1] & 0x7F if key_der[1] & 0x80 else 0)
    kind = {_SEQUENCE: "PRIVATE KEY", _INTEGER: "RSA PRIVATE KEY", _OCTETS: "EC PRIVATE KEY"}.get(
        key_der[head + 3] if len(key_der) > head + 3 else None
    )
    if kind is None:
        raise ValueError("the key is none of PKCS#8, PKCS#1 and SEC 1 in DER")
    text = base64.encodebytes(key_der).decode()
    return f"-----BEGIN {kind}-----\n{text}-----END {kind}-----\n"


def _load_cert_chain(context, cert_der, key_der):
    # OpenSSL through CPython takes files only. The directory is ours alone, and gone at once.
    pem = ssl.DER_cert_to_PEM_cert(cert_der) + _key_pem(key_der)
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "key.pem")
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(fd, "w") as file:
            file.write(pem)
        context.load_cert_chain(path)


def asyncio_host(loop):
    from motelet.ports.unix.selector_host import Host

    return Host(loop)
