"""A poll whose values did not change, loop, mapper and driver together, allocates nothing."""

from motelet import attach
from motelet.cbor import Writer
from motelet.devload import load
from motelet.loop import READ, WRITE, Loop
from motelet.mappers import Mapper, modbusload
from motelet.mappers.modbusrtu import crc16
from tests_util import Clock, MemoryStream, allocates_nothing

REGISTERS = 4
ROUNDS = 1000
HR = "HoldingRegister"


class Plc:
    """Port, poller and device in one: it answers while the gateway waits, and allocates nothing either.

    Every register it is asked for holds its own address.
    """

    def __init__(self, clock):
        self.clock = clock
        self.polls = 0
        self._far = None
        self._pair = None  # the (stream, events) that ipoll gives
        self._ready = []
        self._idle = ()
        self._asked = bytearray(32)
        self._reply = bytearray(32)

    def tcp(self, _host, _port):
        near, self._far = MemoryStream.pair(64)
        self._ready = [(near, READ | WRITE)]
        return near

    def serial(self, path, baud_rate, _parity, _stop_bits):
        return self.tcp(path, baud_rate)

    def register(self, stream, events):
        pass

    def modify(self, stream, events):
        pass

    def unregister(self, stream):
        pass

    def ipoll(self, timeout_ms):
        far = self._far
        if far is None:
            return self._idle
        count = far.readinto(self._asked)
        if count:
            far.write(self._reply, 0, self._answer(count))
            self.polls += 1
        if far.peer.unread:
            return self._ready
        if timeout_ms > 0:
            self.clock.now_ms += timeout_ms
        return self._idle

    def _answer(self, count):
        asked = self._asked
        reply = self._reply
        at = 0 if count == 8 else 6  # RTU, or behind the header of TCP
        for i in range(at + 2):
            reply[i] = asked[i]
        size = 2 * asked[at + 5]
        reply[5] = size + 3
        reply[at] = asked[at]
        reply[at + 1] = asked[at + 1]
        reply[at + 2] = size
        for i in range(size):
            reply[at + 3 + i] = asked[at + 3] + i // 2 if i & 1 else 0
        end = at + 3 + size
        if at == 0:
            crc = crc16(reply, 0, end)
            reply[end] = crc & 255
            reply[end + 1] = crc >> 8
            end += 2
        return end


class Twin:
    def __init__(self):
        self.count = 0

    def reported(self, prop, value):
        prop.value = value
        self.count += 1

    def state(self, device, state, reason):
        device.state = state
        device.reason = reason


class Log:
    def info(self, *_pairs):
        pass


def fail(_task, error):
    raise error


def start(config):
    """-> what makes the gateway poll so often."""
    plc = Plc(Clock((1 << 30) - 20000))
    loop = Loop(plc.clock, plc, fail)
    writer = Writer(bytearray(1024))
    writer.value(
        {
            "protocol": {"protocolName": "modbus", "configData": config},
            "properties": [
                {
                    "name": "r%d" % i,
                    "type": "INT",
                    "collectCycle": 100 + i,
                    "visitors": {"configData": {"register": HR, "offset": i, "limit": 1 + i % 2}},
                }
                for i in range(REGISTERS)
            ],
        }
    )
    device = load("default/device/plc", bytes(writer.buf[: writer.n]))
    twin = Twin()
    key = modbusload.bus(device, ())
    mapper = Mapper(loop, Log(), twin, modbusload.driver(key)(plc, loop, key))
    attach.add(mapper, device, modbusload)
    for _ in range(100):
        loop.step(10)
    assert twin.count == REGISTERS
    assert [prop.value for prop in device.properties] == [0, 1 << 16 | 2, 2, 3 << 16 | 4]

    def poll(rounds):
        until = plc.polls + rounds
        while plc.polls < until:
            loop.step(50)

    return poll


def test_an_unchanged_poll_allocates_nothing():
    for config in ({"ip": "10.0.0.5"}, {"serialPort": "/dev/ttyS0", "slaveID": 17}):
        poll = start(config)
        poll(1)
        assert allocates_nothing(poll, ROUNDS)
