"""Modbus, one request at a time: framing, late and foreign answers, noise, silence, broken streams."""

from motelet.cbor import Writer
from motelet.devload import load
from motelet.loop import Loop
from motelet.mappers import CHANGED, DOWN, REFUSED, SAME, SILENT, modbusload
from motelet.mappers.modbusrtu import crc16
from tests_util import Clock, MemoryPoller, MemoryStream, heap_locked


def unready(_buf, _off, _n):
    """How a connection that is being made takes what is written."""


class Port:
    """Hands out in-memory streams; `far` is the other end of the last one."""

    def __init__(self, clock):
        self.clock = clock
        self.takes_ms = 0  # to find the address of a name
        self.opened = 0
        self.error = None
        self.far = None
        self.settings = None

    def _open(self, *settings):
        self.settings = settings
        if self.error:
            raise self.error
        self.opened += 1
        self.clock.advance(self.takes_ms)
        near, self.far = MemoryStream.pair(512)
        if self.takes_ms:
            near.write = unready
        return near

    def tcp(self, host, port):
        return self._open(host, port)

    def serial(self, path, baud_rate, parity, stop_bits):
        return self._open(path, baud_rate, parity, stop_bits)


def fail(_task, error):
    raise error


class Bench:
    """A driver on a virtual clock; `far` is what a device would see and say."""

    def __init__(self, config, *visitors, kind="INT"):
        self.clock = Clock((1 << 30) - 500)  # so that ticks wrap on the way
        self.loop = Loop(self.clock, MemoryPoller(self.clock), fail)
        self.port = Port(self.clock)
        writer = Writer(bytearray(1024))
        properties = []
        for visitor in visitors:
            name = "p%d" % len(properties)
            properties.append({"name": name, "type": kind, "visitors": {"configData": visitor}})
            properties[-1]["accessMode"] = "ReadWrite"
        writer.value({"protocol": {"protocolName": "modbus", "configData": config}, "properties": properties})
        plc = load("default/device/plc", bytes(writer.buf[: writer.n]))
        key = modbusload.bus(plc, ())
        self.driver = modbusload.driver(key)(self.port, self.loop, key)
        modbusload.attach(self.driver, plc, ())
        self.driver.task = self.loop.spawn("test", self.run)
        self.plc = plc
        self.props = plc.properties

    def run(self, _task):
        while True:
            yield

    def reason(self):
        return self.driver.seldom().reason(self.driver)

    def heard(self):
        """What the device has received since."""
        buf = bytearray(300)
        return bytes(buf[: self.port.far.readinto(buf) or 0])

    def say(self, data):
        assert self.port.far.write(data) == len(data)

    def ask(self, n=0):
        """Begin to read property n; returns the request."""
        self.driver.begin(self.props[n], None)
        assert self.driver.step() is None
        return self.heard()

    def wait(self):
        """Step until there is a result; nothing more is said."""
        for _ in range(100):
            result = self.driver.step()
            if result is not None:
                return result
            self.clock.advance(self.driver.wait())
        raise AssertionError("no result")


TCP = {"ip": "10.0.0.5", "slaveID": 17}
RTU = {"serialPort": "/dev/ttyS0", "slaveID": 17}
HR = {"register": "HoldingRegister", "offset": 0x6B}


def rtu(data):
    crc = crc16(data, 0, len(data))
    return data + bytes((crc & 255, crc >> 8))


# register kind -> function that reads
FUNCTIONS = (
    ("CoilRegister", 1),
    ("DiscreteInputRegister", 2),
    ("HoldingRegister", 3),
    ("InputRegister", 4),
)


def test_each_kind_is_read_by_its_function():
    for register, function in FUNCTIONS:
        size = 2 if function > 2 else 1
        for config in (TCP, RTU):
            bench = Bench(config, {"register": register, "offset": 0x1234})
            pdu = bytes((17, function, 0x12, 0x34, 0, 1))
            answer = bytes((17, function, size)) + bytes((0, 1))[-size:]
            if config is TCP:
                assert bench.ask() == b"\x00\x01\x00\x00\x00\x06" + pdu
                bench.say(bytes((0, 1, 0, 0, 0, 3 + size)) + answer)
            else:
                assert bench.ask() == rtu(pdu)
                bench.say(rtu(answer))
            assert bench.driver.step() == CHANGED
            assert bench.driver.value(bench.props[0]) == 1


