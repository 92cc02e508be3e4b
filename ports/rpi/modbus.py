"""Modbus by pymodbus' client, TCP and serial RTU, in a thread of its own.

Properties lie in the registers, and are written, as `motelet.mappers.modbus` says; only the way to the device
is pymodbus'. One request at a time, without its retries: the mapper has its own.
"""

import select
import time
from types import SimpleNamespace

from pymodbus.client import ModbusSerialClient, ModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusException

from motelet import borrow
from motelet.mappers import direct, modbus

_READS = {1: "read_coils", 2: "read_discrete_inputs", 3: "read_holding_registers", 4: "read_input_registers"}
_BUSY = (5, 6, 10, 11)  # exceptions by which a device, or a gateway, says that it cannot answer now


class TcpDriver(direct.Driver):
    """One TCP endpoint. `key` is (host, port). The interface is that of motelet.mappers."""

    serial = False
    size_index, place_index = 3, 7
    value = modbus.Driver.value

    def __init__(self, port, loop, key):
        direct.Driver.__init__(self, port, loop, key)
        self.tx = bytearray()

    def seldom(self):
        """What is borrowed of it."""
        return borrow("mappers.modbusrare")

    def open(self):
        """See `direct`."""
        client = self.client()
        if not client.connect():
            raise OSError(f"no connection to {self.key[0]}")
        return client

    def client(self):
        """A client of pymodbus for the bus."""
        return ModbusTcpClient(self.key[0], port=self.key[1], retries=0)

    def work(self, prop, data, stage):
        """See `direct`."""
        del stage
        unit, timeout_ms = prop.device.config >> 16, prop.device.config & 0xFFFF
        self.bus.comm_params.timeout_connect = timeout_ms / 1000
        try:
            answer = self._write(prop, data, unit) if data else self._read(prop, unit)
        except ModbusException as error:
            self.hang_up()
            raise OSError(f"no answer within {timeout_ms} ms") from error
        if answer.isError():
            code = getattr(answer, "exception_code", 0)
            text = self.seldom().reason(SimpleNamespace(error=code))
            raise OSError(text) if code in _BUSY else ValueError(text)
        if not data:
            self._keep(prop, answer)
        return 0

    def hang_up(self):
        """What the bus is good for after silence is not known: the next request opens it again."""
        self.bus.close()

    def close(self):
        """Close the bus, forget what was begun."""
        if self.bus is not None:
            self.bus.close()
        direct.Driver.close(self)

    def _read(self, prop, unit):
        function, offset, limit, *_ = prop.spec.visitor
        return getattr(self.bus, _READS[function])(offset, count=limit, device_id=unit)

    def _write(self, prop, data, unit):
        function, offset, limit, *_ = prop.spec.visitor
        if function == 1:
            bits = [bool(data[at // 8] >> at % 8 & 1) for at in range(limit)]
            if limit == 1:
                return self.bus.write_coil(offset, bits[0], device_id=unit)
            return self.bus.write_coils(offset, bits, device_id=unit)
        words = [data[at] << 8 | data[at + 1] for at in range(0, len(data), 2)]
        if limit == 1:
            return self.bus.write_register(offset, words[0], device_id=unit)
        return self.bus.write_registers(offset, words, device_id=unit)

    def _keep(self, prop, answer):
        function, _, limit, size, *_ = prop.spec.visitor
        if function > 2:
            if len(answer.registers) != limit:
                raise OSError("malformed answer")
            self.rx[:size] = b"".join(word.to_bytes(2, "big") for word in answer.registers)
        else:
            bits = sum(1 << at for at, bit in enumerate(answer.bits[:limit]) if bit)
            self.rx[:size] = bits.to_bytes(size, "little")


class SerialClient(ModbusSerialClient):
    """Has an answer when its last byte is there, and keeps the silence that Modbus wants before a request.

    pymodbus' own takes an answer for whole when a look after some more characters finds nothing new: a fifth
    of an exchange at 9,600 baud; at 115,200 its next request may come too early.
    """

    def __init__(self, path, baudrate, **options):
        super().__init__(path, baudrate=baudrate, **options)
        # MODBUS over Serial Line V1.02, 2.5.1.1: 3.5 characters of 11 bits, or 1.75 ms if that is longer.
        self._silence_s = max(38.5 / baudrate, 0.00175)
        self._heard = 0.0

    def send(self, request, addr=None):
        time.sleep(max(self._heard + self._silence_s - time.monotonic(), 0))
        return super().send(request, addr)

    def recv(self, size):
        """What has come, at least a byte; b"" when nothing comes within the timeout."""
        del size  # it is never known: the framer tells when a frame is whole
        line = self.socket
        poll = select.poll()
        poll.register(line.fileno(), select.POLLIN)
        try:
            if not poll.poll(self.comm_params.timeout_connect * 1000):
                return b""
            data = line.read(max(line.in_waiting, 1))
        except OSError as error:
            self.close()
            raise ConnectionException(str(error)) from error
        self._heard = time.monotonic()
        return data


class RtuDriver(TcpDriver):
    """One serial line. `key` is (path, baud rate, parity, stop bits)."""

    serial = True

    def client(self):
        """A client of pymodbus for the bus."""
        path, baud_rate, parity, stop_bits = self.key
        return SerialClient(path, baud_rate, parity=parity, stopbits=stop_bits, retries=0)
