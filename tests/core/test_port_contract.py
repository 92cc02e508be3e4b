"""What ports/README.md promises of streams, poller and calls, on both interpreters, over real sockets."""

import errno
import os
import socket
import time
from binascii import hexlify, unhexlify

from motelet.loop import Loop
from motelet.ports import der, net
from motelet.ports.unix import Port, runtime, serial
from tests_util import IS_MICROPYTHON, READ, WRITE, Clock, allocates_nothing, raises

PORTS = [Port]
if IS_MICROPYTHON:
    # A chip is not here; its sockets, TLS and poll are those of MicroPython everywhere.
    import esp_doubles

    esp_doubles.install()
    from motelet.ports import esp32

    PORTS.append(lambda: esp32.Port({}))
else:
    from motelet.ports import rpi

    PORTS.append(rpi.Port)

ROUNDS = 1000
WAIT_MS = 10000  # for what happens at once: a bound for a test that would hang
HOST = "127.0.0.1"


class Listener:
    """A listening socket of the loopback interface and the port it was given."""

    def __init__(self, backlog=8):
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.port = self._bind()
        self.sock.listen(backlog)
        self.sock.setblocking(False)

    def _bind(self):
        # MicroPython cannot tell which port the system chose, so choose one.
        while True:
            seed = os.urandom(2)
            port = 20000 + (seed[0] << 8 | seed[1]) % 12000
            try:
                self.sock.bind(socket.getaddrinfo(HOST, port)[0][-1])
                return port
            except OSError as exc:
                if exc.errno != errno.EADDRINUSE:
                    raise

    def accept(self):
        sock, _ = self.sock.accept()
        sock.setblocking(False)
        return runtime.stream(sock, None, None)

    def close(self):
        self.sock.close()


class Echo:
    """A task that sends back what it reads from one stream."""

    def __init__(self, loop, stream):
        self.loop = loop
        self.stream = stream
        self.buf = bytearray(64)
        self.echoed = 0
        loop.watch(stream, READ, loop.spawn("echo", self.run))

    def run(self, task):
        while True:
            count = self.stream.readinto(self.buf)
            if count:
                self.echoed += self.stream.write(self.buf, 0, count)
            yield


def poll(poller, timeout_ms=WAIT_MS):
    """What is ready, as a list of pairs with the bits of READ and WRITE only."""
    return [(stream, events & (READ | WRITE)) for stream, events in poller.ipoll(timeout_ms)]


def wait(poller, stream, events):
    """Wait until `stream` alone is registered and ready for `events`."""
    poller.register(stream, events)
    ready = poll(poller)
    poller.unregister(stream)
    assert len(ready) == 1 and ready[0][0] is stream
    return ready[0][1]


def pair(port, poller):
    """Both ends of a connection: the client's made by the port, the server's accepted."""
    listener = Listener()
    client = port.tcp(HOST, listener.port)
    assert wait(poller, client, WRITE) & WRITE
    server = listener.accept()
    listener.close()
    return client, server


def on_each_port(check):
    """The test that `check(port)` holds for each port of this interpreter."""

    def test():
        for port in PORTS:
            check(port())

    return test


@on_each_port
def test_bytes_go_both_ways_and_their_end_is_seen(port):
    poller = port.poller()
    client, server = pair(port, poller)
    buf = bytearray(8)
    assert client.readinto(buf) is None and client.readinto(buf, 3) is None
    assert client.write(b"..hello..", 2, 5) == 5
    assert wait(poller, server, READ) == READ
    assert server.readinto(buf, 2) == 2 and buf == b"he\0\0\0\0\0\0"
    assert server.readinto(buf) == 3 and buf[:3] == b"llo"
    assert server.readinto(buf) is None
    assert server.write(memoryview(b"answer"), 0, 6) == 6
    server.close()
    assert wait(poller, client, READ) & READ
    assert client.readinto(buf) == 6
    assert wait(poller, client, READ) & READ
    assert client.readinto(buf) == 0 and client.readinto(buf) == 0
    client.close()


@on_each_port
def test_a_closed_stream_refuses_and_closes_again(port):
    client, server = pair(port, port.poller())
    client.close()
    client.close()
    raises(OSError, client.readinto, bytearray(1))
    raises(OSError, client.write, b"x", 0, 1)
    server.close()


@on_each_port
def test_a_full_connection_takes_no_more_until_there_is_room(port):
    poller = port.poller()
    client, server = pair(port, poller)
    block = bytearray(16384)
    sent = 0
    while True:
        count = client.write(block, 0, len(block))
        if count is None:
            break
        assert 0 < count <= len(block)
        sent += count
    poller.register(client, WRITE)
    assert poll(poller, 0) == []
    while sent:
        count = server.readinto(block)
        sent -= count or 0
    assert poll(poller) == [(client, WRITE)]
    poller.unregister(client)
    client.close()
    server.close()