# register, limit, data as encode makes it, PDU of the request (from the unit), PDU of the answer
WRITES = (
    ("CoilRegister", 1, b"\x01", b"\x11\x05\x00\x6b\xff\x00", b"\x11\x05\x00\x6b\xff\x00"),
    ("CoilRegister", 1, b"\x00", b"\x11\x05\x00\x6b\x00\x00", b"\x11\x05\x00\x6b\x00\x00"),
    ("CoilRegister", 10, b"\xcd\x01", b"\x11\x0f\x00\x6b\x00\x0a\x02\xcd\x01", b"\x11\x0f\x00\x6b\x00\x0a"),
    ("HoldingRegister", 1, b"\x12\x34", b"\x11\x06\x00\x6b\x12\x34", b"\x11\x06\x00\x6b\x12\x34"),
    (
        "HoldingRegister",
        2,
        b"\x00\x0a\x01\x02",
        b"\x11\x10\x00\x6b\x00\x02\x04\x00\x0a\x01\x02",
        b"\x11\x10\x00\x6b\x00\x02",
    ),
)


def test_each_kind_is_written_by_its_function():
    for register, limit, data, request, answer in WRITES:
        for config in (TCP, RTU):
            bench = Bench(config, {"register": register, "offset": 0x6B, "limit": limit})
            bench.driver.begin(bench.props[0], data)
            assert bench.driver.step() is None
            if config is TCP:
                assert bench.heard() == bytes((0, 1, 0, 0, 0, len(request))) + request
                bench.say(bytes((0, 1, 0, 0, 0, len(answer))) + answer)
            else:
                assert bench.heard() == rtu(request)
                bench.say(rtu(answer))
            assert bench.driver.step() == SAME


def test_an_echo_of_something_else_is_no_answer_to_a_write():
    for config, result in ((TCP, SILENT), (RTU, SILENT)):
        bench = Bench(config, HR)
        bench.driver.begin(bench.props[0], b"\x12\x34")
        assert bench.driver.step() is None
        wrong = b"\x11\x06\x00\x6b\x12\x35"
        bench.say(b"\x00\x01\x00\x00\x00\x06" + wrong if config is TCP else rtu(wrong))
        assert bench.wait() == result


def test_the_serial_line_is_opened_as_configured():
    bench = Bench(
        {"serialPort": "/dev/ttyS0", "baudRate": 19200, "parity": "even", "stopBits": 2, "slaveID": 1}, HR
    )
    bench.ask()
    assert bench.port.settings == ("/dev/ttyS0", 19200, "E", 2)


def test_a_value_that_did_not_change_is_the_same():
    bench = Bench(TCP, HR)
    bench.ask()
    bench.say(b"\x00\x01\x00\x00\x00\x05\x11\x03\x02\x00\x07")
    assert bench.driver.step() == CHANGED
    raw = bench.plc.raw
    bench.ask()
    bench.say(b"\x00\x02\x00\x00\x00\x05\x11\x03\x02\x00\x07")
    assert bench.driver.step() == SAME
    bench.ask()
    bench.say(b"\x00\x03\x00\x00\x00\x05\x11\x03\x02\x00\x08")
    assert bench.driver.step() == CHANGED
    assert bench.plc.raw is raw and raw == b"\x00\x08"
    assert bench.port.opened == 1


def test_an_answer_in_pieces_is_put_together():
    for config in (TCP, RTU):
        bench = Bench(config, HR)
        bench.ask()
        answer = b"\x11\x03\x02\x00\x07"
        answer = b"\x00\x01\x00\x00\x00\x05" + answer if config is TCP else rtu(answer)
        for i in range(len(answer) - 1):
            bench.say(answer[i : i + 1])
            assert bench.driver.step() is None
        bench.say(answer[-1:])
        assert bench.driver.step() == CHANGED


def test_a_request_is_sent_in_pieces():
    bench = Bench(TCP, HR)
    bench.driver.begin(bench.props[0], None)
    bench.driver._open()
    bench.port.far.peer.chunk_max = 5
    assert bench.driver.step() is None
    assert bench.heard() == b"\x00\x01\x00\x00\x00"
    assert bench.loop.step(0) == 1  # woken as there is room to write
    assert bench.driver.step() is None and bench.driver.step() is None
    assert bench.heard() == b"\x06\x11\x03\x00\x6b\x00\x01"
    assert bench.loop.step(0) == 0


def test_transaction_ids_wrap():
    bench = Bench(TCP, HR)
    bench.ask()
    bench.say(b"\x00\x01\x00\x00\x00\x05\x11\x03\x02\x00\x07")
    assert bench.driver.step() == CHANGED
    bench.driver.tx[0] = bench.driver.tx[1] = 255
    assert bench.ask()[:2] == b"\x00\x00"


