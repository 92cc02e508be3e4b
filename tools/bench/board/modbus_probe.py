"""Runs on both interpreters: modbus_probe PORT PATH BAUD. Polls a device on a serial line without a pause.

PORT is unix, with the driver a board has, or rpi, with pymodbus. It goes on until it is killed.
"""

import sys

from motelet import borrow
from motelet.cbor import Writer
from motelet.loop import Loop
from motelet.mappers import Mapper

_PROPERTIES = 8  # so many that there is always one to be read


class Twin:
    def reported(self, prop, value):
        prop.value = value

    def state(self, device, state, reason):
        device.state = state
        device.reason = reason
        if state != "online" or reason:
            raise OSError(reason)


class Log:
    def info(self, *_pairs):
        pass

    debug = warning = info


def fail(_task, error):
    raise error


def content(path, baud):
    """-> CBOR of the Device."""
    properties = []
    for i in range(_PROPERTIES):
        place = {"register": "HoldingRegister", "offset": 2 * i, "limit": 2}
        fields = {"name": "p%d" % i, "type": "FLOAT", "accessMode": "ReadOnly", "collectCycle": 10}
        properties.append(dict(fields, visitors={"protocolName": "modbus", "configData": place}))
    config = {"serialPort": path, "baudRate": baud, "slaveID": 1, "timeout": 1000}
    protocol = {"protocolName": "modbus", "configData": config}
    writer = Writer(bytearray(4096))
    writer.value({"protocol": protocol, "properties": properties})
    return bytes(writer.buf[: writer.n])


def main(platform, path, baud):
    if platform == "rpi":
        from motelet.ports.rpi import Port, modbusload
    else:
        from motelet.ports.unix import Port

        modbusload = borrow("mappers.modbusload")
    port = Port()
    loop = Loop(port.clock, port.poller(), fail)
    device = borrow("devload").load("default/device/meter", content(path, int(baud)), ())
    key = modbusload.bus(device, ())
    mapper = Mapper(loop, Log(), Twin(), modbusload.driver(key)(port, loop, key))
    borrow("attach").add(mapper, device, modbusload)
    loop.run()


main(*sys.argv[1:])