@on_each_port
def test_a_refused_connection_is_ready_and_its_write_raises(port):
    poller = port.poller()
    listener = Listener()
    listener.close()
    client = port.tcp(HOST, listener.port)
    wait(poller, client, WRITE)
    assert raises(OSError, client.write, b"x", 0, 1).errno == errno.ECONNREFUSED
    client.close()


@on_each_port
def test_a_connection_being_made_is_neither_ready_nor_an_error(port):
    poller = port.poller()
    listener = Listener(backlog=0)
    # The first fill the queue of connections nobody accepts; the last is left waiting for an answer.
    clients = [port.tcp(HOST, listener.port) for _ in range(4)]
    poller.register(clients[-1], READ | WRITE)
    assert poll(poller, 0) == []
    assert clients[-1].write(b"x", 0, 1) is None
    assert clients[-1].readinto(bytearray(1)) is None
    poller.unregister(clients[-1])
    for client in clients:
        client.close()
    listener.close()


@on_each_port
def test_the_poller_reports_what_was_asked_for(port):
    poller = port.poller()
    client, server = pair(port, poller)
    poller.register(client, READ)
    assert poll(poller, 0) == []
    poller.modify(client, READ | WRITE)
    assert poll(poller, 0) == [(client, WRITE)]
    server.write(b"x", 0, 1)
    poller.modify(client, READ)
    assert poll(poller) == [(client, READ)] and poll(poller, 0) == [(client, READ)]
    poller.register(server, WRITE)
    ready = poll(poller, 0)
    assert len(ready) == 2 and (client, READ) in ready and (server, WRITE) in ready
    poller.modify(client, READ | WRITE)
    assert (client, READ | WRITE) in poll(poller, 0)
    poller.unregister(client)
    assert poll(poller, 0) == [(server, WRITE)]
    poller.unregister(server)
    assert poll(poller, 0) == []
    client.close()
    server.close()


@on_each_port
def test_streams_are_told_apart_in_a_table(port):
    client, server = pair(port, port.poller())
    table = {client: 1, server: 2}
    assert table[client] == 1 and table[server] == 2 and len(table) == 2
    client.close()
    server.close()


@on_each_port
def test_an_echo_over_sockets_allocates_nothing(port):
    loop = Loop(port.clock, port.poller(), None)
    client, server = pair(port, port.poller())
    echo = Echo(loop, server)
    back = bytearray(64)

    def exchange(rounds):
        for _ in range(rounds):
            client.write(b"message", 0, 7)
            loop.step(WAIT_MS)
            assert client.readinto(back) == 7

    exchange(1)
    assert allocates_nothing(exchange, ROUNDS)
    assert echo.echoed == 7 * (2 * ROUNDS + 1 if IS_MICROPYTHON else ROUNDS + 1)
    loop.unwatch(server)
    client.close()
    server.close()


@on_each_port
def test_an_idle_loop_with_real_streams_allocates_nothing(port):
    loop = Loop(port.clock, port.poller(), None)
    client, server = pair(port, port.poller())
    Echo(loop, server)
    loop.step(0)

    def idle(rounds):
        for _ in range(rounds):
            assert loop.step(0) == 0

    assert allocates_nothing(idle, ROUNDS)
    loop.unwatch(server)
    client.close()
    server.close()


@on_each_port
def test_changing_what_a_stream_waits_for_allocates_nothing(port):
    loop = Loop(port.clock, port.poller(), None)
    client, server = pair(port, port.poller())
    task = Echo(loop, server)
    task = loop.spawn("other", lambda task: iter(()))

    def toggle(rounds):
        for _ in range(rounds):
            loop.watch(server, READ | WRITE, task)
            loop.watch(server, READ, task)

    assert allocates_nothing(toggle, ROUNDS)
    loop.unwatch(server)
    client.close()
    server.close()