def test_late_and_foreign_answers_are_dropped():
    bench = Bench(TCP, HR)
    bench.ask()
    assert bench.wait() == SILENT and bench.reason() == "no answer within 1000 ms"
    assert bench.ask()[:2] == b"\x00\x02"
    late = b"\x00\x01\x00\x00\x00\x05\x11\x03\x02\x00\x07"
    other_unit = b"\x00\x02\x00\x00\x00\x05\x12\x03\x02\x00\x07"
    larger = b"\x00\x01\x00\x00\x00\x09\x11\x03\x06\x00\x07\x00\x08\x00\x09"
    ours = b"\x00\x02\x00\x00\x00\x05\x11\x03\x02\x00\x09"
    bench.say(late + other_unit + larger + ours[:4])
    assert bench.driver.step() is None
    bench.say(ours[4:])
    assert bench.driver.step() == CHANGED
    assert bench.plc.raw == b"\x00\x09"
    assert bench.port.opened == 1


def test_an_answer_that_comes_when_nothing_is_asked_is_dropped():
    for config in (TCP, RTU):
        bench = Bench(config, HR)
        bench.ask()
        assert bench.wait() == SILENT
        answer = b"\x11\x03\x02\x00\x07"
        bench.say(b"\x00\x01\x00\x00\x00\x05" + answer if config is TCP else rtu(answer))
        assert bench.driver.step() is None
        assert bench.plc.raw == b"\x00\x00"
        assert bench.loop.step(0) == 1 and bench.loop.step(0) == 0  # it was taken: nobody is woken again


# frames that cannot be: MBAP protocol, lengths that lie, another function, sizes that do not agree
LIES = (
    b"\x00\x01\x00\x01\x00\x05\x11\x03\x02\x00\x07",
    b"\x00\x01\x00\x00\xff\xff\x11\x03\x02\x00\x07",
    b"\x00\x01\x00\x00\x00\x02\x11\x03",
    b"\x00\x01\x00\x00\x00\x00\x11\x03",
    b"\x00\x01\x00\x00\x00\x05\x11\x04\x02\x00\x07",
    b"\x00\x01\x00\x00\x00\x05\x11\x03\x04\x00\x07",
    b"\x00\x01\x00\x00\x00\x07\x11\x03\x04\x00\x07\x00\x07",
    b"\x00\x01\x00\x00\x00\x04\x11\x03\x02\x00",
    b"\x00\x01\x00\x00\x00\x04\x11\x83\x02\x00",
    b"\x00\x01\x00\x00\x00\x1b\x11" + b"\x03" * 26,
)


def test_a_malformed_answer_ends_the_connection():
    for lie in LIES:
        bench = Bench(TCP, HR)
        bench.ask()
        bench.say(lie)
        assert bench.driver.step() == SILENT, lie
        assert bench.reason() == "malformed answer"
        assert bench.port.far.peer.closed
        bench.ask()
        assert bench.port.opened == 2
        bench.say(b"\x00\x02\x00\x00\x00\x05\x11\x03\x02\x00\x07")
        assert bench.driver.step() == CHANGED
        assert bench.reason() == ""


def test_noise_before_an_rtu_answer_is_passed_over():
    answer = rtu(b"\x11\x03\x02\x00\x07")
    for noise in (
        b"\x00",
        b"\xff\xff\xff",
        b"\x11",
        b"\x11\x03",
        b"\x11\x03\x02\x11\x03",
        b"\x11\x83\x00",
        answer[:-1],
    ):
        bench = Bench(RTU, HR)
        bench.ask()
        bench.say(noise + answer)
        assert bench.driver.step() == CHANGED, noise
        assert bench.plc.raw == b"\x00\x07"


def test_an_rtu_answer_that_is_not_ours_is_none():
    for wrong in (
        b"\x12\x03\x02\x00\x07",  # another unit
        b"\x11\x04\x02\x00\x07",  # another function
        b"\x11\x03\x04\x00\x07\x00\x07",  # another size
    ):
        bench = Bench(RTU, HR)
        bench.ask()
        bench.say(rtu(wrong))
        assert bench.wait() == SILENT, wrong
    bench = Bench(RTU, HR)
    bench.ask()
    bench.say(b"\x11\x03\x02\x00\x07\x00\x00")  # a bad CRC
    assert bench.wait() == SILENT
    assert bench.port.opened == 1


