"""Instruments with lines of text, what a device needs before it is polled: its configuration. Borrowed.

protocol.configData:
    serialPort, baudRate, parity, stopBits, timeout   as for Modbus (`modbusload`)
    terminator      ends each line, "\\r\\n" if absent; at most 4 bytes
    checksum        "xor", "sum" or "crc16" of the line, in hexadecimal digits before its end; absent: none

visitors.configData:
    request         the line that asks for the value, without checksum and end
    response        a regular expression of MicroPython's `re` that the answer matches from its start on; its
                    first group is the value
    write           the line that sets it, with {value} in it; absent: it is only read
    writeResponse   what the answer to that must match; absent: there is none
    size            bytes of the longest answer, 32 if absent, at most 120
    scale, offset   value = number * scale + offset
"""

import re

from micropython import const

from motelet import borrow
from motelet.device import Spec

_devfield = borrow("devfield")
_field = _devfield.field
_number = _devfield.number
_TEXT_MAX = const(64)  # bytes of a request or a pattern
_SIZE_MAX = const(120)


def bus(device, keys):
    """The key of the serial port that `device` is on, while those of `keys` are in use. ValueError."""
    where = device.id
    config = device.config.get("configData") or {}
    path = _field(where, config, "serialPort", str)
    parity = _field(where, config, "parity", str, "none")[:1].upper()
    if not path or parity not in ("N", "E", "O"):
        raise ValueError(where + ": serialPort or parity is malformed")
    baud_rate = _number(where, config, "baudRate", 300, 4000000, default=9600)
    key = path, baud_rate, parity, _number(where, config, "stopBits", 1, 2, default=1)
    for other in keys:
        if other[0] == path and other != key:
            raise ValueError("%s: serialPort %s is in use with other settings" % (where, path))
    return key


def driver(key):
    """The class of the driver for the port `key`."""
    from motelet.mappers.serial import Driver

    return Driver


def attach(driver, device, devices):
    """Pack device.config and each visitor (see `serial`). ValueError."""
    where = device.id
    config = device.config.get("configData") or {}
    terminator = _field(where, config, "terminator", str, "\r\n").encode()
    checksum = _field(where, config, "checksum", str, "")
    if not 1 <= len(terminator) <= 4 or checksum not in ("", "xor", "sum", "crc16"):
        raise ValueError("%s: terminator or checksum is malformed" % where)
    timeout_ms = _number(where, config, "timeout", 1, 60000, default=1000)
    at = 0
    for prop in device.properties:
        if prop.spec.visitor:
            packed = _visitor(prop, terminator, checksum) + (at,)
            prop.spec = Spec(*prop.spec[:3], packed, *prop.spec[4:])
            at += packed[4]
    device.raw = bytearray(at)
    device.config = terminator, checksum, timeout_ms


def _visitor(prop, terminator, checksum):
    from motelet.cbor import Reader

    where = prop.device.id + " " + prop.name
    reader = Reader()
    reader.open(prop.spec.visitor, 0, len(prop.spec.visitor))
    fields = _field(where, reader.value(), "configData", dict)
    line = borrow("mappers.serialrare").line
    request = line(_text(where, fields, "request"), terminator, checksum)
    response = _pattern(where, fields, "response")
    template = _text(where, fields, "write") if fields.get("write") else ""
    if template and "{value}" not in template:
        raise ValueError(where + ": write is without {value}")
    answer = _pattern(where, fields, "writeResponse") if fields.get("writeResponse") else None
    size = _number(where, fields, "size", 1, _SIZE_MAX, default=32)
    multiply, divide, add = borrow("mappers.directrare").scaled(where, fields)
    return request, response, template, answer, size, multiply / divide if divide != 1 else multiply, add


def _text(where, fields, key):
    text = _field(where, fields, key, str)
    if not 0 < len(text.encode()) <= _TEXT_MAX:
        raise ValueError("%s: %s is empty or longer than %d bytes" % (where, key, _TEXT_MAX))
    return text


def _pattern(where, fields, key):
    text = _text(where, fields, key)
    try:
        return re.compile(text)
    except Exception as error:  # ValueError on a board, re.error on CPython
        raise ValueError("%s: %s is not a regular expression: %s" % (where, key, error))
