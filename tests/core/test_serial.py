"""Instruments with lines of text: requests, answers, checksums, and all that may come instead."""

from bus_world import Port, World, made, prop

from motelet.mappers import serialload, serialrare
from tests_util import MemoryStream, allocates_nothing, raises

CONFIG = {"serialPort": "uart1", "timeout": 50}


class Instrument:
    """Answers lines of `replies`; what it was sent is in `heard`."""

    def __init__(self, replies, end=b"\r\n"):
        self.near, self.far = MemoryStream.pair(256)
        self.replies = replies
        self.heard = []
        self.end = end
        self._line = b""

    def work(self):
        buf = bytearray(64)
        count = self.far.readinto(buf)
        while count:
            self._line += bytes(buf[:count])
            count = self.far.readinto(buf)
        while self.end in self._line:
            line, self._line = self._line.split(self.end, 1)
            if len(self.heard) < 40:  # of a long test the first tell enough
                self.heard.append(line)
            reply = self.replies.get(line)
            if reply:
                self.say(reply)

    def say(self, data):
        self.far.write(data, 0, len(data))


def world(instrument, *properties, **config):
    fields = dict(CONFIG)
    fields.update(config)
    return World(serialload, Port(line=instrument.near), "serial", fields, *properties)


def run(board, instrument, ms):
    """Let `ms` pass, the instrument answering within five."""
    for _ in range(ms // 5):
        board.run(5)
        instrument.work()
        board.driver.task.wake()


def test_values_of_every_type():
    instrument = Instrument(
        {
            b"T?": b"T=21.50 C\r\n",
            b"N?": b"count 42\r\n",
            b"B?": b"ON\r\n",
            b"S?": b"name \xc3\xa9t\xc3\xa9\r\n",
        }
    )
    board = world(
        instrument,
        prop("t", "FLOAT", request="T?", response="T=([0-9.]+) C"),
        prop("f", "DOUBLE", request="T?", response="T=([0-9.]+) C", scale=1.8, offset=32),
        prop("n", "INT", request="N?", response="count ([0-9]+)"),
        prop("b", "BOOLEAN", request="B?", response="(.*)"),
        prop("s", "STRING", request="S?", response="name (.*)"),
        prop("y", "BYTES", request="S?", response="(.*)"),
    )
    run(board, instrument, 150)
    values = board.twin.values
    assert (
        values["t"] == 21.5 and abs(values["f"] - 70.7) < 1e-4 and values["n"] == 42 and values["b"] is True
    )
    assert values["s"] == "\xe9t\xe9" and values["y"] == b"name \xc3\xa9t\xc3\xa9"


def test_a_desired_value_is_sent_once_and_read_back():
    replies = {b"T?": b"T=20\r\n", b"T 21.5": b"OK\r\n"}
    instrument = Instrument(replies)
    setpoint = {"request": "T?", "response": "T=([0-9.]+)", "write": "T {value}", "writeResponse": "OK"}
    board = world(instrument, prop("t", "FLOAT", desired="21.5", **setpoint))
    run(board, instrument, 20)
    replies[b"T?"] = b"T=21.5\r\n"
    run(board, instrument, 300)
    assert board.twin.done == ["t"] and board.twin.values["t"] == 21.5
    assert [line for line in instrument.heard if line.startswith(b"T ")] == [b"T 21.5"]


def test_a_write_that_is_refused_and_one_that_nothing_answers():
    instrument = Instrument({b"T?": b"T=20\r\n", b"T 21": b"ERR 3\r\n"})
    read = {"request": "T?", "response": "T=([0-9.]+)", "write": "T {value}"}
    board = world(instrument, prop("t", "INT", desired="21", writeResponse="OK", **read))
    run(board, instrument, 300)
    assert "desired 21: the answer is ERR 3" in board.device.reason and board.device.state == "online"
    silent = Instrument({b"T?": b"T=20\r\n"})
    board = world(silent, prop("t", "INT", desired="21", **read))
    run(board, silent, 300)
    assert b"T 21" in silent.heard and "does not read back" in board.device.reason


def test_what_cannot_be_written_is_said():
    instrument = Instrument({b"T?": b"T=x\r\n"})
    read = {"request": "T?", "response": "T=(.*)"}
    for desired, fields, text in (
        ("y", read, "there is no write to set it with"),
        ("a\nb", dict(read, write="T {value}"), "control character"),
    ):
        board = world(instrument, prop("t", "STRING", desired=desired, **fields))
        run(board, instrument, 100)
        assert text in board.device.reason


def test_checksums():
    for checksum, request, answer in (
        ("xor", b"T?6B", b"T=5C"),
        ("sum", b"T?93", b"T=9E"),
        ("crc16", None, None),
    ):
        request = request or serialrare.line("T?", b"", checksum)
        answer = serialrare.line("T=5", b"\n", checksum)
        instrument = Instrument({request: answer}, b"\n")
        fields = {"request": "T?", "response": "T=([0-9])"}
        board = world(instrument, prop("t", "INT", **fields), checksum=checksum, terminator="\n")
        run(board, instrument, 50)
        assert board.twin.values == {"t": 5}, checksum
        bad = answer.replace(b"5", b"6", 1)
        instrument.replies[request] = bad
        run(board, instrument, 9000)
        assert board.device.state == "offline" and board.device.reason == "wrong checksum"
        assert board.twin.values == {"t": 5}
        instrument.replies[request] = answer.lower().replace(b"t", b"T", 1)
        run(board, instrument, 9000)
        assert board.device.state == "online"


def test_the_crc_is_that_of_modbus():
    # "123456789" has the CRC-16/MODBUS 4B37.
    assert serialrare.line("123456789", b"", "crc16") == b"1234567894B37"


def test_an_answer_that_means_nothing_is_said_and_a_good_one_forgives():
    instrument = Instrument({b"T?": b"T=21\r\n"})
    board = world(instrument, prop("t", "INT", request="T?", response="T=([0-9]+)$"))
    run(board, instrument, 50)
    for reply in (b"\x00\x1b[31mT\r\n", b"T=21x\r\n", b"\xff\xfe\r\n", b"\r\n"):
        instrument.replies[b"T?"] = reply
        run(board, instrument, 300)
        assert board.device.state == "online" and "t: the answer is" in board.device.reason
        assert "\x1b" not in board.device.reason
        instrument.replies[b"T?"] = b"T=22\r\n"
        run(board, instrument, 300)
        assert board.device.reason == "" and board.twin.values["t"] == 22


def test_silence_too_much_and_what_comes_unasked():
    instrument = Instrument({b"T?": b"T=21\r\n"})
    board = world(instrument, prop("t", "INT", request="T?", response="T=([0-9]+)"))
    run(board, instrument, 50)
    instrument.say(b"T=99\r\nT=98\r\n" + b"!" * 100)
    run(board, instrument, 300)
    assert board.twin.values["t"] == 21
    for reply, reason in (
        (None, "no answer within 50 ms"),
        (b"x" * 200, "answer of more than 128 bytes"),
        (b"T=" + b"1" * 60 + b"\r\n", "answer of more than 32 bytes"),
        (b"T=21", "no answer within 50 ms"),
    ):
        instrument.replies[b"T?"] = reply
        run(board, instrument, 9000)
        assert board.device.state == "offline" and board.device.reason == reason
        instrument.replies[b"T?"] = b"T=21\r\n"
        run(board, instrument, 9000)
        assert board.device.state == "online" and board.device.reason == ""


def test_a_line_that_hangs_up_or_is_not_there():
    instrument = Instrument({b"T?": b"T=21\r\n"})
    board = world(instrument, prop("t", "INT", request="T?", response="T=([0-9]+)"))
    run(board, instrument, 50)
    instrument.far.close()
    board.run(9000)
    assert board.device.state == "offline"
    nowhere = World(serialload, Port(), "serial", CONFIG, prop("t", "INT", request="T?", response="(.)"))
    nowhere.run(9000)
    assert nowhere.device.state == "offline" and "no port" in nowhere.device.reason


def refused(config, **fields):
    device = made("serial", config, prop("x", "INT", **fields))

    def load():
        serialload.bus(device, [("uart1", 19200, "N", 1)])
        serialload.attach(None, device, ())

    return str(raises(ValueError, load))


def test_what_is_wrong_in_a_configuration_is_named():
    good = {"request": "T?", "response": "(.)"}
    for config, fields, text in (
        ({}, good, "default/d: serialPort is missing"),
        ({"serialPort": "a", "parity": "mark"}, good, "serialPort or parity is malformed"),
        ({"serialPort": "uart1"}, good, "serialPort uart1 is in use with other settings"),
        ({"serialPort": "a", "terminator": "12345"}, good, "terminator or checksum is malformed"),
        ({"serialPort": "a", "checksum": "md5"}, good, "terminator or checksum is malformed"),
        ({"serialPort": "a"}, {}, "default/d x: request is missing"),
        ({"serialPort": "a"}, {"request": "a" * 65, "response": "(.)"}, "request is empty or longer than 64"),
        ({"serialPort": "a"}, {"request": "a"}, "response is missing"),
        ({"serialPort": "a"}, {"request": "a", "response": "("}, "response is not a regular expression"),
        ({"serialPort": "a"}, dict(good, write="T"), "write is without {value}"),
        ({"serialPort": "a"}, dict(good, size=200), "size 200 is not in 1..120"),
    ):
        assert text in refused(config, **fields), (text, refused(config, **fields))


def test_a_poll_without_a_change_allocates_nothing():
    instrument = Instrument({})
    board = world(instrument, prop("t", "INT", request="T?", response="T=([0-9]+)"), checksum="xor")
    far = instrument.far
    sink = bytearray(64)
    answer = serialrare.line("T=5", b"\r\n", "xor")

    def poll(rounds):
        # With one more variable from outside, the call itself would allocate.
        driver = board.driver
        for _ in range(rounds):
            driver.begin(board.device.properties[0], None)
            driver.step()
            far.readinto(sink)
            far.write(answer, 0, len(answer))
            driver.step()

    board.driver.task = board.mapper.task
    poll(1)
    assert allocates_nothing(poll, 50)