def test_endless_noise_neither_stops_the_loop_nor_outlives_its_request():
    bench = Bench(RTU, HR)
    bench.ask()
    for _ in range(20):
        bench.say(b"\x11\x03" * 200)
        assert bench.driver.step() is None
    bench.say(b"\x11\x03\x02")
    assert bench.wait() == SILENT
    bench.driver.begin(bench.props[0], None)
    while not bench.port.far.unread:
        assert bench.driver.step() is None
        bench.clock.advance(1)
    bench.say(rtu(b"\x11\x03\x02\x00\x07"))
    assert bench.driver.step() == CHANGED


def test_rtu_requests_keep_their_distance_and_no_more():
    # 3.5 characters of 11 bits at 9600 baud are 4.01 ms, above 19200 baud it is 1.75 ms.
    for baud_rate, gap_us in ((9600, 4010), (115200, 1750)):
        bench = Bench({"serialPort": "/dev/ttyS0", "baudRate": baud_rate, "slaveID": 17}, HR)
        bench.ask()
        bench.clock.sleep_us(777)
        bench.say(rtu(b"\x11\x03\x02\x00\x07"))
        assert bench.driver.step() == CHANGED
        heard = bench.clock.ticks_us()
        bench.driver.begin(bench.props[0], None)
        while not bench.port.far.unread:
            assert bench.driver.step() is None
            if not bench.port.far.unread:
                assert 0 < bench.driver.wait() <= gap_us // 1000
                bench.clock.advance(bench.driver.wait())
        assert bench.clock.ticks_diff(bench.clock.ticks_us(), heard) == gap_us
        assert bench.loop.step(0) == 1 and bench.loop.step(0) == 0  # it slept, the line being writable or not


def test_an_rtu_line_that_was_long_silent_is_not_waited_for():
    for minutes in (1, 10, 17, 18, 30):  # ticks of a microsecond go round in 18 minutes, their signs in nine
        bench = Bench(RTU, HR)
        bench.ask()
        bench.say(rtu(b"\x11\x03\x02\x00\x07"))
        assert bench.driver.step() == CHANGED
        bench.clock.advance(minutes * 60000)
        bench.ask()
        assert bench.driver.wait() > 900


# exception code, result, what it is called
EXCEPTIONS = (
    (1, REFUSED, "illegal function"),
    (2, REFUSED, "illegal data address"),
    (3, REFUSED, "illegal data value"),
    (4, REFUSED, "server device failure"),
    (5, SILENT, "acknowledge"),
    (6, SILENT, "server device busy"),
    (8, REFUSED, "memory parity error"),
    (10, SILENT, "gateway path unavailable"),
    (11, SILENT, "gateway target device failed to respond"),
    (0, REFUSED, "exception 0"),
    (99, REFUSED, "exception 99"),
)


def test_exceptions_are_told_by_name():
    for code, result, name in EXCEPTIONS:
        for config in (TCP, RTU):
            bench = Bench(config, HR)
            bench.ask()
            answer = bytes((0x11, 0x83, code))
            bench.say(b"\x00\x01\x00\x00\x00\x03" + answer if config is TCP else rtu(answer))
            assert bench.driver.step() == result, code
            assert bench.reason() == name
            assert not bench.port.far.peer.closed


def test_a_bus_that_cannot_be_opened_is_down():
    for config in (TCP, RTU):
        for error in (OSError(111), ValueError("no speed of 111 baud")):
            bench = Bench(config, HR)
            bench.port.error = error
            bench.driver.begin(bench.props[0], None)
            assert bench.driver.step() == DOWN
            assert "111" in bench.reason()
            assert bench.driver.step() is None  # nothing is begun any more


def test_a_connection_that_is_never_made_is_down():
    bench = Bench(TCP, HR)
    bench.driver.begin(bench.props[0], None)
    bench.driver._open()
    near = bench.port.far.peer
    near.write = lambda buf, off, n: None
    assert bench.driver.step() is None
    assert bench.wait() == DOWN and bench.reason() == "no answer within 1000 ms"
    assert near.closed
    bench.driver.begin(bench.props[0], None)
    bench.driver._open()
    bench.port.far.peer.error = OSError(113)
    assert bench.driver.step() == DOWN


def test_a_slow_name_does_not_use_up_the_timeout():
    bench = Bench(TCP, HR)
    bench.port.takes_ms = 5000
    assert bench.ask() == b""
    assert bench.driver.wait() == 1000
    assert bench.wait() == DOWN


def test_a_step_takes_a_bounded_number_of_bytes():
    class Flood:
        count = 0

        def readinto(self, buf):
            self.count += 1
            assert self.count < 1000
            return len(buf)

    bench = Bench(RTU, HR)
    bench.ask()
    bench.driver._stream = flood = Flood()
    assert bench.driver.step() is None
    assert 0 < flood.count <= 16