@on_each_port
def test_the_clock_is_micropythons(port):
    clock = port.clock
    start = clock.ticks_ms()
    assert 0 <= clock.ticks_diff(clock.ticks_ms(), start) < WAIT_MS
    later = clock.ticks_add(start, 5000)
    assert clock.ticks_diff(later, start) == 5000 and clock.ticks_diff(start, later) == -5000
    assert clock.ticks_add(later, -5000) == start
    end = clock.ticks_add(0, -1)  # the last tick before the wrap
    assert end > 0 and clock.ticks_add(end, 1) == 0
    assert clock.ticks_diff(0, end) == 1 and clock.ticks_diff(end, 0) == -1
    half = (end + 1) // 2
    before = clock.ticks_us()
    clock.sleep_us(300)
    assert 300 <= clock.ticks_diff(clock.ticks_us(), before) < WAIT_MS * 1000
    raises(OverflowError, clock.ticks_add, 0, half)
    raises(OverflowError, clock.ticks_add, 0, -half)
    assert clock.ticks_add(0, half - 1) == half - 1


@on_each_port
def test_the_loop_waits_by_the_real_clock(port):
    loop = Loop(port.clock, port.poller(), None)
    start = port.clock.ticks_ms()
    turns = []

    def sleeper(task):
        task.sleep(20)
        yield
        turns.append(port.clock.ticks_diff(port.clock.ticks_ms(), start))

    loop.spawn("sleeper", sleeper)
    loop.step(0)
    while not turns:
        loop.step(-1)
    assert turns[0] >= 20  # never too early; how late is the machine's affair


@on_each_port
def test_epoch_and_randomness(port):
    assert abs(port.epoch_ms() - time.time() * 1000) < WAIT_MS
    assert port.epoch_ms() > 1700000000000
    assert len(port.random(16)) == 16 and port.random(16) != port.random(16)
    assert port.name in ("unix", "rpi", "esp32")


@on_each_port
def test_datagrams_go_both_ways(port):
    poller = port.poller()
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    address = None
    while address is None:
        number = 20000 + int.from_bytes(os.urandom(2), "big") % 12000
        try:
            server.bind(socket.getaddrinfo(HOST, number)[0][-1])
            address = (HOST, number)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise
    client = port.udp(*address)
    buf = bytearray(8)
    assert client.readinto(buf) is None
    assert client.write(b"..hello", 2, 5) == 5
    assert client.write(b"x", 0, 1) == 1
    data, sender = server.recvfrom(8)
    assert data == b"hello" and server.recvfrom(8)[0] == b"x"
    server.sendto(b"answer", sender)
    server.sendto(b"more", sender)
    assert wait(poller, client, READ) & READ
    assert client.readinto(buf, 6) == 6 and buf[:6] == b"answer"
    assert wait(poller, client, READ) & READ
    assert client.readinto(buf, 4) == 4 and buf[:4] == b"more"
    assert client.readinto(buf) is None
    client.close()
    raises(OSError, client.readinto, buf)
    server.close()


@on_each_port
def test_a_port_listens_too(port):
    number = Listener()
    number.close()
    listener = port.listen(HOST, number.port)
    assert listener.accept() is None
    client = port.tcp(HOST, number.port)
    assert wait(port.poller(), listener.stream, READ) & READ
    server = listener.accept()
    server.write(b"x", 0, 1)
    assert wait(port.poller(), client, READ) & READ
    assert client.readinto(bytearray(1)) == 1
    for each in (client, server, listener):
        each.close()


class Resolver:
    """Stands in for getaddrinfo, of which only a network could show the failures."""

    def __init__(self, *addresses):
        self.addresses = addresses
        self.asked = 0

    def __call__(self, host, port, family, kind):
        self.asked += 1
        if not self.addresses:
            raise OSError(-2)
        return [(socket.AF_INET, kind, 6, "", address) for address in self.addresses]


def test_addresses_are_kept_for_their_time_and_used_in_turn():
    clock = Clock()
    resolver = Resolver("a", "b")
    addresses = net.Addresses(clock, resolver)
    assert [addresses.next("host", 1)[1] for _ in range(5)] == ["a", "b", "a", "b", "a"]
    assert addresses.next("host", 1)[0] == socket.AF_INET and resolver.asked == 1
    addresses.next("host", 2)
    assert resolver.asked == 2
    clock.advance(net.ADDRESS_LIFE_MS - 1)
    addresses.next("host", 1)
    assert resolver.asked == 2
    clock.advance(1)
    resolver.addresses = ("c",)
    assert addresses.next("host", 1)[1] == "c" and resolver.asked == 3


def test_old_addresses_are_better_than_none():
    clock = Clock()
    resolver = Resolver()
    addresses = net.Addresses(clock, resolver)
    raises(OSError, addresses.next, "host", 1)
    resolver.addresses = ("a",)
    assert addresses.next("host", 1)[1] == "a" and resolver.asked == 2
    resolver.addresses = ()
    clock.advance(net.ADDRESS_LIFE_MS)
    assert addresses.next("host", 1)[1] == "a" and resolver.asked == 3
    assert (
        addresses.next("host", 1)[1] == "a" and resolver.asked == 3
    )  # the resolver is left alone for a while
    clock.advance(net.ADDRESS_LIFE_MS)
    assert addresses.next("host", 1)[1] == "a" and resolver.asked == 4