def test_a_connection_that_ends_under_way_is_the_devices_silence():
    for broken in (False, True):
        bench = Bench(TCP, HR)
        bench.ask()
        if broken:
            bench.port.far.peer.error = OSError(104)
        else:
            bench.port.far.close()
        assert bench.driver.step() == SILENT
        assert bench.reason() == ("[Errno 104] ECONNRESET" if broken else "connection closed") or broken
        bench.ask()
        assert bench.port.opened == 2


def test_a_connection_that_ends_between_requests_is_opened_anew():
    bench = Bench(TCP, HR)
    bench.ask()
    bench.say(b"\x00\x01\x00\x00\x00\x05\x11\x03\x02\x00\x07")
    assert bench.driver.step() == CHANGED
    bench.port.far.close()
    assert bench.loop.step(0) == 1
    assert bench.driver.step() is None
    assert bench.loop.step(0) == 0  # closed and unwatched: nobody is woken any more
    bench.ask()
    assert bench.port.opened == 2


def test_a_connection_without_answers_is_taken_for_dead():
    bench = Bench(TCP, HR)
    for opened in (1, 1, 2):
        bench.ask()
        assert bench.port.opened == opened
        assert bench.wait() == SILENT
    bench = Bench(RTU, HR)  # there is nothing better to open
    for _ in range(3):
        bench.driver.begin(bench.props[0], None)
        assert bench.wait() == SILENT
    assert bench.port.opened == 1


def test_an_answer_makes_the_connection_alive_again():
    bench = Bench(TCP, HR, {"register": "HoldingRegister", "offset": 1})
    for _ in range(3):
        bench.ask(0)
        assert bench.wait() == SILENT
        request = bench.ask(1)
        bench.say(request[:2] + b"\x00\x00\x00\x05\x11\x03\x02\x00\x07")
        assert bench.driver.step() in (CHANGED, SAME)
    assert bench.port.opened == 1


def test_the_timeout_is_the_devices():
    config = {"timeout": 250}
    config.update(TCP)
    bench = Bench(config, HR)
    before = bench.clock.now_ms
    bench.ask()
    assert bench.wait() == SILENT
    assert bench.clock.now_ms - before == 250


def test_the_largest_request_and_answer_fit():
    for config, head in ((TCP, b"\x00\x01\x00\x00\x00\xfd\x11\x03\xfa"), (RTU, b"\x11\x03\xfa")):
        bench = Bench(config, {"register": "InputRegister", "limit": 125}, kind="BYTES")
        bench.ask()
        answer = head.replace(b"\x03", b"\x04") + bytes(range(250))
        bench.say(answer if config is TCP else rtu(answer))
        assert bench.driver.step() == CHANGED
        assert bench.plc.raw == bytes(range(250))
        bench = Bench(config, {"register": "HoldingRegister", "limit": 123}, kind="BYTES")
        bench.driver.begin(bench.props[0], bytes(range(246)))
        assert bench.driver.step() is None
        assert bytes(range(246)) in bench.heard()


def test_close_forgets_what_was_begun():
    bench = Bench(TCP, HR)
    bench.ask()
    bench.driver.close()
    bench.driver.close()
    assert bench.port.far.peer.closed
    assert bench.driver.step() is None and bench.loop.step(0) == 1
    assert bench.loop.step(0) == 0


def poll(bench, answer, seen):
    """One unchanged poll, both sides of it: nothing in here may allocate."""
    driver = bench.driver
    driver.begin(bench.props[1], None)
    if driver.step() is not None:
        return False
    far = bench.port.far
    far.readinto(seen)
    if len(answer) > 13:  # TCP
        answer[0] = seen[0]
        answer[1] = seen[1]
    far.write(answer)
    same = driver.step() == SAME
    bench.clock.now_ms += 100
    return same


def test_an_unchanged_poll_allocates_nothing():
    for config in (TCP, RTU):
        bench = Bench(config, HR, {"register": "HoldingRegister", "limit": 4})
        answer = b"\x11\x03\x08\x00\x01\x02\x03\x04\x05\x06\x07"
        answer = bytearray(b"\x00\x01\x00\x00\x00\x0b" + answer if config is TCP else rtu(answer))
        bench.ask(1)
        bench.say(answer)
        assert bench.driver.step() == CHANGED
        bench.clock.advance(100)
        seen = bytearray(32)
        for _ in range(100):
            assert heap_locked(poll, bench, answer, seen)