def test_there_is_a_limit_of_addresses():
    resolver = Resolver("a")
    addresses = net.Addresses(Clock(), resolver)
    for port in range(net.ADDRESSES_MAX):
        addresses.next("host", port)
    addresses.next("host", 0)
    assert resolver.asked == net.ADDRESSES_MAX == 8
    addresses.next("host", net.ADDRESSES_MAX)  # one too many: the cache starts anew
    addresses.next("host", 0)
    assert resolver.asked == net.ADDRESSES_MAX + 2


def test_a_connection_that_fails_at_once_is_closed():
    raises(OSError, net.connect, (socket.AF_INET, socket.getaddrinfo("255.255.255.255", 9)[0][-1]))


def test_concatenated_certificates_are_cut_apart():
    short = b"\x30\x03abc"
    long = b"\x30\x81\x80" + bytes(128)
    longer = b"\x30\x82\x01\x00" + bytes(256)
    assert der.split(b"") == []
    assert der.split(bytearray(short)) == [short]
    assert der.split(longer + short + long) == [longer, short, long]
    for broken in (b"x", b"\x30", short + b"x", short + b"\x30\x04abc", long[:-1], b"\x30\x82\x01"):
        raises(ValueError, der.split, broken)


@on_each_port
def test_aes_is_aes(port):
    # NIST SP 800-38A, F.2.5 and F.2.6: CBC-AES256, the first two blocks.
    key = unhexlify("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    iv = bytes(range(16))
    plain = unhexlify("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51")
    sealed = unhexlify("f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d")
    assert port.aes(key, iv).encrypt(plain) == sealed
    assert port.aes(key, iv).decrypt(sealed) == plain


@on_each_port
def test_the_key_of_secrets_is_made_once(port):
    if port.name != "esp32":
        raises(ValueError, port.secret_key)
        return
    key = port.secret_key()
    assert len(key) == 32 and key != bytes(32) and port.secret_key() == key
    esp32.borrow("ports.esp32.settings").erase()
    assert port.secret_key() != key


def test_the_key_of_secrets_is_a_file_for_its_user_only():
    path = "/tmp/motelet-%s.key" % hexlify(os.urandom(8)).decode()
    try:
        key = Port(path).secret_key()
        assert len(key) == 32 and Port(path).secret_key() == key
        assert os.stat(path)[0] & 0o777 == 0o600 and os.stat(path)[6] == 32
        os.system("chmod 640 " + path)
        assert "chmod 600" in str(raises(OSError, Port(path).secret_key))
        os.system("chmod 600 %s; : > %s" % (path, path))
        assert "no key" in str(raises(ValueError, Port(path).secret_key))
        os.remove(path)
        with open(path + ".new", "wb") as file:  # what a power cut left
            file.write(b"half a key")
        assert len(Port(path).secret_key()) == 32 and Port(path).secret_key() != key
    finally:
        os.remove(path)
    assert raises(OSError, Port("/nonexistent/file.key").secret_key)


@on_each_port
def test_what_is_no_certificate_makes_no_context(port):
    raises((ValueError, OSError), port.tls, b"no certificate")
    raises((ValueError, OSError), port.tls, b"\x30\x03abc")


def test_serial_lines_with_settings_there_are_not():
    port = Port()
    for settings in ((12345,), (9600, "X"), (9600, ""), (9600, "NE"), (9600, "N", 3), (9600, "N", 0)):
        raises(ValueError, port.serial, "/dev/ptmx", *settings)
    raises(OSError, port.serial, "/dev/null", 9600)
    raises(OSError, port.serial, "/nonexistent/tty", 9600)


def test_serial_settings_become_the_flags_of_the_terminal():
    eight_bits_local_reading = 0o60 | 0o4000 | 0o200
    for parity, stopbits, more in (("N", 1, 0), ("N", 2, 0o100), ("E", 1, 0o400), ("O", 1, 0o1400)):
        attributes = [0o7777, 0o7777, 0, 0o7777, 15, 15, [1] * 32]
        serial.fill(attributes, 9600, parity, stopbits)
        assert attributes[:4] == [0o20 if parity != "N" else 0, 0, eight_bits_local_reading | more, 0]
        assert attributes[4:6] == [13, 13] and attributes[6] == [1] * 5 + [0] + [1] * 26
